namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>POST /v1/completions.</summary>
internal static class Completions
{
    /// <summary>Answers a request.</summary>
    public static async Task HandleAsync(ApiCall call)
    {
        CompletionRequestBody body = await call.ReadAsync(WireJson.Instance.CompletionRequestBody).ConfigureAwait(false);
        call.PromptField = "prompt";
        CompletionRequest request = CompletionRequest.Read(body, call.Options) with { CacheSalt = call.Context.Serving().CacheSalt(body.CacheSalt) };
        request.Generation?.CacheSalt = request.CacheSalt;
        using ModelLease lease = call.Lease("text_completion", request.Model);
        IReadOnlyList<int[]> prompts = request.TokensFor(lease.Generator);
        call.Context.Serving().Content(
            "prompt", () => string.Join('\n', prompts.Select(ids => lease.Generator.Tokenizer.Decode(ids, skipSpecialTokens: false))));
        CompletionAnswer answer = new(call, request, lease.Generator, prompts, AnswerId.New("cmpl-", lease.Model, call.Time));
        await answer.RunAsync().ConfigureAwait(false);
    }
}
