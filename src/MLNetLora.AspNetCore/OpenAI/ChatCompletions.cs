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
        request.Generation.CacheSalt = call.Context.Serving().CacheSalt(body.CacheSalt);
        using ModelLease lease = call.Lease("chat", request.Model);
        TextRow row = request.RowFor(lease.Generator);
        call.Context.Serving().Content(
            "prompt", () => string.Join('\n', request.Conversation.Messages.Select(message => $"{message.Role}: {message.Content}")));
        IReadOnlyList<Answering> answers = [.. Enumerable.Range(0, request.Choices).Select(i => Answer(lease.Generator, row, request, i))];
        ChatAnswer answer = new(call, request, AnswerId.New("chatcmpl-", lease.Model, call.Time));
        await (request.Stream ? answer.StreamAsync(answers) : answer.WriteAsync(answers)).ConfigureAwait(false);
    }

    private static Answering Answer(TextGenerator generator, TextRow row, ChatRequest request, int choice) =>
        cancellation => generator.GenerateAsync(row, Sampling.ForChoice(request.Generation, choice), cancellation);
}
