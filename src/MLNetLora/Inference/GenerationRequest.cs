namespace MLNetLora.Inference;

/// <summary>The adapter of a row.</summary>
/// <param name="Place">In the <see cref="AdapterStack"/>; 0 is the base, or the adapter that the graph has for all rows.</param>
/// <param name="Generation">Tells adapters apart that have had the same place one after another.</param>
/// <param name="Salt">Whose prompts share what the prefix cache keeps: those with the same one. Null is a salt, too.</param>
internal readonly record struct RowAdapter(int Place, long Generation, string? Salt = null);

/// <summary>A prompt that the engine continues, and what it has come to. The engine's thread alone changes it.</summary>
/// <param name="prompt">Token ids, at least one.</param>
/// <param name="options">Sampling and length, with nothing left to the checkpoint.</param>
/// <param name="vocabularyLimit">Ids from here on are never chosen.</param>
/// <param name="limit">Most tokens that prompt and answer may have together.</param>
/// <param name="onToken">Called with each token on the engine's thread, for which all other requests wait; true ends the answer. An exception ends the
/// request with it.</param>
/// <param name="onEnd">Called when the request has ended and its memory is free, before <see cref="Answer"/> says so; on the engine's thread, on that of who
/// cancels, or, where <see cref="EndsSlowly"/>, on one of its own.</param>
/// <param name="cancellation">Ends the request, in the middle of a kernel too where nobody else waits for it.</param>
internal sealed class GenerationRequest(
    int[] prompt, GenerationOptions options, int vocabularyLimit, int limit, Func<ChosenToken, bool>? onToken, Action onEnd, CancellationToken cancellation)
{
    private readonly TaskCompletionSource<GeneratedIds> _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Sampler _sampler = new(options, prompt, vocabularyLimit);
    private readonly TokenLogprobs? _logprobs = options.TopLogprobs is { } top ? new(top, vocabularyLimit) : null;
    private readonly List<int> _ids = [];
    private readonly PromptLookup? _lookup = options.PromptLookupTokens > 0 ? new(prompt, options.PromptLookupTokens) : null;
    private int _guessed;
    private int[]? _ends; // tokens that end the answer
    private CancellationTokenRegistration _registration;
    private int _hasEnded;

    /// <summary>What the answer may go on with; null for whatever the model likes.</summary>
    public Constraints.ITokenMask? Mask { get; init; }

    /// <summary>Whether what goes with the request may take long to free, which nobody else must wait for; null where it never does.</summary>
    public Func<bool>? EndsSlowly { get; init; }

    /// <summary>Token ids of the prompt.</summary>
    public int[] Prompt => prompt;

    /// <summary>Most tokens that prompt and answer may have together.</summary>
    public int Limit => limit;

    /// <summary>Which adapter answers.</summary>
    public RowAdapter Adapter { get; init; }

    /// <summary>Whether it has to do with the prefix cache.</summary>
    public bool UsesPrefixes { get; init; } = true;

    /// <summary>Tokens of the prompt that were not read, because an earlier prompt began with them.</summary>
    public int KnownTokens { get; set; }

    /// <summary>The prompt and what has come behind it.</summary>
    public int[] Tokens => [.. prompt, .. _ids];

    /// <summary>Says that nobody waits for the answer any more.</summary>
    public CancellationToken Cancellation => cancellation;

    /// <summary>The newest token.</summary>
    public int Last => _ids[^1];

    /// <summary>The answer; cancelled, or failed with what has ended it. Whoever waits without a thread of his own goes on in the thread pool.</summary>
    public Task<GeneratedIds> Answer => _completion.Task;

    /// <summary>Has something called when the request is cancelled, unless it has ended by then.</summary>
    public void WhenCancelled(Action<GenerationRequest> leave)
    {
        _registration = cancellation.UnsafeRegister(_ => leave(this), null);
        Interlocked.MemoryBarrier();
        if (_hasEnded == 1)
        {
            _registration.Unregister(); // it may have ended before there was anything to unregister
        }
    }

    /// <summary>Chooses the next token.</summary>
    /// <param name="logits">The vocabulary's scores, all of them numbers; they are changed.</param>
    /// <param name="eos">Tokens that end an answer.</param>
    /// <returns>Why the answer ends with it; null where it goes on.</returns>
    public FinishReason? Choose(Span<float> logits, IReadOnlyCollection<int> eos)
    {
        _ends ??= [.. options.StopTokenIds.Union(options.IgnoreEndOfText ? [] : eos)];
        _logprobs?.Read(logits); // before anybody changes them
        bool isForced = _ids.Count < options.ForcedTokens.Count;
        int token = isForced ? options.ForcedTokens[_ids.Count] : Sample(logits);
        _ids.Add(token);
        _lookup?.Add(token);
        bool stops = !isForced && (_ends.Contains(token) || Mask?.IsComplete == true);
        stops |= onToken?.Invoke(_logprobs?.Of(token) ?? new ChosenToken(token)) ?? false;
        bool isFull = _ids.Count == options.MaximumNewTokens || prompt.Length + _ids.Count >= limit;
        return stops ? FinishReason.Stop : isFull ? FinishReason.Length : null;
    }

    /// <summary>What the answer may go on with behind its newest token; empty where nobody knows, or nobody asked to guess.</summary>
    public int[] Guess() => _lookup?.Guess(Math.Min(limit - prompt.Length, options.MaximumNewTokens) - _ids.Count - 1) ?? [];

    /// <summary>Learns how a guess held.</summary>
    /// <param name="guessed">Its tokens.</param>
    /// <param name="held">How many of them came.</param>
    public void Learn(int guessed, int held)
    {
        _lookup!.Learn(guessed, held);
        _guessed += held;
    }

    private int Sample(Span<float> logits)
    {
        Mask?.Apply(logits);
        int token = _sampler.Next(logits, _ids.Count < options.MinimumNewTokens ? _ends : []);
        // What is ruled out has no weight, but rounding, or an option that rules out what is left, may still end with it.
        return Mask?.Accept(token) == false ? Mask.Take(logits) : token;
    }

    /// <summary>Ends the request with its answer.</summary>
    public void Complete(FinishReason reason) => End(() =>
        _completion.SetResult(new GeneratedIds(_ids, reason) { KnownPromptTokens = KnownTokens, GuessedTokens = _guessed }));

    /// <summary>Ends the request without; one that has ended stays as it is.</summary>
    public void Fail(Exception error) => End(() =>
    {
        if (error is OperationCanceledException && cancellation.IsCancellationRequested)
        {
            _completion.SetCanceled(cancellation);
        }
        else
        {
            _completion.SetException(error);
            _ = _completion.Task.Exception; // a caller who has failed already does not look at it, and nobody is to hear of that as unobserved
        }
    });

    private void End(Action tell)
    {
        if (Interlocked.Exchange(ref _hasEnded, 1) == 1)
        {
            return;
        }

        _registration.Unregister();
        if (EndsSlowly?.Invoke() != true)
        {
            EndHere();
            return;
        }

        // None of the pool: whoever waits with a thread of his own needs none of its.
        Thread thread = new(EndHere) { IsBackground = true, Name = "MLNetLora end" };
        thread.UnsafeStart();

        void EndHere()
        {
            onEnd();
            tell();
        }
    }
}
