using MLNetLora.Runtime;

namespace MLNetLora.Inference;

/// <content>Which requests begin, and when.</content>
internal sealed partial class GenerationEngine
{
    /// <summary>Begins the requests that are next.</summary>
    private void Begin()
    {
        if (_reading is not null)
        {
            return;
        }

        List<GenerationRequest> next = [];
        BatchDecoder? decoder = null;
        try
        {
            Take(next);
            if (next.Count == 0)
            {
                return;
            }

            decoder = new BatchDecoder(graph, _rotary ??= new RotaryInputs(graph.Config, graph.Device));
            decoder.Add([.. next.Select(request => request.Prompt.Length)], [.. next.Select(request => request.Limit)],
                [.. next.Select(request => request.Adapter.Place)]);
            if (next.Count == 1 && UsesPrefixes(next[0]))
            {
                next[0].KnownTokens = decoder.Restore(0, next[0].Adapter, next[0].Prompt, prefixes);
            }

            _reading = new Reading(decoder, [.. next]);
        }
        catch (Exception e)
        {
            decoder?.Dispose();
            if (e is NativeMemoryException && prefixes.Clear())
            {
                PutBack(next);
                return;
            }

            next.ForEach(request => End(request, e));
        }
    }

    /// <summary>Takes the requests that are next from those that wait: one, or several short ones that go through the graph together.</summary>
    /// <param name="next">Receives them.</param>
    private void Take(List<GenerationRequest> next)
    {
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

    /// <summary>What is known of a prompt.</summary>
    private int Known(GenerationRequest request) => UsesPrefixes(request) ? prefixes.Find(request.Adapter, request.Prompt) : 0;

    /// <summary>Whether a prompt is better read when another has been, whose beginning it has.</summary>
    private bool SharesPrefix(GenerationRequest request, GenerationRequest other) =>
        UsesPrefixes(request) && UsesPrefixes(other) && request.Adapter == other.Adapter
        && request.Prompt.Length > PrefixCache.BlockTokens && other.Prompt.Length > PrefixCache.BlockTokens
        && request.Prompt.AsSpan(0, PrefixCache.BlockTokens).SequenceEqual(other.Prompt.AsSpan(0, PrefixCache.BlockTokens));

    private bool UsesPrefixes(GenerationRequest request) => prefixes.IsOn && request.UsesPrefixes;
}
