using System.ClientModel;
using System.ClientModel.Primitives;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Tests;
using OpenAI;

namespace MLNetLora.AspNetCore.Tests.OpenAI;

/// <summary>A service with the nano model behind a port of this machine.</summary>
public sealed class OpenAIServer : IAsyncLifetime, IAsyncDisposable
{
    /// <summary>The name that the base is served under.</summary>
    public const string Model = "qwen3-nano";

    /// <summary>The same model with a chat template that writes tools and opens thinking.</summary>
    public const string Thinker = "qwen3-nano-thinker";

    private const string Template = """
        {%- if tools %}{{- '<|im_start|>system\n# Tools\n' }}{%- for tool in tools %}{{- tool | tojson }}{{- '\n' }}{%- endfor %}{{- '<|im_end|>\n' }}
        {%- endif %}
        {%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content }}
        {%- for call in message.tool_calls or [] %}{{- '<tool_call>\n' + (call.function | tojson) + '\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\n' }}
        {%- endfor %}
        {%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}
        {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- else %}{{- '<think>\n' }}{%- endif %}{%- endif %}
        """;

    private readonly TemporaryFolder _thinker = new();
    private readonly WebApplication _application;

    public OpenAIServer()
        : this(null, null)
    {
    }

    private OpenAIServer(Action<OpenAIEndpointOptions>? configure, Action<ServingOptions>? serving)
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        ServingServices.Add(builder.Services);
        if (serving is not null)
        {
            builder.Services.Configure(serving);
        }

        _application = builder.Build();
        _application.MapOpenAI(configure);
        _application.MapMLNetLoraPage();
        Models = _application.Services.GetRequiredService<ModelRegistry>();
        Models.Set(new ServedModel(Model, null, DateTimeOffset.UnixEpoch), Generator());
        foreach (string file in Directory.EnumerateFiles(Repository.Nano))
        {
            File.Copy(file, _thinker.File(Path.GetFileName(file)));
        }

        File.WriteAllText(_thinker.File("chat_template.jinja"), Template);
        Models.Set(new ServedModel(Thinker, Model, DateTimeOffset.UnixEpoch), new TextGenerator(Checkpoint.Open(_thinker.Path), threads: 1));
    }

    internal ModelRegistry Models { get; }

    /// <summary>Asks the service.</summary>
    public HttpClient Http { get; private set; } = null!;

    /// <summary>OpenAI's own client of it.</summary>
    public OpenAIClient Client { get; private set; } = null!;

    /// <summary>A service of another kind.</summary>
    internal static async Task<OpenAIServer> StartAsync(Action<OpenAIEndpointOptions>? configure, Action<ServingOptions>? serving = null)
    {
        OpenAIServer server = new(configure, serving);
        await server.InitializeAsync();
        return server;
    }

    public async Task InitializeAsync()
    {
        await _application.StartAsync();
        string address = _application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single();
        Http = new HttpClient { BaseAddress = new Uri(address + "/v1/") };
        Client = new OpenAIClient(
            new ApiKeyCredential("none"), new OpenAIClientOptions { Endpoint = Http.BaseAddress, RetryPolicy = new ClientRetryPolicy(0) });
    }

    Task IAsyncLifetime.DisposeAsync() => DisposeAsync().AsTask();

    public async ValueTask DisposeAsync()
    {
        Http.Dispose();
        await _application.DisposeAsync();
        _thinker.Dispose();
    }

    /// <summary>A generator with the nano model.</summary>
    internal static TextGenerator Generator() => new(Checkpoint.Open(Repository.Nano), threads: 1);

    /// <summary>Ends when no request is under way.</summary>
    public Task NobodyIsLeftAsync() => _application.Services.GetRequiredService<ServingState>().WhenIdle().WaitAsync(TimeSpan.FromSeconds(60));

    /// <summary>Ends what is under way, as at the end of the service.</summary>
    public void Interrupt() => _application.Services.GetRequiredService<ServingState>().CancelAll();

    /// <summary>Posts JSON.</summary>
    /// <param name="path">Behind /v1/.</param>
    /// <param name="json">The body.</param>
    /// <param name="completion">Whether the body of the answer is waited for.</param>
    public Task<HttpResponseMessage> PostAsync(string path, string json, HttpCompletionOption completion = HttpCompletionOption.ResponseContentRead) =>
        PostAsync(path, Encoding.UTF8.GetBytes(json), completion);

    /// <summary>Posts bytes that say they are JSON.</summary>
    public async Task<HttpResponseMessage> PostAsync(string path, byte[] body, HttpCompletionOption completion = HttpCompletionOption.ResponseContentRead)
    {
        using ByteArrayContent content = new(body);
        content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        using HttpRequestMessage request = new(HttpMethod.Post, new Uri(path, UriKind.Relative)) { Content = content };
        return await Http.SendAsync(request, completion);
    }

    /// <summary>Asks for an answer that must be one.</summary>
    public async Task<JsonElement> AskAsync(string path, string json)
    {
        using HttpResponseMessage response = await PostAsync(path, json);
        string body = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, body);
        return JsonElement.Parse(body);
    }

    /// <summary>Asks for what must be refused.</summary>
    /// <returns>The status, and the error.</returns>
    public async Task<(int Status, JsonElement Error)> RefusalAsync(string path, string json)
    {
        using HttpResponseMessage response = await PostAsync(path, json);
        string body = await response.Content.ReadAsStringAsync();
        Assert.False(response.IsSuccessStatusCode, body);
        return ((int)response.StatusCode, JsonElement.Parse(body).GetProperty("error"));
    }
}
