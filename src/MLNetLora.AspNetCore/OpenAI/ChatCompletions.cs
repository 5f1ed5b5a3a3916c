using Microsoft.AspNetCore.Http;
using MLNetLora.Inference;
using MLNetLora.Text;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>POST /v1/chat/completions.</summary>
internal static class ChatCompletions
{
    /// <summary>Answers a request.</summary>
    public static async Task HandleAsync(ApiCall call)
    {
        ChatRequestBody body = await call.ReadAsync(WireJson.Instance.ChatRequestBody).ConfigureAwait(false);
        call.PromptField = "messages";
        ChatRequest request = ChatRequest.Read(body, call.Options);
        using ModelLease lease = call.Lease("chat", request.Model);
        AnswerId id = AnswerId.New("chatcmpl-", lease.Model, call.Time);
        IReadOnlyList<Answering> answers =
            [.. Enumerable.Range(0, request.Choices).Select(i => Answer(lease.Generator, request, i))];
        if (!request.Stream)
        {
            await call.WriteAsync(ChatAnswer.Of(id, await call.WholeAsync(answers).ConfigureAwait(false)), WireJson.Instance.ChatCompletion)
                .ConfigureAwait(false);
            return;
        }

        ChatStream stream = new(id, request.IncludeUsage, call.Events);
        await call.StreamAsync(answers, stream.SendAsync).ConfigureAwait(false);
        await stream.EndAsync().ConfigureAwait(false);
    }

    private static Answering Answer(TextGenerator generator, ChatRequest request, int choice) =>
        cancellation => generator.GenerateAsync(request.Conversation, Sampling.ForChoice(request.Generation, choice), cancellation);
}

/// <summary>What a request for an answer in a conversation asks for.</summary>
/// <param name="Model">The model's name.</param>
/// <param name="Conversation">What is asked.</param>
/// <param name="Generation">How.</param>
/// <param name="Choices">How many answers.</param>
/// <param name="Stream">Whether they come piece by piece.</param>
/// <param name="IncludeUsage">Whether a stream ends with what it cost.</param>
internal sealed record ChatRequest(string Model, Conversation Conversation, GenerationOptions Generation, int Choices, bool Stream, bool IncludeUsage)
{
    /// <summary>Checks a request's body.</summary>
    /// <param name="body">The body.</param>
    /// <param name="options">The endpoint's.</param>
    /// <exception cref="ApiException">Something in it cannot be, or is not served.</exception>
    public static ChatRequest Read(ChatRequestBody body, OpenAIEndpointOptions options)
    {
        OtherFields.Require(body, "", options.IgnoreUnknownFields);
        string model = Field.Required("model", body.Model);
        bool stream = body.Stream ?? false;
        Field.Require(stream || body.StreamOptions is null, "stream_options", "'stream_options' is given, but 'stream' is not true.");
        if (body.StreamOptions is { } streaming)
        {
            OtherFields.Require(streaming, "stream_options.", options.IgnoreUnknownFields);
        }

        return new ChatRequest(
            model,
            ChatPrompt.Read(body, options.IgnoreUnknownFields),
            Sampling.Options(body, Sampling.MaximumTokens(body.MaxTokens, body.MaxCompletionTokens)),
            Field.Between("n", body.N, 1, options.MaximumChoices) ?? 1,
            stream,
            body.StreamOptions?.IncludeUsage ?? false);
    }
}
