using System.Numerics.Tensors;
using MLNetLora.Artifacts;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Runtime;

namespace MLNetLora.Inference;

/// <summary>Takes a batch of rows through the inference graph: their prompts in parts, then a token of each row at a time.</summary>
/// <param name="session">The graph of <see cref="InferenceModel"/>.</param>
/// <param name="factors">The adapter's factors by their input's name.</param>
/// <param name="config">The model.</param>
/// <param name="states">What is kept of the tokens so far.</param>
/// <param name="rows">How many rows.</param>
/// <param name="limit">Most tokens that a row will ever have.</param>
/// <param name="device">The memory of the device that the session runs on; null for the process's.</param>
/// <param name="cacheType">Type of keys and values.</param>
internal sealed class BatchDecoder(
    OnnxSession session,
    IReadOnlyDictionary<string, NativeTensor> factors,
    QwenConfig config,
    IEnumerable<CacheState> states,
    int rows,
    int limit,
    DeviceMemory? device,
    ElementType cacheType) : IDisposable
{
    private const int FirstTokens = 64; // of the answers; the memory grows when they are there

    private readonly StateCache _cache = new(states, rows, limit, device, cacheType);
    private readonly RotaryInputs _rotary = new(config, device);
    private readonly int[] _sections = new int[rows]; // of the rotary tables
    private readonly float[] _logits = new float[checked(rows * config.VocabSize)];
    private readonly int[] _lengths = new int[rows];
    private readonly bool[] _ended = new bool[rows];

    /// <summary>Tokens per row for which the cache has memory.</summary>
    public int Capacity => _cache.Capacity;

    /// <summary>Scores of a row's next token, [vocabulary]; they may be changed until the next run.</summary>
    public Span<float> Logits(int row) => _logits.AsSpan(row * config.VocabSize, config.VocabSize);

    /// <summary>Whether a row's scores are numbers.</summary>
    public bool IsFinite(int row) => float.IsFinite(TensorPrimitives.Max<float>(Logits(row))); // NaN wins

    /// <summary>Tokens of a row that the cache has.</summary>
    public int Length(int row) => _lengths[row];

    /// <summary>From now on a row repeats its last token until the others are done; its part of the cache grows no further, and nothing reads it.</summary>
    public void End(int row) => _ended[row] = true;

    /// <summary>Reads the prompts.</summary>
    /// <param name="prompts">Token ids, one prompt for each row.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    public void Prefill(IReadOnlyList<int[]> prompts, CancellationToken cancellation)
    {
        int[] lengths = [.. prompts.Select(prompt => prompt.Length)];
        lengths.Select(_rotary.Section).ToArray().CopyTo(_sections, 0); // an answer is rotated as its prompt was
        Reserve(Math.Min(limit, lengths.Max() + FirstTokens));
        foreach (PrefillPart part in PrefillPlan.Of(config, lengths))
        {
            Run(part.FirstRow, [.. prompts.Skip(part.FirstRow).Take(part.Rows).Select(ids => Part(ids, part))], cancellation);
        }
    }

    /// <summary>Takes one more token of each row.</summary>
    /// <param name="tokens">A token for each row.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    public void Next(IReadOnlyList<int> tokens, CancellationToken cancellation)
    {
        Reserve(_lengths.Max() + 1);
        Run(0, [.. tokens.Select(token => new ArraySegment<int>([token]))], cancellation);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _rotary.Dispose();
        _cache.Dispose();
    }

    private static ArraySegment<int> Part(int[] ids, PrefillPart part) => new(ids, part.Start, Math.Min(part.Length, ids.Length - part.Start));

    private void Reserve(int tokens)
    {
        _cache.Reserve(tokens);
        _rotary.Reserve(_cache.Capacity);
    }

    private void Run(int firstRow, ArraySegment<int>[] step, CancellationToken cancellation)
    {
        (int batch, int length) = (step.Length, step.Max(ids => ids.Count));
        long[] ids = new long[batch * length];
        long[] positions = new long[batch * length];
        long[] last = new long[batch];
        int[] lengths = new int[batch];
        for (int r = 0; r < batch; r++)
        {
            int past = _lengths[firstRow + r];
            long start = _rotary.Start(_sections[firstRow + r]) + past;
            for (int i = 0; i < step[r].Count; i++)
            {
                positions[(r * length) + i] = start + i;
                ids[(r * length) + i] = step[r][i];
            }

            last[r] = (r * length) + step[r].Count - 1;
            lengths[r] = past + step[r].Count - 1;
        }

        Dictionary<string, NativeTensor> inputs = new(factors);
        Dictionary<string, NativeTensor> outputs = [];
        List<NativeTensor> owned = [];
        try
        {
            Memory<float> logits = _logits.AsMemory(firstRow * config.VocabSize, batch * config.VocabSize);
            inputs["input_ids"] = Own(Tensors.Of(ids, batch, length));
            inputs["position_ids"] = Own(Tensors.Of(positions, batch, length));
            inputs["last_positions"] = Own(Tensors.Of(last, batch));
            inputs["past_lengths"] = Own(Tensors.Of(lengths, batch));
            inputs["total_length"] = Own(Tensors.Of([lengths.Max() + 1], []));
            if (config.DeltaNet is { } recurrent)
            {
                (float[] mask, long[] kept) = RecurrentState.Inputs(recurrent, [.. step.Select(ids => ids.Count)], length);
                inputs["token_mask"] = Own(Tensors.Of(mask, batch, length, 1));
                inputs["kept_rows"] = Own(Tensors.Of(kept, batch, recurrent.Taps - 1));
            }

            outputs["logits"] = Own(Tensors.Of(logits, batch, config.VocabSize));
            _rotary.Add(inputs, training: false);
            _cache.Add(firstRow, batch, inputs, outputs, owned);
            session.Run(inputs.Keys, inputs.Values, outputs.Keys, outputs.Values, cancellation: cancellation);
        }
        finally
        {
            owned.ForEach(value => value.Dispose());
        }

        for (int r = 0; r < batch; r++)
        {
            _lengths[firstRow + r] += _ended[firstRow + r] ? 0 : step[r].Count;
        }

        NativeTensor Own(NativeTensor value)
        {
            owned.Add(value);
            return value;
        }
    }
}
