#pragma warning disable SCME0001 // the patch of a request is an experiment of the package
using System.Text.Json;
using MLNetLora.AspNetCore.OpenAI;
using OpenAI.Chat;

namespace MLNetLora.AspNetCore.Tests.OpenAI;

/// <summary>Streams that wait, and streams that fail in the middle.</summary>
public class FailureTests
{
    [Fact]
    public async Task A_stream_that_fails_ends_with_an_error_and_without_DONE()
    {
        await using OpenAIServer server = await OpenAIServer.StartAsync(null);
        using HttpResponseMessage response = await server.PostAsync(
            "chat/completions",
            ChatTests.Body(""" "stream": true, "ignore_eos": true, "n": 64, "temperature": 1 """),
            HttpCompletionOption.ResponseHeadersRead);
        using StreamReader reader = new(await response.Content.ReadAsStreamAsync());
        Assert.StartsWith("data: {", await reader.ReadLineAsync(), StringComparison.Ordinal);
        server.Interrupt();
        string rest = await reader.ReadToEndAsync();
        Assert.DoesNotContain("[DONE]", rest, StringComparison.Ordinal);
        JsonElement error = JsonElement.Parse(rest.Split("\n\n", StringSplitOptions.RemoveEmptyEntries)[^1]["data: ".Length..]).GetProperty("error");
        Assert.Equal("shutdown", error.GetProperty("code").GetString());
        await server.NobodyIsLeftAsync();
    }

    [Fact]
    public async Task An_error_behind_an_event_that_was_interrupted_is_an_event_of_its_own()
    {
        using MemoryStream body = new();
        Microsoft.AspNetCore.Http.DefaultHttpContext context = new() { RequestAborted = new CancellationToken(canceled: true) };
        context.Response.Body = body;
        EventStream events = new(context);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(events.PingAsync);
        await events.FailAsync(ServingError.Invalid("x"));
        string[] pieces = System.Text.Encoding.UTF8.GetString(body.ToArray()).Split("\n\n");
        Assert.Equal([":", "data: {", ""], pieces.Select(piece => piece[..Math.Min(piece.Length, piece.StartsWith(':') ? 1 : 7)]));
    }

    [Fact]
    public async Task Clients_of_OpenAI_can_tell_a_stream_that_failed()
    {
        await using OpenAIServer server = await OpenAIServer.StartAsync(null);
        List<ChatFinishReason?> reasons = [];
        Exception? error = await Record.ExceptionAsync(async () =>
        {
            ChatCompletionOptions options = new() { MaxOutputTokenCount = 100_000 };
            options.Patch.Set("$.ignore_eos"u8, true);
            options.Patch.Set("$.n"u8, 64);
            await foreach (StreamingChatCompletionUpdate update in server.Client.GetChatClient(OpenAIServer.Model)
                .CompleteChatStreamingAsync([new UserChatMessage("Go on.")], options))
            {
                reasons.Add(update.FinishReason);
                server.Interrupt();
            }
        });
        Assert.NotEmpty(reasons);
        Assert.True(error is not null || reasons.All(reason => reason is null), "it looks as if it had come to its end");
    }

    [Fact]
    public async Task An_answer_whose_time_is_over_has_its_status()
    {
        await using OpenAIServer server = await OpenAIServer.StartAsync(null, serving => serving.RequestTimeout = TimeSpan.FromMilliseconds(300));
        (int status, JsonElement error) = await server.RefusalAsync("chat/completions", ChatTests.Body(""" "ignore_eos": true, "n": 64, "temperature": 1 """));
        Assert.Equal((504, "deadline_exceeded"), (status, error.GetProperty("code").GetString()));
    }

    [Fact]
    public async Task While_nothing_comes_a_stream_gets_comments_and_their_reader_waits_no_longer()
    {
        TaskCompletionSource first = new(TaskCreationOptions.RunContinuationsAsynchronously);
        List<string> seen = [];
        await EventPump.RunAsync(
            _ => Events(first.Task),
            next =>
            {
                seen.Add(next);
                return Task.CompletedTask;
            },
            () =>
            {
                seen.Add("ping");
                if (seen.Count == 2)
                {
                    first.SetResult();
                }

                return Task.CompletedTask;
            },
            TimeSpan.FromMilliseconds(5),
            TimeProvider.System,
            CancellationToken.None);
        Assert.Equal(["ping", "ping"], seen[..2]);
        Assert.Equal(["a", "b"], seen.Where(item => item != "ping"));
    }

    [Fact]
    public async Task Events_end_where_nobody_can_take_them()
    {
        bool disposed = false;
        await Assert.ThrowsAsync<IOException>(() => EventPump.RunAsync(
            Endless, _ => throw new IOException(), () => Task.CompletedTask, TimeSpan.FromHours(1), TimeProvider.System, CancellationToken.None));
        Assert.True(disposed);

        async IAsyncEnumerable<int> Endless([System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellation)
        {
            try
            {
                yield return 1;
                await Task.Delay(Timeout.Infinite, cancellation);
            }
            finally
            {
                disposed = true;
            }
        }
    }

    [Fact]
    public async Task One_answer_that_fails_ends_the_others()
    {
        bool ended = false;
        await Assert.ThrowsAsync<InvalidDataException>(async () =>
        {
            await foreach (AnswerEvent _ in AnswerEvents.Merge([Fails, Waits], CancellationToken.None))
            {
            }
        });
        Assert.True(ended);

        static async IAsyncEnumerable<Inference.GeneratedChunk> Fails([System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellation)
        {
            yield return new Inference.GeneratedChunk("a");
            await Task.Yield();
            throw new InvalidDataException();
        }

        async IAsyncEnumerable<Inference.GeneratedChunk> Waits([System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellation)
        {
            try
            {
                await Task.Delay(Timeout.Infinite, cancellation);
            }
            finally
            {
                ended = true;
            }

            yield break;
        }
    }

    private static async IAsyncEnumerable<string> Events(Task first)
    {
        await first;
        yield return "a";
        yield return "b";
    }
}
