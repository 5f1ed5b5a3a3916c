using System.Net;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;

namespace MLNetLora.AspNetCore.Tests.Hosting;

/// <summary>How a service ends.</summary>
public sealed class DrainTests
{
    [Fact]
    public async Task A_service_that_leaves_is_not_ready_and_still_answers()
    {
        await using TestService service = await TestService.StartAsync(
            options => options.DrainDelay = TimeSpan.FromMinutes(1), context => context.Response.WriteAsync("ok"), Manual(out ManualTime time));
        Assert.Equal(HttpStatusCode.OK, (await service.ReadyAsync()).Status);
        Task stop = service.StopAsync();
        await TestService.UntilAsync(() => service.State.Phase == ServingPhase.Leaving);
        (HttpStatusCode status, JsonElement health) = await service.ReadyAsync();
        Assert.Equal(HttpStatusCode.ServiceUnavailable, status);
        Assert.Contains("told to end", health.GetRawText(), StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.OK, (await service.Client.GetAsync("/health/live")).StatusCode);
        Assert.Equal(HttpStatusCode.OK, (await service.GetAsync("/generate")).StatusCode);
        Assert.False(stop.IsCompleted);
        await TestService.UntilAsync(() => time.IsAwaited);
        time.Advance(TimeSpan.FromMinutes(1));
        await stop;
    }

    [Fact]
    public async Task What_is_under_way_ends_and_nothing_new_is_taken()
    {
        TaskCompletionSource go = new();
        await using TestService service = await TestService.StartAsync(endpoint: async context =>
        {
            await go.Task.WaitAsync(context.RequestAborted);
            await context.Response.WriteAsync("whole");
        });
        Task<HttpResponseMessage> under = service.GetAsync("/generate");
        await TestService.UntilAsync(() => service.Gate.Running == 1);
        Task stop = service.StopAsync();
        await TestService.UntilAsync(() => service.State.Phase == ServingPhase.Draining);
        using HttpResponseMessage late = await service.GetAsync("/generate");
        JsonElement error = await TestService.ErrorAsync(HttpStatusCode.ServiceUnavailable, late);
        Assert.Equal("draining", error.GetProperty("code").GetString());
        Assert.NotNull(late.Headers.RetryAfter);
        Assert.False(stop.IsCompleted);
        go.SetResult();
        Assert.Equal("whole", await (await under).Content.ReadAsStringAsync());
        await stop;
    }

    [Fact]
    public async Task What_does_not_end_in_time_ends_with_an_error()
    {
        await using TestService service = await TestService.StartAsync(
            options => options.DrainTimeout = TimeSpan.FromMilliseconds(50), context => Task.Delay(Timeout.Infinite, context.RequestAborted));
        Task<HttpResponseMessage> under = service.GetAsync("/generate");
        await TestService.UntilAsync(() => service.Gate.Running == 1);
        await service.StopAsync();
        JsonElement error = await TestService.ErrorAsync(HttpStatusCode.ServiceUnavailable, await under);
        Assert.Equal("shutdown", error.GetProperty("code").GetString());
        Assert.Contains("1 requests were not answered in time", service.Log.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_host_waits_as_long_as_the_service_may_need()
    {
        await using TestService service = await TestService.StartAsync(
            options => (options.DrainDelay, options.DrainTimeout) = (TimeSpan.Zero, TimeSpan.FromSeconds(100)));
        Assert.Equal(TimeSpan.FromSeconds(105), service.Get<IOptions<HostOptions>>().Value.ShutdownTimeout);
    }

    private static Action<Microsoft.Extensions.DependencyInjection.IServiceCollection> Manual(out ManualTime time)
    {
        ManualTime made = time = new ManualTime();
        return services => Microsoft.Extensions.DependencyInjection.ServiceCollectionServiceExtensions.AddSingleton<TimeProvider>(services, made);
    }
}
