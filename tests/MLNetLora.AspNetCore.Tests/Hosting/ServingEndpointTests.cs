using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace MLNetLora.AspNetCore.Tests.Hosting;

/// <summary>What stands before every endpoint.</summary>
public sealed class ServingEndpointTests
{
    private static readonly RequestDelegate s_ok = context => context.Response.WriteAsync("ok");

    [Theory]
    [InlineData("my-id_1.2:3", true)]
    [InlineData("with space", false)]
    [InlineData("{\"a\":1}", false)]
    public async Task The_request_id_is_echoed_where_a_log_can_hold_it(string id, bool isKept)
    {
        await using TestService service = await TestService.StartAsync(endpoint: s_ok);
        using HttpResponseMessage response = await service.GetAsync("/generate", id: id);
        string answered = response.Headers.GetValues("x-request-id").Single();
        Assert.Equal(isKept, answered == id);
        Assert.StartsWith(isKept ? id : "req_", answered, StringComparison.Ordinal);
        Assert.Contains(answered, service.Log.Text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("FFFFFFFFFF")]
    [InlineData("ZZ")]
    [InlineData("-1")]
    public async Task A_body_that_cannot_be_read_is_the_client_s_error(string chunk)
    {
        await using TestService service = await TestService.StartAsync(endpoint: s_ok);
        using TcpClient client = new("127.0.0.1", service.Client.BaseAddress!.Port);
        await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes(
            $"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}\r\nabc\r\n"));
        using StreamReader reader = new(client.GetStream());
        Assert.Equal("HTTP/1.1 400 Bad Request", await reader.ReadLineAsync());
    }

    [Fact]
    public async Task A_request_without_an_id_gets_one_of_its_own()
    {
        await using TestService service = await TestService.StartAsync(endpoint: s_ok);
        using HttpResponseMessage a = await service.GetAsync("/generate");
        using HttpResponseMessage b = await service.GetAsync("/generate", id: new string('a', 200));
        Assert.StartsWith("req_", a.Headers.GetValues("x-request-id").Single(), StringComparison.Ordinal);
        Assert.StartsWith("req_", b.Headers.GetValues("x-request-id").Single(), StringComparison.Ordinal);
        Assert.NotEqual(a.Headers.GetValues("x-request-id"), b.Headers.GetValues("x-request-id"));
    }

    [Theory]
    [InlineData("/generate")]
    [InlineData("/tell")]
    public async Task Any_of_the_keys_opens_and_nothing_else(string path)
    {
        await using TestService service = await TestService.StartAsync(
            options =>
            {
                options.ApiKeys.Add("one");
                options.ApiKeys.Add("two");
                options.AdminKeys.Add("admin");
            },
            s_ok);
        foreach (string good in (string[])["Bearer one", "bearer two"])
        {
            Assert.Equal(HttpStatusCode.OK, (await service.GetAsync(path, good)).StatusCode);
        }

        foreach (string? bad in (string?[])[null, "Bearer ", "Bearer three", "Bearer on", "Bearer onee", "Basic one", "one", "Bearer admin"])
        {
            using HttpResponseMessage response = await service.GetAsync(path, bad);
            JsonElement error = await TestService.ErrorAsync(HttpStatusCode.Unauthorized, response);
            Assert.Equal("authentication_error", error.GetProperty("type").GetString());
            Assert.Equal("Bearer", response.Headers.WwwAuthenticate.Single().Scheme);
        }
    }

    [Fact]
    public async Task Without_keys_everybody_is_answered_and_the_log_says_so()
    {
        await using TestService service = await TestService.StartAsync(endpoint: s_ok);
        Assert.Equal(HttpStatusCode.OK, (await service.GetAsync("/generate")).StatusCode);
        Assert.Contains("no API keys", service.Log.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Only_an_admin_key_changes_what_is_served()
    {
        await using TestService service = await TestService.StartAsync(
            options =>
            {
                options.ApiKeys.Add("one");
                options.AdminKeys.Add("admin");
            },
            s_ok);
        Assert.Equal(HttpStatusCode.OK, (await service.GetAsync("/change", "Bearer admin")).StatusCode);
        await TestService.ErrorAsync(HttpStatusCode.Unauthorized, await service.GetAsync("/change", "Bearer one"));
        await TestService.ErrorAsync(HttpStatusCode.Unauthorized, await service.GetAsync("/change"));
    }

    [Fact]
    public async Task A_service_without_admin_keys_lets_nobody_change_it()
    {
        await using TestService service = await TestService.StartAsync(endpoint: s_ok);
        await TestService.ErrorAsync(HttpStatusCode.Unauthorized, await service.GetAsync("/change", "Bearer "));
        await TestService.ErrorAsync(HttpStatusCode.Unauthorized, await service.GetAsync("/change", "Bearer x"));
    }

    [Fact]
    public async Task A_body_that_says_it_is_too_large_is_not_read()
    {
        await using TestService service = await TestService.StartAsync(options => options.MaximumRequestBytes = 100, ReadBody);
        Assert.Equal(HttpStatusCode.OK, (await service.Client.PostAsync("/generate", new ByteArrayContent(new byte[100]))).StatusCode);
        JsonElement error = await TestService.ErrorAsync(
            HttpStatusCode.RequestEntityTooLarge, await service.Client.PostAsync("/generate", new ByteArrayContent(new byte[101])));
        Assert.Contains("100 bytes", error.GetProperty("message").GetString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_body_that_does_not_say_how_large_it_is_is_read_no_further_than_it_may_be()
    {
        await using TestService service = await TestService.StartAsync(options => options.MaximumRequestBytes = 100, ReadBody);
        using HttpRequestMessage request = new(HttpMethod.Post, "/generate") { Content = new StreamContent(new MemoryStream(new byte[10_000])) };
        request.Headers.TransferEncodingChunked = true;
        await TestService.ErrorAsync(HttpStatusCode.RequestEntityTooLarge, await service.Client.SendAsync(request));
    }

    [Fact]
    public async Task A_client_that_goes_while_it_sends_is_no_failure_of_the_service()
    {
        await using TestService service = await TestService.StartAsync(endpoint: ReadBody);
        using (TcpClient client = new())
        {
            await client.ConnectAsync(IPAddress.Loopback, service.Client.BaseAddress!.Port);
            client.LingerState = new LingerOption(enable: true, seconds: 0); // Close resets the connection
            await client.GetStream().WriteAsync("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"u8.ToArray());
            await TestService.UntilAsync(() => service.State.UnderWay == 1);
        }

        await TestService.UntilAsync(() => service.State.UnderWay == 0);
        Assert.DoesNotContain($"{LogLevel.Error}", service.Log.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_failure_is_told_in_openais_form_and_its_cause_only_to_the_log()
    {
        await using TestService service = await TestService.StartAsync(endpoint: _ => throw new InvalidOperationException("secret cause"));
        JsonElement error = await TestService.ErrorAsync(HttpStatusCode.InternalServerError, await service.GetAsync("/generate", id: "the-id"));
        Assert.Equal("server_error", error.GetProperty("type").GetString());
        Assert.Contains("the-id", error.GetProperty("message").GetString(), StringComparison.Ordinal);
        Assert.DoesNotContain("secret cause", error.GetRawText(), StringComparison.Ordinal);
        Assert.Contains("secret cause", service.Log.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_request_that_there_is_no_memory_for_is_sent_again_later()
    {
        await using TestService service = await TestService.StartAsync(endpoint: _ => throw new NativeMemoryException("There is none."));
        using HttpResponseMessage response = await service.GetAsync("/generate");
        JsonElement error = await TestService.ErrorAsync(HttpStatusCode.ServiceUnavailable, response);
        Assert.Equal("out_of_memory", error.GetProperty("code").GetString());
        Assert.True(response.Headers.RetryAfter?.Delta > TimeSpan.Zero);
    }

    [Fact]
    public async Task An_answer_that_fails_on_its_way_does_not_look_whole()
    {
        await using TestService service = await TestService.StartAsync(endpoint: async context =>
        {
            await context.Response.WriteAsync("half");
            await context.Response.Body.FlushAsync();
            throw new InvalidOperationException("broken");
        });
        await Assert.ThrowsAnyAsync<HttpRequestException>(() => service.GetAsync("/generate"));
    }

    [Fact]
    public async Task A_request_that_takes_longer_than_it_may_ends()
    {
        await using TestService service = await TestService.StartAsync(
            options => options.RequestTimeout = TimeSpan.FromMilliseconds(50), context => Task.Delay(Timeout.Infinite, context.RequestAborted));
        JsonElement error = await TestService.ErrorAsync(HttpStatusCode.GatewayTimeout, await service.GetAsync("/generate"));
        Assert.Contains("0.05 seconds", error.GetProperty("message").GetString(), StringComparison.Ordinal);
        Assert.Equal(0, service.Gate.Running);
    }

    [Fact]
    public async Task What_is_not_loaded_yet_is_asked_for_again_later()
    {
        await using TestService service = await TestService.StartAsync(options => options.AdminKeys.Add("admin"), s_ok);
        service.State.Report(new ServingIssue("support", "the model is being loaded", IsMissing: true));
        foreach (string path in (string[])["/generate", "/change"])
        {
            using HttpResponseMessage response = await service.GetAsync(path, "Bearer admin");
            Assert.Contains("support", (await TestService.ErrorAsync(HttpStatusCode.ServiceUnavailable, response)).GetRawText(), StringComparison.Ordinal);
            Assert.True(response.Headers.RetryAfter?.Delta > TimeSpan.Zero);
        }

        Assert.Equal(HttpStatusCode.OK, (await service.GetAsync("/tell")).StatusCode);
        service.State.Clear("support");
        Assert.Equal(HttpStatusCode.OK, (await service.GetAsync("/generate")).StatusCode);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Prompts_are_logged_only_where_the_options_ask_for_it(bool asked)
    {
        await using TestService service = await TestService.StartAsync(options => options.LogContent = asked, context =>
        {
            context.Serving().Content("prompt", () => "the secret question");
            return Task.CompletedTask;
        });
        await service.GetAsync("/generate");
        Assert.Equal(asked, service.Log.Text.Contains("the secret question", StringComparison.Ordinal));
    }

    private static async Task ReadBody(HttpContext context)
    {
        using MemoryStream body = new();
        await context.Request.Body.CopyToAsync(body);
    }
}
