namespace MLNetLora.Inference;

/// <summary>A prompt that the engine continues, and what it has come to. The engine's thread alone changes it.</summary>
/// <param name="prompt">Token ids, at least one.</param>
/// <param name="options">Sampling and length, with nothing left to the checkpoint.</param>
/// <param name="vocabularyLimit">Ids from here on are never chosen.</param>
/// <param name="limit">Most tokens that prompt and answer may have together.</param>
/// <param name="onToken">Called with each token on the engine's thread, for which all other requests wait; true ends the answer. An exception ends the
/// request with it.</param>
/// <param name="cancellation">Ends the request, in the middle of a kernel too where nobody else waits for it.</param>
internal sealed class GenerationRequest(
    int[] prompt, GenerationOptions options, int vocabularyLimit, int limit, Func<int, bool>? onToken, CancellationToken cancellation)
{
    private readonly TaskCompletionSource<GeneratedIds> _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Sampler _sampler = new(options, prompt, vocabularyLimit);
    private readonly List<int> _ids = [];

    /// <summary>Token ids of the prompt.</summary>
    public int[] Prompt => prompt;

    /// <summary>Most tokens that prompt and answer may have together.</summary>
    public int Limit => limit;

    /// <summary>Says that nobody waits for the answer any more.</summary>
    public CancellationToken Cancellation => cancellation;

    /// <summary>The newest token.</summary>
    public int Last => _ids[^1];

    /// <summary>The answer; cancelled, or failed with what has ended it.</summary>
    public Task<GeneratedIds> Answer => _completion.Task;

    /// <summary>Chooses the next token.</summary>
    /// <param name="logits">The vocabulary's scores, all of them numbers; they are changed.</param>
    /// <param name="eos">Tokens that end an answer.</param>
    /// <returns>Why the answer ends with it; null where it goes on.</returns>
    public FinishReason? Choose(Span<float> logits, IReadOnlyCollection<int> eos)
    {
        int token = _sampler.Next(logits);
        _ids.Add(token);
        bool stops = eos.Contains(token);
        stops |= onToken?.Invoke(token) ?? false;
        bool isFull = _ids.Count == options.MaximumNewTokens || prompt.Length + _ids.Count >= limit;
        return stops ? FinishReason.Stop : isFull ? FinishReason.Length : null;
    }

    /// <summary>Ends the request with its answer.</summary>
    public void Complete(FinishReason reason) => _completion.TrySetResult(new GeneratedIds(_ids, reason));

    /// <summary>Ends the request without.</summary>
    public void Fail(Exception error)
    {
        if (error is OperationCanceledException && cancellation.IsCancellationRequested)
        {
            _completion.TrySetCanceled(cancellation);
        }
        else
        {
            _completion.TrySetException(error);
        }
    }
}
