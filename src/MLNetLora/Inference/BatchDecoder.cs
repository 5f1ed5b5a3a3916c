using System.Numerics.Tensors;
using MLNetLora.Onnx;
using MLNetLora.Runtime;

namespace MLNetLora.Inference;

/// <summary>Takes rows through the inference graph: their prompts in parts, then a token of each row at a time. Rows come and go between the runs.</summary>
/// <param name="graph">What is run.</param>
/// <param name="rotary">The rotary tables, which decoders between which rows are handed on share.</param>
internal sealed class BatchDecoder(StepGraph graph, RotaryInputs rotary) : IDisposable
{
    private const int FirstTokens = 64; // of the answers; the memory grows when they are there

    private readonly StateCache _cache = new(graph.States, graph.Device, graph.CacheType);
    private readonly List<Row> _rows = [];
    private float[] _logits = []; // [rows, vocabulary]

    /// <summary>How many rows.</summary>
    public int Rows => _rows.Count;

    /// <summary>Scores of a row's next token, [vocabulary]; they may be changed until the next run.</summary>
    public Span<float> Logits(int row) => _logits.AsSpan(row * graph.Config.VocabSize, graph.Config.VocabSize);

    /// <summary>Whether a row's scores are numbers.</summary>
    public bool IsFinite(int row) => float.IsFinite(TensorPrimitives.Max<float>(Logits(row))); // NaN wins

    /// <summary>Tokens of a row that the cache has.</summary>
    public int Length(int row) => _rows[row].Length;

    /// <summary>The row with the most tokens; where several have as many, the last.</summary>
    public int LongestRow
    {
        get
        {
            int most = _rows.Max(row => row.Length);
            return _rows.FindLastIndex(row => row.Length == most);
        }
    }

    /// <summary>Tokens of all rows that the cache has.</summary>
    public long Tokens => _rows.Sum(row => (long)row.Length);

    /// <summary>Bytes of the cache.</summary>
    public long Bytes => _cache.Bytes;

    /// <summary>Adds rows, of whose prompts nothing is read yet.</summary>
    /// <param name="prompts">Tokens of each prompt.</param>
    /// <param name="limits">Most tokens that each row will ever have.</param>
    /// <param name="adapters">The place of each row's adapter; null for the base.</param>
    public void Add(IReadOnlyList<int> prompts, IReadOnlyList<int> limits, IReadOnlyList<int>? adapters = null)
    {
        // An answer is rotated as its prompt was.
        _rows.AddRange(prompts.Select((tokens, i) => new Row(rotary.Section(tokens), limits[i], adapters?[i] ?? 0, 0)));
        Reserve(Math.Min(limits.Max(), prompts.Max() + FirstTokens));
    }

    /// <summary>Reads parts of prompts.</summary>
    /// <param name="firstRow">The first row that takes part.</param>
    /// <param name="parts">The next tokens of it and of the rows behind it. Where something was read of one before, it is the only one.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    public void Read(int firstRow, IReadOnlyList<ArraySegment<int>> parts, CancellationToken cancellation) => Run(firstRow, parts, cancellation);

    /// <summary>Reads whole prompts.</summary>
    /// <param name="prompts">Token ids, one prompt for each row.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    public void Prefill(IReadOnlyList<int[]> prompts, CancellationToken cancellation)
    {
        int[] lengths = [.. prompts.Select(prompt => prompt.Length)];
        Add(lengths, lengths);
        foreach (PrefillPart part in PrefillPlan.Of(graph.Config, lengths))
        {
            Run(part.FirstRow, [.. prompts.Skip(part.FirstRow).Take(part.Rows).Select(part.Of)], cancellation);
        }
    }

    /// <summary>Makes room for one more token of each row.</summary>
    /// <exception cref="NativeMemoryException">There is too little memory; the rows are as they were.</exception>
    public void MakeRoom() => Reserve(_rows.Max(row => row.Length) + 1);

    /// <summary>Takes one more token of each row.</summary>
    /// <param name="tokens">A token for each row.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    public void Next(IReadOnlyList<int> tokens, CancellationToken cancellation)
    {
        MakeRoom();
        Run(0, [.. tokens.Select(token => new ArraySegment<int>([token]))], cancellation);
    }

    /// <summary>Takes several more tokens of the only row, with the scores behind each of them: <see cref="Logits"/> of 0, 1, ….</summary>
    /// <param name="tokens">The tokens.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    public void Next(ArraySegment<int> tokens, CancellationToken cancellation)
    {
        Reserve(_rows[0].Length + tokens.Count);
        int numbers = checked(tokens.Count * graph.Config.VocabSize);
        _logits = _logits.Length < numbers ? new float[numbers] : _logits;
        Run(0, [tokens], cancellation, outputs: tokens.Count);
    }

    /// <summary>Forgets the last tokens of a row whose states are all by token.</summary>
    /// <param name="row">The row.</param>
    /// <param name="length">Tokens that stay.</param>
    public void Cut(int row, int length) => _rows[row] = _rows[row] with { Length = length };

    /// <summary>Adds a row of another decoder as it stands there, but for its scores.</summary>
    /// <param name="other">The other.</param>
    /// <param name="row">Its row.</param>
    /// <exception cref="NativeMemoryException">There is too little memory; the rows are as they were.</exception>
    public void Join(BatchDecoder other, int row)
    {
        Row joined = other._rows[row];
        _rows.Add(joined with { Length = 0 }); // nothing of it is here yet
        try
        {
            Reserve(Math.Min(joined.Limit, joined.Length + FirstTokens));
        }
        catch
        {
            _rows.RemoveAt(_rows.Count - 1);
            throw;
        }

        _cache.Take(other._cache, new RowPart(row, 0), new RowPart(_rows.Count - 1, 0), joined.Length);
        _rows[^1] = joined;
    }

    /// <summary>Whether a row is rotated as most are, so that its keys are those of the same tokens in another row.</summary>
    public bool IsUsual(int row) => _rows[row].Section == 0;

    /// <summary>Takes the beginning of a row's prompt, of which nothing is read yet, from those that were read before.</summary>
    /// <param name="row">The row.</param>
    /// <param name="adapter">Who answers.</param>
    /// <param name="prompt">Its prompt.</param>
    /// <param name="prefixes">Those before.</param>
    /// <returns>How many tokens need not be read.</returns>
    public int Restore(int row, RowAdapter adapter, int[] prompt, PrefixCache prefixes)
    {
        int known = IsUsual(row) ? prefixes.CopyTo(adapter, prompt, _cache, row) : 0;
        _rows[row] = _rows[row] with { Length = known };
        return known;
    }

    /// <summary>Keeps what a row has for prompts that begin alike.</summary>
    /// <param name="row">The row.</param>
    /// <param name="adapter">Who answers.</param>
    /// <param name="tokens">Its tokens, those that are not read yet at the end.</param>
    /// <param name="prefixes">Receives it.</param>
    public void Keep(int row, RowAdapter adapter, ReadOnlySpan<int> tokens, PrefixCache prefixes)
    {
        if (IsUsual(row))
        {
            prefixes.Keep(adapter, tokens[..Math.Min(tokens.Length, _rows[row].Length)], _cache, row);
        }
    }

    /// <summary>Takes a row out; the last one gets its number.</summary>
    public void Remove(int row)
    {
        int last = _rows.Count - 1;
        if (row != last)
        {
            _cache.Copy(last, row, _rows[last].Length);
            _rows[row] = _rows[last];
        }

        _rows.RemoveAt(last);
    }

    /// <inheritdoc/>
    public void Dispose() => _cache.Dispose();

    private void Reserve(int tokens)
    {
        _cache.Reserve(_rows.Count, tokens, Math.Max(tokens, _rows.Max(row => row.Limit)), [.. _rows.Select(row => row.Length)]);
        rotary.Reserve(_cache.Capacity);
        int numbers = checked(_rows.Count * graph.Config.VocabSize);
        _logits = _logits.Length < numbers ? new float[numbers] : _logits;
    }

    /// <param name="firstRow">The first row that takes part.</param>
    /// <param name="step">Tokens of each.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    /// <param name="outputs">How many of the last tokens of a row have scores; more than one only where there is one row.</param>
    private void Run(int firstRow, IReadOnlyList<ArraySegment<int>> step, CancellationToken cancellation, int outputs = 1)
    {
        (int batch, int length) = (step.Count, step.Max(ids => ids.Count));
        long[] ids = new long[batch * length];
        long[] positions = new long[batch * length];
        long[] last = new long[batch * outputs];
        int[] lengths = new int[batch];
        for (int r = 0; r < batch; r++)
        {
            Row row = _rows[firstRow + r];
            long start = rotary.Start(row.Section) + row.Length;
            for (int i = 0; i < step[r].Count; i++)
            {
                positions[(r * length) + i] = start + i;
                ids[(r * length) + i] = step[r][i];
            }

            for (int i = 0; i < outputs; i++)
            {
                last[(r * outputs) + i] = (r * length) + step[r].Count - outputs + i;
            }

            lengths[r] = row.Length + step[r].Count - 1;
        }

        Dictionary<string, NativeTensor> inputs = new(graph.Factors);
        Dictionary<string, NativeTensor> results = [];
        List<NativeTensor> owned = [];
        try
        {
            Memory<float> logits = _logits.AsMemory(firstRow * graph.Config.VocabSize, last.Length * graph.Config.VocabSize);
            inputs["input_ids"] = Own(Tensors.Of(ids, batch, length));
            inputs["position_ids"] = Own(Tensors.Of(positions, batch, length));
            inputs["last_positions"] = Own(Tensors.Of(last, last.Length));
            inputs["past_lengths"] = Own(Tensors.Of(lengths, batch));
            inputs["total_length"] = Own(Tensors.Of([lengths.Max() + 1], []));
            if (graph.Config.DeltaNet is { } recurrent)
            {
                (float[] mask, long[] kept) = Artifacts.RecurrentState.Inputs(recurrent, [.. step.Select(ids => ids.Count)], length);
                inputs["token_mask"] = Own(Tensors.Of(mask, batch, length, 1));
                inputs["kept_rows"] = Own(Tensors.Of(kept, batch, recurrent.Taps - 1));
            }

            results["logits"] = Own(Tensors.Of(logits, last.Length, graph.Config.VocabSize));
            rotary.Add(inputs, training: false);
            graph.Adapters?.AddTo([.. _rows.Skip(firstRow).Take(batch).Select(row => row.Adapter)], length, outputs, inputs, owned);
            _cache.Add(firstRow, batch, inputs, results, owned);
            graph.Session.Run(inputs.Keys, inputs.Values, results.Keys, results.Values, cancellation: cancellation);
        }
        finally
        {
            owned.ForEach(value => value.Dispose());
        }

        for (int r = 0; r < batch; r++)
        {
            _rows[firstRow + r] = _rows[firstRow + r] with { Length = _rows[firstRow + r].Length + step[r].Count };
        }

        NativeTensor Own(NativeTensor value)
        {
            owned.Add(value);
            return value;
        }
    }

    /// <summary>A row.</summary>
    /// <param name="Section">Of the rotary tables.</param>
    /// <param name="Limit">Most tokens that it will ever have.</param>
    /// <param name="Adapter">The place of its adapter.</param>
    /// <param name="Length">Tokens that the cache has.</param>
    private readonly record struct Row(int Section, int Limit, int Adapter, int Length);
}
