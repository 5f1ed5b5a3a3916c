using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Runtime;

namespace MLNetLora.Inference;

/// <summary>Why an answer ended.</summary>
public enum FinishReason
{
    /// <summary>The model gave an end-of-text token, or a stop string came up.</summary>
    Stop,

    /// <summary>The maximum number of new tokens, or the model's context, was reached.</summary>
    Length,
}

/// <summary>A generated continuation.</summary>
/// <param name="Ids">New token ids, an ending eos included.</param>
/// <param name="Reason">Why it ended.</param>
public sealed record GeneratedIds(IReadOnlyList<int> Ids, FinishReason Reason);

/// <summary>
/// Continues token sequences with a checkpoint and, where given, an adapter attached (not merged).
/// float32 weights stay mapped; 16-bit ones are widened once into private memory, twice the checkpoint's size. Thread-safe: every call has its own cache.
/// </summary>
public sealed class CausalLanguageModel : IDisposable
{
    private readonly OnnxSession _session;
    private readonly RoundedWeights? _rounded;
    private readonly List<FloatBuffer> _buffers = [];
    private readonly Dictionary<string, NativeTensor> _factors = [];

    /// <summary>Builds the graph and creates the session.</summary>
    /// <param name="checkpoint">The base.</param>
    /// <param name="adapter">An adapter for it; null for the base alone.</param>
    /// <param name="threads">Threads; 0 takes all cores.</param>
    /// <param name="precision">How the base's weights are held; rounded ones are private memory.</param>
    public CausalLanguageModel(Checkpoint checkpoint, LoraAdapter? adapter = null, int threads = 0, WeightPrecision precision = WeightPrecision.Checkpoint)
    {
        if (!Enum.IsDefined(precision))
        {
            throw new OptionException($"The weight precision is {precision}; it must be {string.Join(" or ", Enum.GetNames<WeightPrecision>())}.");
        }

        adapter?.RequireFit(checkpoint);
        _ = ReadAhead.Start(checkpoint);
        Checkpoint = checkpoint;
        Adapter = adapter;
        Precision = precision;
        LoraModule[] modules = [.. (adapter?.Factors ?? []).Select(f => f.Module)];
        _rounded = precision == WeightPrecision.Checkpoint ? null : new RoundedWeights(checkpoint, precision, threads);
        try
        {
            _session = new OnnxSession(InferenceModel.Build(checkpoint, modules, _rounded), _rounded is null ? SessionUse.Generation : SessionUse.RoundedGeneration, threads, _rounded?.Initializers());
            foreach (LoraFactors f in adapter?.Factors ?? [])
            {
                Keep(f.Module.KeyA, f.A, [f.Module.Rank, f.Module.Module.In]);
                Keep(f.Module.KeyB, f.B, [f.Module.Module.Out, f.Module.Rank]);
            }

            _rounded?.FreePacked(() => Logits([0, Math.Min(1, checkpoint.Config.VocabSize - 1)])); // two tokens: with one, queries and keys change nothing
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The base.</summary>
    public Checkpoint Checkpoint { get; }

    /// <summary>The adapter; null for the base alone.</summary>
    public LoraAdapter? Adapter { get; }

    /// <summary>How the base's weights are held.</summary>
    public WeightPrecision Precision { get; }

    /// <summary>Continues prompts together, as one batch.</summary>
    /// <param name="prompts">Token ids of each prompt, at least one.</param>
    /// <param name="options">Sampling and length; <see cref="GenerationOptions.StopStrings"/> and <see cref="GenerationOptions.BatchSize"/> are the caller's to honour.</param>
    /// <param name="onToken">Called with row and token as they come; true ends the row.</param>
    /// <param name="vocabularyLimit">Ids from here on are never chosen (rows that pad the embedding); 0 takes the whole vocabulary.</param>
    /// <param name="cancellation">Ends the call with an <see cref="OperationCanceledException"/>.</param>
    public IReadOnlyList<GeneratedIds> Generate(IReadOnlyList<int[]> prompts, GenerationOptions options, Func<int, int, bool>? onToken = null, int vocabularyLimit = 0, CancellationToken cancellation = default)
    {
        options.Validate();
        options = options.Resolve(Checkpoint.Config);
        int context = Checkpoint.Config.MaxPositionEmbeddings;
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

        int longest = prompts.Max(prompt => prompt.Length);
        int capacity = (int)Math.Min(context, (long)longest + options.MaximumNewTokens);
        using KeyValueCache cache = new(Checkpoint.Config, prompts.Count, capacity);
        Row[] rows = [.. prompts.Select(prompt => new Row(prompt, options, vocabularyLimit == 0 ? Checkpoint.Config.VocabSize : Math.Min(vocabularyLimit, Checkpoint.Config.VocabSize)))];
        int[][] step = [.. prompts];
        float[] logits = new float[rows.Length * Checkpoint.Config.VocabSize];
        while (true)
        {
            cancellation.ThrowIfCancellationRequested();
            Run(cache, step, rows, logits, cancellation);
            for (int i = 0; i < rows.Length; i++)
            {
                Row row = rows[i];
                if (row.Reason is null)
                {
                    int token = row.Sampler.Next(logits.AsSpan(i * Checkpoint.Config.VocabSize, Checkpoint.Config.VocabSize));
                    row.Ids.Add(token);
                    bool stop = Checkpoint.Config.EosTokenIds.Contains(token);
                    stop |= onToken?.Invoke(i, token) ?? false;
                    row.Reason = stop ? FinishReason.Stop : row.Ids.Count == options.MaximumNewTokens || row.Length + 1 >= context ? FinishReason.Length : null;
                }
            }

            if (rows.All(row => row.Reason is not null))
            {
                return [.. rows.Select(row => new GeneratedIds(row.Ids, row.Reason!.Value))];
            }

            // A row that has ended repeats its last token until the others are done; its cache grows no further.
            step = [.. rows.Select(row => new[] { row.Ids[^1] })];
        }
    }

    /// <summary>Scores of the token after a prompt, [vocabulary].</summary>
    internal float[] Logits(int[] prompt)
    {
        using KeyValueCache cache = new(Checkpoint.Config, 1, prompt.Length);
        float[] logits = new float[Checkpoint.Config.VocabSize];
        Run(cache, [prompt], [new Row(prompt, new GenerationOptions(), Checkpoint.Config.VocabSize)], logits, default);
        return logits;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _session?.Dispose(); // not there yet where the constructor failed
        _rounded?.Dispose();
        _buffers.ForEach(buffer => buffer.Dispose());
    }

    private void Run(KeyValueCache cache, int[][] step, Row[] rows, float[] logits, CancellationToken cancellation)
    {
        (int batch, int length) = (step.Length, step.Max(ids => ids.Length));
        long[] ids = new long[batch * length];
        long[] positions = new long[batch * length];
        long[] last = new long[batch];
        int[] lengths = new int[batch];
        for (int r = 0; r < batch; r++)
        {
            int past = rows[r].Length;
            for (int i = 0; i < length; i++)
            {
                positions[(r * length) + i] = i < step[r].Length ? past + i : 0;
                ids[(r * length) + i] = i < step[r].Length ? step[r][i] : 0;
            }

            last[r] = (r * length) + step[r].Length - 1;
            lengths[r] = past + step[r].Length - 1;
            if (rows[r].Reason is null)
            {
                rows[r].Length += step[r].Length;
            }
        }

        Dictionary<string, NativeTensor> inputs = new(_factors);
        Dictionary<string, NativeTensor> outputs = [];
        List<NativeTensor> owned = [];
        try
        {
            inputs["input_ids"] = Own(Tensors.Of(ids, batch, length));
            inputs["position_ids"] = Own(Tensors.Of(positions, batch, length));
            inputs["last_positions"] = Own(Tensors.Of(last, batch));
            inputs["past_lengths"] = Own(Tensors.Of(lengths, batch));
            inputs["total_length"] = Own(Tensors.Of([lengths.Max() + 1], []));
            outputs["logits"] = Own(Tensors.Of(logits, batch, Checkpoint.Config.VocabSize));
            cache.Add(inputs, outputs);
            _session.Run(inputs.Keys, inputs.Values, outputs.Keys, outputs.Values, cancellation);
        }
        finally
        {
            owned.ForEach(value => value.Dispose());
        }

        NativeTensor Own(NativeTensor value)
        {
            owned.Add(value);
            return value;
        }
    }

    private void Keep(string name, float[] values, long[] shape)
    {
        FloatBuffer buffer = new(values.Length);
        values.CopyTo(buffer.Span(0, values.Length));
        _buffers.Add(buffer);
        _factors[name] = buffer.View(0, shape);
    }

    private sealed class Row(int[] prompt, GenerationOptions options, int limit)
    {
        public Sampler Sampler { get; } = new(options, prompt, limit);

        public List<int> Ids { get; } = [];

        public FinishReason? Reason { get; set; }

        /// <summary>Tokens in the cache.</summary>
        public int Length { get; set; }
    }
}
