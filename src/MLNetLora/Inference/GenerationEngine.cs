using MLNetLora.Runtime;

namespace MLNetLora.Inference;

/// <summary>
/// Continues many prompts at once, from whatever threads they come. It works in steps: a part of the prompts that are read, then one token of every row that
/// is answered. Rows join and leave between steps, so that nobody waits for another's answer to end. The steps run on a thread that is there while there are
/// requests.
/// </summary>
/// <param name="graph">What is run.</param>
/// <param name="prefixes">What is known of earlier prompts.</param>
internal sealed partial class GenerationEngine(StepGraph graph, PrefixCache prefixes)
{
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

    private void End(GenerationRequest request, Exception error) => _ended.Add(() => request.Fail(error));

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

    private void Free()
    {
        FreeReading();
        FreeRows();
        _rotary?.Dispose();
        _rotary = null;
    }
}
