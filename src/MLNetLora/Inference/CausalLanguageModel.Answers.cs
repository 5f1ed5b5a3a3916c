using System.Runtime.ExceptionServices;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Onnx;
using MLNetLora.Runtime;

namespace MLNetLora.Inference;

/// <content>What is asked of the engine, and how its answers come back.</content>
internal sealed partial class CausalLanguageModel
{
    /// <summary>Continues prompts together, as one batch.</summary>
    /// <param name="prompts">Token ids of each prompt, at least one.</param>
    /// <param name="options">Sampling and length; <see cref="GenerationOptions.StopStrings"/> and <see cref="GenerationOptions.BatchSize"/> are the
    /// caller's to honour.</param>
    /// <param name="onToken">Called with row and token as they come; true ends the row.</param>
    /// <param name="vocabularyLimit">Ids from here on are never chosen (rows that pad the embedding); 0 takes the whole vocabulary.</param>
    /// <param name="cancellation">Ends the call with an <see cref="OperationCanceledException"/>, in the middle of a prompt too.</param>
    /// <exception cref="OptionException">An option makes no sense, or a prompt does not fit into the context.</exception>
    /// <exception cref="ObjectDisposedException">The model was disposed.</exception>
    /// <exception cref="CheckpointException">The model gives scores that are not numbers, or its files have changed since they were opened.</exception>
    /// <exception cref="AdapterException">The adapter holds numbers that are none.</exception>
    /// <exception cref="NativeMemoryException">There is too little memory.</exception>
    public IReadOnlyList<GeneratedIds> Generate(IReadOnlyList<int[]> prompts, GenerationOptions options, Func<int, int, bool>? onToken = null,
        int vocabularyLimit = 0, CancellationToken cancellation = default)
    {
        cancellation.ThrowIfCancellationRequested();
        options = Prepare(options);
        int context = Checkpoint.Config.ContextLength;
        for (int i = 0; i < prompts.Count; i++)
        {
            if (prompts[i].Length == 0 || prompts[i].Length >= context)
            {
                throw new OptionException($"Prompt {i + 1} has {prompts[i].Length} tokens; between 1 and {context - 1} fit into this model's context.");
            }
        }

        if (prompts.Count == 0)
        {
            return [];
        }

        using CancellationTokenSource ending = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        List<GenerationRequest> requests = [];
        List<GeneratedIds> answers = [];
        Exception? first = null;
        try
        {
            foreach ((int i, int[] prompt) in prompts.Index())
            {
                requests.Add(Begin(prompt, options, onToken is null ? null : token => onToken(i, token.Id), vocabularyLimit, ending.Token));
            }
        }
        catch (Exception e)
        {
            first = e;
            ending.Cancel();
        }

        foreach (GenerationRequest request in requests)
        {
            try
            {
                answers.Add(Result(request));
            }
            catch (Exception e)
            {
                first ??= e;
                ending.Cancel(); // the others are waited for, so that nothing of the call is left
            }
        }

        if (first is not null)
        {
            cancellation.ThrowIfCancellationRequested();
            ExceptionDispatchInfo.Throw(first);
        }

        return answers;
    }

    /// <summary>What a call does before its first prompt.</summary>
    /// <param name="options">What is asked for.</param>
    /// <returns>The options with nothing left to the checkpoint.</returns>
    /// <exception cref="OptionException">An option makes no sense.</exception>
    /// <exception cref="ObjectDisposedException">The model was disposed.</exception>
    /// <exception cref="CheckpointException">The model's files have changed since they were opened.</exception>
    internal GenerationOptions Prepare(GenerationOptions options)
    {
        ThrowIfDisposed();
        Checkpoint.RequireUnchanged();
        options.Validate();
        return options.Resolve(Checkpoint.Config);
    }

    /// <summary>Continues a prompt beside those of other callers.</summary>
    /// <param name="prompt">Token ids, which fit into the context.</param>
    /// <param name="options">What <see cref="Prepare"/> gives.</param>
    /// <param name="onToken">Called with each token on the engine's thread, for which all other callers wait; true ends the answer.</param>
    /// <param name="vocabularyLimit">Ids from here on are never chosen; 0 takes the whole vocabulary.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <param name="onEnd">Called when it has ended, on whatever thread that is; null: nobody is.</param>
    /// <param name="mask">What the answer may go on with; null for whatever the model likes.</param>
    internal GenerationRequest Begin(int[] prompt, GenerationOptions options, Func<ChosenToken, bool>? onToken, int vocabularyLimit,
        CancellationToken cancellation, Action? onEnd = null, Constraints.ITokenMask? mask = null)
    {
        SharedResources.Call call = _resources.Begin(this);
        int vocabulary = Checkpoint.Config.VocabSize;
        int limit = (int)Math.Min(Checkpoint.Config.ContextLength, (long)prompt.Length + options.MaximumNewTokens);
        try
        {
            GenerationRequest request = new(
                prompt, options, vocabularyLimit == 0 ? vocabulary : Math.Min(vocabularyLimit, vocabulary), limit, onToken, Ended, cancellation)
            {
                Adapter = _adapter with { Salt = options.CacheSalt },
                Mask = mask,
                EndsSlowly = _adapter.Place == 0 ? null : () => _resources.IsDisposed, // the adapter goes with its last request, and others stay
                UsesPrefixes = options.UsesPrefixCache,
            };
            _engine.Add(request);
            return request;
        }
        catch
        {
            call.Dispose();
            throw;
        }

        void Ended()
        {
            call.Dispose();
            onEnd?.Invoke();
        }
    }

    /// <summary>Waits for an answer; no thread of the pool is needed for that.</summary>
    /// <exception cref="OperationCanceledException">The request was cancelled.</exception>
    /// <exception cref="CheckpointException">The model gives scores that are not numbers.</exception>
    /// <exception cref="AdapterException">The adapter holds numbers that are none.</exception>
    /// <exception cref="NativeMemoryException">There is too little memory.</exception>
    internal GeneratedIds Result(GenerationRequest request)
    {
        try
        {
            return request.Answer.GetAwaiter().GetResult();
        }
        catch (NotFiniteNumberException)
        {
            throw Explanation(request);
        }
    }

    /// <summary>Waits for an answer, as <see cref="Result"/> does, without a thread.</summary>
    internal async Task<GeneratedIds> ResultAsync(GenerationRequest request)
    {
        try
        {
            return await request.Answer.ConfigureAwait(false);
        }
        catch (NotFiniteNumberException)
        {
            throw await Task.Run(() => Explanation(request)).ConfigureAwait(false); // it reads all weights
        }
    }

    /// <summary>What has made scores that are not numbers.</summary>
    private MLNetLoraException Explanation(GenerationRequest request) => _graph.CacheType == ElementType.Float16
        ? BadNumbers.InFloat16(Checkpoint, Device)
        : BadNumbers.Explain(Checkpoint, Adapter, request.Cancellation);

    /// <summary>Scores of the token after a prompt, [vocabulary].</summary>
    internal float[] Logits(int[] prompt, CancellationToken cancellation = default)
    {
        using SharedResources.Call call = _resources.Begin(this);
        using RotaryInputs rotary = new(_graph.Config, _graph.Device);
        using BatchDecoder decoder = new(_graph, rotary);
        decoder.Prefill([prompt], cancellation);
        return decoder.Logits(0).ToArray();
    }
}
