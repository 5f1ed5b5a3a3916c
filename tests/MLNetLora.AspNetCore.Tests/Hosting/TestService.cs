using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace MLNetLora.AspNetCore.Tests.Hosting;

/// <summary>An application on a port of this machine. Its endpoints /generate, /tell and /change are what a test says.</summary>
internal sealed class TestService : IAsyncDisposable
{
    private bool _stopped;

    private TestService(WebApplication application, LogLines log)
    {
        Application = application;
        Log = log;
        Client = new HttpClient { BaseAddress = new Uri(application.Urls.Single()) };
    }

    public WebApplication Application { get; }

    public LogLines Log { get; }

    public HttpClient Client { get; }

    public ServingState State => Get<ServingState>();

    public RequestGate Gate => Get<RequestGate>();

    public static async Task<TestService> StartAsync(
        Action<ServingOptions>? options = null,
        RequestDelegate? endpoint = null,
        Action<IServiceCollection>? services = null,
        Action<WebApplication>? map = null)
    {
        LogLines log = new();
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        builder.Logging.ClearProviders().AddProvider(log);
        services?.Invoke(builder.Services);
        ServingServices.Add(builder.Services);
        builder.Services.Configure<ServingOptions>(serving => options?.Invoke(serving));
        WebApplication application = builder.Build();
        application.MapMLNetLoraHealth();
        if (endpoint is not null)
        {
            application.Map("/generate", endpoint).WithServing(EndpointKind.Generation);
            application.Map("/tell", endpoint).WithServing(EndpointKind.Information);
            application.Map("/change", endpoint).WithServing(EndpointKind.Admin);
        }

        map?.Invoke(application);
        try
        {
            await application.StartAsync();
            return new TestService(application, log);
        }
        catch
        {
            await application.DisposeAsync();
            throw;
        }
    }

    public T Get<T>()
        where T : class => Application.Services.GetRequiredService<T>();

    public async Task<HttpResponseMessage> GetAsync(string path, string? key = null, string? id = null, CancellationToken cancellation = default)
    {
        using HttpRequestMessage request = new(HttpMethod.Get, path);
        if (key is not null)
        {
            request.Headers.TryAddWithoutValidation("Authorization", key);
        }

        if (id is not null)
        {
            request.Headers.TryAddWithoutValidation("x-request-id", id);
        }

        return await Client.SendAsync(request, cancellation);
    }

    public Task<HttpResponseMessage> PostAsync(string path, object body, string? key = null)
    {
        HttpRequestMessage request = new(HttpMethod.Post, path) { Content = JsonContent.Create(body) };
        if (key is not null)
        {
            request.Headers.TryAddWithoutValidation("Authorization", $"Bearer {key}");
        }

        return Client.SendAsync(request);
    }

    /// <summary>An error in OpenAI's form, with the status that it has to have.</summary>
    public static async Task<JsonElement> ErrorAsync(HttpStatusCode status, HttpResponseMessage response)
    {
        string text = await response.Content.ReadAsStringAsync();
        Assert.True(status == response.StatusCode, $"{response.StatusCode}: {text}");
        Assert.Equal("application/json", response.Content.Headers.ContentType?.MediaType);
        JsonElement error = JsonDocument.Parse(text).RootElement.GetProperty("error");
        Assert.Equal(["message", "type", "param", "code"], error.EnumerateObject().Select(field => field.Name));
        Assert.NotEmpty(error.GetProperty("message").GetString()!);
        return error;
    }

    /// <summary>Health, as its body has it.</summary>
    public async Task<(HttpStatusCode Status, JsonElement Body)> ReadyAsync()
    {
        using HttpResponseMessage response = await Client.GetAsync("/health/ready");
        return (response.StatusCode, JsonDocument.Parse(await response.Content.ReadAsStringAsync()).RootElement);
    }

    /// <summary>Waits for what happens on other threads.</summary>
    public static async Task UntilAsync(Func<bool> holds)
    {
        for (int i = 0; !holds(); i++)
        {
            Assert.True(i < 2000, "It has not happened.");
            await Task.Delay(10);
        }
    }

    public Task StopAsync()
    {
        _stopped = true;
        return Application.StopAsync();
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        if (!_stopped)
        {
            await Application.StopAsync();
        }

        await Application.DisposeAsync();
    }
}
