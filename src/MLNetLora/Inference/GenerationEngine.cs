using MLNetLora.Runtime;

namespace MLNetLora.Inference;

/// <summary>
/// Continues many prompts at once, from whatever threads they come. It works in steps: a part of the prompts that are read, then one token of every row that
/// is answered. Rows join and leave between steps, so that nobody waits for another's answer to end. The steps run on a thread that is there while there are
/// requests.
/// </summary>
/// <param name="graph">What is run.</param>
/// <param name="prefixes">What is known of earlier prompts.</param>
internal sealed class GenerationEngine(StepGraph graph, PrefixCache prefixes)
{
    // Tokens of a prompt between two tokens of the others' answers. On two cores 96 cost nothing beside 256, and the others wait two thirds as long; a device
    // wants more at once.
    private const int PartBesideAnswers = 96;
    private const int PartBesideAnswersOnDevice = 256;

    private readonly long _rowBytes = StateCache.BytesOfRow(graph.States, graph.CacheType, 0);
    private readonly long _tokenBytes =
        StateCache.BytesOfRow(graph.States, graph.CacheType, 1) - StateCache.BytesOfRow(graph.States, graph.CacheType, 0);

    private readonly Lock _lock = new();
    private readonly LinkedList<GenerationRequest> _waiting = [];
    private bool _isRunning;
    private EngineUse _use; // at the last step

    // Of the engine's thread.
    private readonly List<GenerationRequest> _rows = []; // by the decoder's rows
    private readonly List<Action> _ended = []; // what callers are told when the memory of their rows is free
    private RotaryInputs? _rotary;
    private BatchDecoder? _decoder;
    private Reading? _reading;

    /// <summary>Most rows at once; further requests wait in the order in which they came. Callers have limits of their own.</summary>
    public required int MaximumRows { get; init; }

    /// <summary>Most bytes that the rows may come to take together; further requests wait.</summary>
    public required long MaximumCacheBytes { get; init; }

    /// <summary>What there is to do, and what it takes.</summary>
    public EngineUse Use
    {
        get
        {
            lock (_lock)
            {
                return _use with { Waiting = _waiting.Count, PrefixBytes = prefixes.Bytes };
            }
        }
    }

    /// <summary>Takes a request, which is answered after those that came before.</summary>
    public void Add(GenerationRequest request)
    {
        lock (_lock)
        {
            if (!_isRunning)
            {
                Action<string>? before = NativeCalls.Before; // tests of this thread mean the engine's, too
                Thread thread = new(() =>
                {
                    NativeCalls.Before = before;
                    Work();
                })
                { IsBackground = true, Name = "MLNetLora generation" };
                thread.UnsafeStart(); // it looks for requests when the lock is free
                _isRunning = true;
            }

            _waiting.AddLast(request);
        }

        request.WhenCancelled(Leave);
    }

    /// <summary>Ends a request that still waits for its row; one that has it ends before its next token.</summary>
    private void Leave(GenerationRequest request)
    {
        lock (_lock)
        {
            if (!_waiting.Remove(request)) // the engine's thread does not meet it any more: when it has ended, the model's memory may go
            {
                return;
            }
        }

        request.Fail(new OperationCanceledException(request.Cancellation));
    }

    private void Work()
    {
        while (true)
        {
            try
            {
                Begin();
                Measure();
                Read();
                Decode();
            }
            catch (Exception e)
            {
                // Of a step that nobody can go on from: all that take part in it.
                Array.ForEach([.. _rows, .. _reading?.Requests ?? []], request => End(request, e));
                Free();
            }

            if (_rows.Count == 0 && _reading is null)
            {
                Free();
            }

            Measure();
            Action[] ended = [.. _ended];
            _ended.Clear();
            bool goesOn;
            lock (_lock)
            {
                goesOn = _isRunning = _waiting.Count > 0 || _rows.Count > 0 || _reading is not null;
            }

            Array.ForEach(ended, tell => tell()); // last: who asks again then does not meet a thread that is about to go
            if (!goesOn)
            {
                return;
            }
        }
    }

    /// <summary>Takes the requests that are next: one, or several short ones that go through the graph together.</summary>
    private void Begin()
    {
        if (_reading is not null)
        {
            return;
        }

        List<GenerationRequest> next = [];
        int longest = 0;
        lock (_lock)
        {
            while (_rows.Count + next.Count < MaximumRows && _waiting.First?.Value is { } request)
            {
                if (Refusal(request) is { } refusal)
                {
                    _waiting.RemoveFirst();
                    End(request, refusal);
                    continue;
                }

                int longer = Math.Max(longest, request.Prompt.Length);
                bool goesTogether = next.Count == 0
                    || ((next.Count + 1L) * longer <= TokensAtOnce && Known(next[0]) == 0 && Known(request) == 0
                        && !next.Exists(other => SharesPrefix(other, request)));
                if (!goesTogether || CacheBytes([.. _rows, .. next, request]) > MaximumCacheBytes)
                {
                    break;
                }

                _waiting.RemoveFirst();
                next.Add(request);
                longest = longer;
            }
        }

        if (next.Count == 0)
        {
            return;
        }

        BatchDecoder decoder = new(graph, _rotary ??= new RotaryInputs(graph.Config, graph.Device));
        try
        {
            decoder.Add([.. next.Select(request => request.Prompt.Length)], [.. next.Select(request => request.Limit)],
                [.. next.Select(request => request.Adapter.Place)]);
            if (next.Count == 1 && UsesPrefixes(next[0]))
            {
                next[0].KnownTokens = decoder.Restore(0, next[0].Adapter, next[0].Prompt, prefixes);
            }
        }
        catch (Exception e)
        {
            decoder.Dispose();
            if (e is NativeMemoryException && prefixes.Clear())
            {
                PutBack(next);
                return;
            }

            next.ForEach(request => End(request, e));
            return;
        }

        _reading = new Reading(decoder, [.. next]);
    }

    /// <summary>Has requests wait again, before all others.</summary>
    private void PutBack(List<GenerationRequest> requests)
    {
        lock (_lock)
        {
            foreach (GenerationRequest request in Enumerable.Reverse(requests))
            {
                _waiting.AddFirst(request);
            }
        }
    }

    /// <summary>Reads a part of the prompts; those that are read through get their first token.</summary>
    private void Read()
    {
        if (_reading is not { } reading)
        {
            return;
        }

        int done = reading.Decoder.Length(0);
        int part = reading.Requests.Length > 1 ? int.MaxValue : PrefillPlan.Next(reading.Requests[0].Prompt.Length, done, TokensAtOnce);
        using (RunCancellation stop = new([.. reading.Requests.Select(request => request.Cancellation)]))
        {
            try
            {
                PrefillPart next = new(0, reading.Requests.Length, done, part);
                reading.Decoder.Read(0, [.. reading.Requests.Select(request => next.Of(request.Prompt))], stop.Token);
            }
            catch (Exception e)
            {
                if (e is NativeMemoryException && prefixes.Clear())
                {
                    return; // the part is read again
                }

                Array.ForEach(reading.Requests, request => End(request, e));
                FreeReading();
                return;
            }
        }

        if (reading.Requests.Length == 1 && reading.Decoder.Length(0) < reading.Requests[0].Prompt.Length)
        {
            return;
        }

        for (int i = 0; i < reading.Requests.Length; i++)
        {
            Keep(reading.Requests[i], reading.Decoder, i, reading.Requests[i].Prompt);
        }

        if (_rows.Count == 0)
        {
            // Nobody to join: the rows stay where they are.
            (_decoder, _reading) = (reading.Decoder, null);
            _rows.AddRange(reading.Requests);
            Choose();
            return;
        }

        for (int i = 0; i < reading.Requests.Length; i++)
        {
            if (Choose(reading.Requests[i], reading.Decoder, i))
            {
                continue;
            }

            try
            {
                Join(reading.Decoder, i);
                _rows.Add(reading.Requests[i]);
            }
            catch (NativeMemoryException e)
            {
                End(reading.Requests[i], e); // the others go on
            }
        }

        FreeReading();
    }

    /// <summary>One more token of every row.</summary>
    private void Decode()
    {
        for (int i = _rows.Count - 1; i >= 0; i--)
        {
            if (_rows[i].Cancellation.IsCancellationRequested)
            {
                End(_rows[i], new OperationCanceledException(_rows[i].Cancellation));
                Remove(i);
            }
        }

        try
        {
            if (!Verify() && Next())
            {
                Choose();
            }
        }
        catch (Exception e)
        {
            // Of a step that none of these rows can go on from; prompts that are read have memory of their own.
            _rows.ForEach(request => End(request, e));
            FreeRows();
        }
    }

    /// <summary>Takes the newest token of every row.</summary>
    /// <returns>Whether there is a row.</returns>
    private bool Next()
    {
        while (_rows.Count > 0)
        {
            bool hasRun = false;
            try
            {
                _decoder!.MakeRoom();
                hasRun = true;
                using RunCancellation stop = new([.. _rows.Select(request => request.Cancellation)]);
                _decoder.Next([.. _rows.Select(request => request.Last)], stop.Token);
                return true;
            }
            catch (NativeMemoryException e) when (!hasRun || graph.Config.DeltaNet is null) // a recurrent state may be half a step ahead
            {
                GiveWay(e);
            }
        }

        return false;
    }

    /// <summary>Makes memory free: what is kept of earlier prompts, or else the longest row, for whose next token all others would need more, too.</summary>
    private void GiveWay(NativeMemoryException error)
    {
        if (!prefixes.Clear())
        {
            int longest = _decoder!.LongestRow;
            End(_rows[longest], error);
            Drop(longest);
        }
    }

    /// <summary>
    /// Reads a guess of what the only row goes on with. Each token is chosen as ever, from the scores behind the one before; where it is another than was
    /// guessed, what was read behind it is forgotten. Attention takes several tokens behind others for one row alone, and a recurrent state cannot go back.
    /// </summary>
    /// <returns>Whether there was a guess, and memory for it.</returns>
    private bool Verify()
    {
        if (_rows.Count != 1 || graph.Config.DeltaNet is not null || _rows[0].Guess() is not { Length: > 0 } guess)
        {
            return false;
        }

        GenerationRequest request = _rows[0];
        int length = _decoder!.Length(0);
        try
        {
            using RunCancellation stop = new([request.Cancellation]);
            _decoder.Next(new ArraySegment<int>([request.Last, .. guess]), stop.Token);
        }
        catch (NativeMemoryException)
        {
            return false; // the next token alone needs less, and has memory made free
        }

        int held = 0;
        bool hasEnded = Choose(request, _decoder, 0);
        while (!hasEnded && held < guess.Length && request.Last == guess[held])
        {
            held++;
            hasEnded = Choose(request, _decoder, held);
        }

        _decoder.Cut(0, length + 1 + held);
        request.Learn(guess.Length, held);
        if (hasEnded)
        {
            Remove(0);
        }

        return true;
    }

    /// <summary>Chooses every row's next token; those that have ended give their place away.</summary>
    private void Choose()
    {
        bool[] ended = [.. _rows.Select((request, i) => Choose(request, _decoder!, i))];
        for (int i = ended.Length - 1; i >= 0; i--)
        {
            if (ended[i])
            {
                Remove(i);
            }
        }
    }

    /// <summary>Chooses a row's next token.</summary>
    /// <returns>Whether the request has ended with it.</returns>
    private bool Choose(GenerationRequest request, BatchDecoder decoder, int row)
    {
        try
        {
            if (!decoder.IsFinite(row))
            {
                throw new NotFiniteNumberException();
            }

            if (request.Choose(decoder.Logits(row), graph.Config.EosTokenIds) is not { } reason)
            {
                return false;
            }

            _ended.Add(() => request.Complete(reason));
        }
        catch (Exception e)
        {
            End(request, e);
        }

        return true;
    }

    private void End(GenerationRequest request, Exception error) => _ended.Add(() => request.Fail(error));

    /// <summary>What is known of a prompt.</summary>
    private int Known(GenerationRequest request) => UsesPrefixes(request) ? prefixes.Find(request.Adapter, request.Prompt) : 0;

    private bool UsesPrefixes(GenerationRequest request) => prefixes.IsOn && request.UsesPrefixes;

    /// <summary>Whether a prompt is better read when another has been, whose beginning it has.</summary>
    private bool SharesPrefix(GenerationRequest request, GenerationRequest other) =>
        UsesPrefixes(request) && UsesPrefixes(other) && request.Adapter == other.Adapter
        && request.Prompt.Length > PrefixCache.BlockTokens && other.Prompt.Length > PrefixCache.BlockTokens
        && request.Prompt.AsSpan(0, PrefixCache.BlockTokens).SequenceEqual(other.Prompt.AsSpan(0, PrefixCache.BlockTokens));

    /// <summary>Keeps a row for prompts that begin alike; where there is no memory for it, they are read again.</summary>
    private void Keep(GenerationRequest request, BatchDecoder decoder, int row, ReadOnlySpan<int> tokens)
    {
        if (!UsesPrefixes(request))
        {
            return;
        }

        try
        {
            decoder.Keep(row, request.Adapter, tokens, prefixes);
        }
        catch (NativeMemoryException)
        {
        }
    }

    private void Join(BatchDecoder decoder, int row)
    {
        try
        {
            _decoder!.Join(decoder, row);
        }
        catch (NativeMemoryException)
        {
            if (!prefixes.Clear())
            {
                throw;
            }

            _decoder!.Join(decoder, row);
        }
    }

    private void Remove(int row)
    {
        Keep(_rows[row], _decoder!, row, _rows[row].Tokens); // the next turn of a conversation begins with this one
        Drop(row);
    }

    private void Drop(int row)
    {
        _decoder!.Remove(row);
        _rows[row] = _rows[^1];
        _rows.RemoveAt(_rows.Count - 1);
        if (_rows.Count == 0)
        {
            FreeRows(); // a long prompt may be read meanwhile, which needs the memory
        }
    }

    /// <summary>Why a request is not begun at all; null where it is.</summary>
    private Exception? Refusal(GenerationRequest request) =>
        request.Cancellation.IsCancellationRequested ? new OperationCanceledException(request.Cancellation)
        : CacheBytes([request]) is var bytes && bytes <= MaximumCacheBytes ? null
        : new OptionException(
            $"A prompt of {request.Prompt.Length} tokens and an answer of up to {request.Limit - request.Prompt.Length} may come to take {bytes} bytes of keys "
            + $"and values, and {nameof(EngineOptions.MaximumCacheBytes)} is {MaximumCacheBytes}. Ask for a shorter answer "
            + $"({nameof(GenerationOptions.MaximumNewTokens)}), or raise the limit.");

    /// <summary>What rows may come to take: in the process what each has, since pages that are never written are no memory; on a device each as much as the
    /// longest.</summary>
    private long CacheBytes(IReadOnlyList<GenerationRequest> requests) => MaximumCacheBytes == long.MaxValue ? 0
        : graph.Device is null ? requests.Sum(request => StateCache.BytesOfRow(graph.States, graph.CacheType, request.Limit))
        : requests.Count * StateCache.BytesOfRow(graph.States, graph.CacheType, requests.Max(request => request.Limit));

    /// <summary>Says what the rows take, for who looks from other threads.</summary>
    private void Measure()
    {
        (int rows, long limits, int longest) = (0, 0, 0);
        foreach (GenerationRequest request in _rows.Concat(_reading?.Requests ?? []))
        {
            rows++;
            limits += request.Limit;
            longest = Math.Max(longest, request.Limit);
        }

        long tokens = (_decoder?.Tokens ?? 0) + (_reading?.Decoder.Tokens ?? 0);
        long bytes = (_decoder?.Bytes ?? 0) + (_reading?.Decoder.Bytes ?? 0);
        long reserved = (rows * _rowBytes) + ((graph.Device is null ? limits : (long)rows * longest) * _tokenBytes);
        lock (_lock)
        {
            _use = new EngineUse(rows, 0, tokens, bytes, reserved, 0);
        }
    }

    private int TokensAtOnce => Math.Min(PrefillPlan.TokensAtOnce(graph.Config),
        _rows.Count == 0 ? int.MaxValue
        : graph.Device is null ? PartBesideAnswers
        : PartBesideAnswersOnDevice);

    private void FreeRows()
    {
        _rows.Clear();
        _decoder?.Dispose();
        _decoder = null;
    }

    private void FreeReading()
    {
        _reading?.Decoder.Dispose();
        _reading = null;
    }

    private void Free()
    {
        FreeReading();
        FreeRows();
        _rotary?.Dispose();
        _rotary = null;
    }

    /// <summary>Prompts that are read: one in parts, or several at once.</summary>
    private sealed record Reading(BatchDecoder Decoder, GenerationRequest[] Requests);
}
