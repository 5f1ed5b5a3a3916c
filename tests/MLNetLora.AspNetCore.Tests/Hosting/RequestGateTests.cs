using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace MLNetLora.AspNetCore.Tests.Hosting;

/// <summary>How many are answered, how many wait.</summary>
public sealed class RequestGateTests
{
    [Fact]
    public async Task Turns_come_first_in_first_out()
    {
        using RequestGate gate = Gate(1, 3);
        (IDisposable? first, _) = await gate.EnterAsync(CancellationToken.None);
        List<int> order = [];
        Task[] waiting = [.. Enumerable.Range(1, 3).Select(WaitAsync)];
        Assert.Equal(3, gate.Waiting);
        Assert.True(gate.IsFull);
        first!.Dispose();
        await Task.WhenAll(waiting);
        Assert.Equal([1, 2, 3], order);
        Assert.Equal((0, 0), (gate.Running, gate.Waiting));

        async Task WaitAsync(int number)
        {
            (IDisposable? turn, _) = await gate.EnterAsync(CancellationToken.None);
            order.Add(number);
            turn!.Dispose();
        }
    }

    [Fact]
    public async Task No_more_run_at_once_than_may()
    {
        using RequestGate gate = Gate(2, 10);
        int running = 0;
        int most = 0;
        await Task.WhenAll(Enumerable.Range(0, 12).Select(async number =>
        {
            (IDisposable? turn, _) = await gate.EnterAsync(CancellationToken.None);
            most = Math.Max(most, Interlocked.Increment(ref running));
            await Task.Delay(5);
            Interlocked.Decrement(ref running);
            turn!.Dispose();
        }));
        Assert.Equal(2, most);
    }

    [Fact]
    public async Task A_full_queue_refuses_and_says_when_to_come_again()
    {
        using RequestGate gate = Gate(1, 0);
        (IDisposable? turn, _) = await gate.EnterAsync(CancellationToken.None);
        (IDisposable? none, ServingError? refusal) = await gate.EnterAsync(CancellationToken.None);
        Assert.Null(none);
        Assert.Equal((429, "queue_full"), (refusal!.Status, refusal.Code));
        Assert.True(refusal.RetryAfter > 0);
        turn!.Dispose();
        turn.Dispose(); // twice is once
        Assert.Equal(0, gate.Running);
        Assert.NotNull((await gate.EnterAsync(CancellationToken.None)).Turn);
    }

    [Fact]
    public async Task Who_waits_too_long_is_told_so()
    {
        ManualTime time = new();
        using RequestGate gate = Gate(1, 1, time);
        (IDisposable? turn, _) = await gate.EnterAsync(CancellationToken.None);
        ValueTask<(IDisposable? Turn, ServingError? Refusal)> waiting = gate.EnterAsync(CancellationToken.None);
        time.Advance(TimeSpan.FromSeconds(29));
        Assert.False(waiting.IsCompleted);
        time.Advance(TimeSpan.FromSeconds(2));
        Assert.Equal("queue_timeout", (await waiting).Refusal?.Code);
        Assert.Equal(0, gate.Waiting);
        turn!.Dispose();
    }

    [Fact]
    public async Task A_client_that_leaves_frees_its_place_in_the_queue()
    {
        using RequestGate gate = Gate(1, 1);
        (IDisposable? turn, _) = await gate.EnterAsync(CancellationToken.None);
        using CancellationTokenSource gone = new();
        ValueTask<(IDisposable? Turn, ServingError? Refusal)> waiting = gate.EnterAsync(gone.Token);
        Assert.Equal(1, gate.Waiting);
        await gone.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting.AsTask());
        Assert.Equal(0, gate.Waiting);
        turn!.Dispose();
    }

    [Fact]
    public async Task The_longer_answers_take_the_later_one_is_told_to_come_again()
    {
        ManualTime time = new();
        using RequestGate gate = Gate(1, 0, time);
        for (int i = 0; i < 30; i++)
        {
            (IDisposable? turn, _) = await gate.EnterAsync(CancellationToken.None);
            time.Advance(TimeSpan.FromSeconds(20));
            turn!.Dispose();
        }

        await gate.EnterAsync(CancellationToken.None);
        int? after = (await gate.EnterAsync(CancellationToken.None)).Refusal?.RetryAfter;
        Assert.InRange(after ?? 0, 15, 20);
    }

    [Fact]
    public async Task Over_http_a_full_service_answers_429_and_a_client_that_left_frees_its_place()
    {
        TaskCompletionSource go = new();
        await using TestService service = await TestService.StartAsync(
            options => (options.MaximumConcurrentRequests, options.MaximumQueuedRequests) = (1, 1),
            async context => await go.Task.WaitAsync(context.RequestAborted));
        using CancellationTokenSource firstLeaves = new();
        Task<HttpResponseMessage> first = service.GetAsync("/generate", cancellation: firstLeaves.Token);
        await TestService.UntilAsync(() => service.Gate.Running == 1);
        Task<HttpResponseMessage> second = service.GetAsync("/generate");
        await TestService.UntilAsync(() => service.Gate.Waiting == 1);
        using HttpResponseMessage third = await service.GetAsync("/generate");
        JsonElement error = await TestService.ErrorAsync(HttpStatusCode.TooManyRequests, third);
        Assert.Equal("queue_full", error.GetProperty("code").GetString());
        Assert.True(third.Headers.RetryAfter?.Delta >= TimeSpan.FromSeconds(1));
        (HttpStatusCode ready, JsonElement health) = await service.ReadyAsync();
        Assert.Equal(HttpStatusCode.ServiceUnavailable, ready);
        Assert.True(health.GetProperty("reasons").TryGetProperty("queue", out _));

        await firstLeaves.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => first);
        await TestService.UntilAsync(() => service.Gate.Waiting == 0 && service.Gate.Running == 1);
        go.SetResult();
        Assert.Equal(HttpStatusCode.OK, (await second).StatusCode);
        await TestService.UntilAsync(() => service.Gate.Running == 0);
    }

    [Fact]
    public async Task Over_http_the_wait_ends_with_429()
    {
        TaskCompletionSource go = new();
        await using TestService service = await TestService.StartAsync(
            options => (options.MaximumConcurrentRequests, options.QueueTimeout) = (1, TimeSpan.FromMilliseconds(50)),
            async context => await go.Task.WaitAsync(context.RequestAborted));
        Task<HttpResponseMessage> first = service.GetAsync("/generate");
        await TestService.UntilAsync(() => service.Gate.Running == 1);
        JsonElement error = await TestService.ErrorAsync(HttpStatusCode.TooManyRequests, await service.GetAsync("/generate"));
        Assert.Equal("queue_timeout", error.GetProperty("code").GetString());
        go.SetResult();
        await first;
    }

    [Fact]
    public async Task Who_sends_slowly_holds_no_turn()
    {
        await using TestService service = await TestService.StartAsync(
            options => (options.MaximumConcurrentRequests, options.MaximumQueuedRequests) = (1, 1),
            async context =>
            {
                using StreamReader reader = new(context.Request.Body);
                await context.Response.WriteAsync(await reader.ReadToEndAsync());
            });
        using TcpClient slow = new("127.0.0.1", service.Client.BaseAddress!.Port);
        await using NetworkStream stream = slow.GetStream();
        await stream.WriteAsync("POST /generate HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 10\r\n\r\n01234"u8.ToArray());
        await TestService.UntilAsync(() => service.State.UnderWay == 1);
        using HttpResponseMessage quick = await service.Client.PostAsync("/generate", new StringContent("quick"));
        Assert.Equal("quick", await quick.Content.ReadAsStringAsync());

        // Nor a place in the queue.
        using TcpClient other = new("127.0.0.1", service.Client.BaseAddress!.Port);
        await other.GetStream().WriteAsync("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0"u8.ToArray());
        await TestService.UntilAsync(() => service.Get<BodyMemory>().Arriving == 2);
        using HttpResponseMessage third = await service.Client.PostAsync("/generate", new StringContent("x"));
        Assert.Equal("x", await third.Content.ReadAsStringAsync());
        await stream.WriteAsync("56789"u8.ToArray());
        using StreamReader answer = new(stream);
        Assert.Contains("0123456789", await answer.ReadToEndAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Where_bodies_take_too_much_the_slowest_one_ends()
    {
        TaskCompletionSource go = new();
        await using TestService service = await TestService.StartAsync(
            options => (options.MaximumRequestBytes, options.MaximumBodyBytes) = (BodyMemory.LeastBytes, 2 * BodyMemory.LeastBytes),
            async context =>
            {
                await context.Response.WriteAsync("ok");
                await context.Response.Body.FlushAsync();
                await go.Task;
            });
        BodyMemory bodies = service.Get<BodyMemory>();
        using TcpClient oldest = await BeginAsync(1);
        using TcpClient second = await BeginAsync(2);
        using TcpClient third = await BeginAsync(2);
        using StreamReader ended = new(oldest.GetStream());
        Assert.Equal("HTTP/1.1 408 Request Timeout", await ended.ReadLineAsync());
        using StreamReader whole = new(second.GetStream());
        await second.GetStream().WriteAsync("1"u8.ToArray());
        Assert.Equal("HTTP/1.1 200 OK", await whole.ReadLineAsync());
        await third.GetStream().WriteAsync("1"u8.ToArray());
        using StreamReader last = new(third.GetStream());
        Assert.Equal("HTTP/1.1 200 OK", await last.ReadLineAsync());
        await TestService.UntilAsync(() => bodies.Arriving == 0);

        // Bodies that are whole stay until their answers end, and nobody's is taken away.
        JsonElement error = await TestService.ErrorAsync(
            HttpStatusCode.TooManyRequests, await service.Client.PostAsync("/generate", new StringContent("x")));
        Assert.Equal("queue_full", error.GetProperty("code").GetString());
        go.SetResult();
        await TestService.UntilAsync(() => service.State.UnderWay == 0);
        Assert.Equal(HttpStatusCode.OK, (await service.Client.PostAsync("/generate", new StringContent("x"))).StatusCode);

        // Of whose body nothing more comes, the server finds no reader who has not gone.
        oldest.Close();
        await service.Application.StopAsync();
        Assert.DoesNotContain($"{LogLevel.Error}", service.Log.Text, StringComparison.Ordinal);

        async Task<TcpClient> BeginAsync(int arriving)
        {
            TcpClient client = new("127.0.0.1", service.Client.BaseAddress!.Port);
            await client.GetStream().WriteAsync("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n0"u8.ToArray());
            await TestService.UntilAsync(() => bodies.Arriving == arriving);
            return client;
        }
    }

    private static RequestGate Gate(int running, int waiting, TimeProvider? time = null) => new(
        Options.Create(new ServingOptions { MaximumConcurrentRequests = running, MaximumQueuedRequests = waiting }), time ?? TimeProvider.System);
}
