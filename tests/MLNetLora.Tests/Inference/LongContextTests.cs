using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Inference;

/// <summary>Long prompts, which are read in parts; sliding windows; a cache that grows; the end of the context. Against the evaluation graph, which
/// has no cache.</summary>
[Collection(Alone.Name)]
public sealed class LongContextTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("qwen2", null)]
    [InlineData("qwen2", 5)]
    [InlineData("qwen2", 300)]
    [InlineData("qwen3", 5)]
    [InlineData("qwen3", null)]
    [InlineData("qwen3_5_text", null)]
    public void Generation_equals_full_forward_passes(string modelType, int? slidingWindow)
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), modelType, slidingWindow: slidingWindow, positions: 4096);
        Assert.Equal(slidingWindow is not null, checkpoint.Config.SlidingWindows.Any(window => window == slidingWindow && window is not null));
        using CausalLanguageModel lm = new(checkpoint, threads: 1);
        Random random = new(3);

        // One long prompt in parts of 512, two short ones together, one of just the budget, and answers beyond several windows and two sizes of the cache.
        int[][] prompts = [.. ((int[])[2600, 3, 700, 2048]).Select(length => TinyModel.Row(random, length).InputIds)];
        IReadOnlyList<GeneratedIds> answers = lm.Generate(prompts, new GenerationOptions { MaximumNewTokens = 90 }, (_, _) => false);
        for (int r = 0; r < prompts.Length; r++)
        {
            RequireGreedy(checkpoint, prompts[r], answers[r].Ids);
        }
    }

    [Fact]
    public void The_cache_grows_with_the_answer_not_with_what_it_might_become()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), positions: 32_768);
        using CausalLanguageModel lm = new(checkpoint, threads: 1, engine: new EngineOptions { PrefixCacheBytes = 0 });
        long perToken = 2L * checkpoint.Config.NumHiddenLayers * checkpoint.Config.NumKeyValueHeads * checkpoint.Config.HeadDim * sizeof(float);
        long before = NativeBuffer.LiveBytes;
        List<long> bytes = [];
        lm.Generate([[3, 4, 5]], new GenerationOptions { MaximumNewTokens = 32_000 }, (_, _) =>
        {
            bytes.Add(NativeBuffer.LiveBytes - before);
            return bytes.Count == 700;
        });
        Assert.InRange(bytes[9], 10 * perToken, 128 * perToken);
        for (int i = 100; i < bytes.Count; i++)
        {
            Assert.InRange(bytes[i], i * perToken, 2 * (i + 64) * perToken);
        }

        Assert.Equal(before, NativeBuffer.LiveBytes);
    }

    [Theory]
    [InlineData(50)]
    [InlineData(63)]
    public void At_the_end_of_the_context_an_answer_ends(int prompt)
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"));
        using CausalLanguageModel lm = new(checkpoint, threads: 1);
        int[] ids = TinyModel.Row(new Random(1), prompt).InputIds;
        IReadOnlyList<GeneratedIds> answers = lm.Generate([ids, [5]], new GenerationOptions { MaximumNewTokens = 1000 }, (_, _) => false);
        foreach ((GeneratedIds answer, int length) in answers.Zip([prompt, 1]))
        {
            Assert.Equal(answer.Ids[^1] == 1 ? FinishReason.Stop : FinishReason.Length, answer.Reason);
            Assert.True(answer.Ids[^1] == 1 || length + answer.Ids.Count == 64, $"{length} and {answer.Ids.Count}");
        }

        Assert.Contains("between 1 and 63", Assert.Throws<OptionException>(() => lm.Generate([new int[64]], new())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_token_ends_a_long_prompt_between_its_parts()
    {
        using CausalLanguageModel lm = new(TinyModel.WriteCheckpoint(_folder.File("model"), positions: 4096), threads: 1);
        using CancellationTokenSource source = new();
        int runs = 0;
        NativeCalls.Before = kind =>
        {
            runs += kind == "run" ? 1 : 0;
            if (runs == 4)
            {
                source.Cancel();
            }
        };
        try
        {
            OperationCanceledException error = Assert.ThrowsAny<OperationCanceledException>(
                () => lm.Generate([TinyModel.Row(new Random(1), 4000).InputIds], new(), cancellation: source.Token));
            Assert.Equal(source.Token, error.CancellationToken);
            Assert.Equal(4, runs); // two of each of the eight parts: the options and the run
        }
        finally
        {
            NativeCalls.Before = null;
        }

        Assert.Equal(FinishReason.Length, lm.Generate([[2, 3]], new GenerationOptions { MaximumNewTokens = 2 }, (_, _) => false)[0].Reason);
    }

    [Fact]
    public void Prompts_are_cut_into_parts()
    {
        Assert.Equal([new PrefillPart(0, 4, 0, 100)], PrefillPlan.Cut([100, 3, 20, 90], 2048));
        Assert.Equal([new(0, 2, 0, 900), new PrefillPart(2, 1, 0, 1000)], PrefillPlan.Cut([900, 800, 1000], 2048));
        Assert.Equal([new(0, 1, 0, 4), new(1, 1, 0, 512), new(1, 1, 512, 512), new(1, 1, 1024, 76), new PrefillPart(2, 2, 0, 7)],
            PrefillPlan.Cut([4, 1100, 7, 5], 1024));
        Assert.Equal([new(0, 1, 0, 64), new PrefillPart(0, 1, 64, 36)], PrefillPlan.Cut([100], 64));
        Assert.Equal([1, 3000], PrefillPlan.Cut([1, 3000], 2048).GroupBy(part => part.FirstRow).Select(parts => parts.Sum(part => part.Length)));
    }

    [Theory]
    [InlineData(100, 256, 100)]
    [InlineData(100, 96, 50, 50)]
    [InlineData(97, 96, 49, 48)]
    [InlineData(200, 96, 67, 67, 66)]
    [InlineData(1100, 1024, 367, 367, 366)]
    [InlineData(1, 64, 1)]
    public void Parts_beside_answers_are_alike(int prompt, int tokensAtOnce, params int[] parts)
    {
        List<int> cut = [];
        for (int read = 0; read < prompt; read += cut[^1])
        {
            cut.Add(PrefillPlan.Next(prompt, read, tokensAtOnce));
        }

        Assert.Equal(parts, cut);
    }

    [Fact]
    public void A_grown_cache_holds_what_was_written()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"));
        QwenConfig config = checkpoint.Config;
        using StateCache cache = new(checkpoint.Architecture.States(config));
        cache.Reserve(3, 10, 1000, []);
        int capacity = cache.Capacity;
        Dictionary<string, float[]> written = Each(cache, (i, span) =>
        {
            for (int j = 0; j < span.Length; j++)
            {
                span[j] = (i * 10_000) + j;
            }
        });
        cache.Reserve(3, capacity + 1, 1000, [capacity, capacity, capacity]);
        Assert.InRange(cache.Capacity, capacity + (capacity / 2), 2 * capacity);
        Dictionary<string, float[]> grown = Each(cache, (_, _) => { });
        foreach ((string name, float[] values) in written)
        {
            float[] kept = [.. grown[name].Chunk(cache.Capacity * config.HeadDim).SelectMany(head => head.Take(capacity * config.HeadDim))];
            Assert.Equal(values, kept);
        }

        cache.Reserve(3, 1000, 1000, []);
        Assert.Equal(1000, cache.Capacity);
        Assert.Throws<ArgumentOutOfRangeException>(() => cache.Reserve(3, 1001, 1000, []));
    }

    private static unsafe Dictionary<string, float[]> Each(StateCache cache, Action<int, Span<float>> write)
    {
        Dictionary<string, NativeTensor> inputs = [];
        Dictionary<string, NativeTensor> outputs = [];
        List<NativeTensor> owned = [];
        cache.Add(0, 3, inputs, outputs, owned);
        Dictionary<string, float[]> all = [];
        foreach ((string name, NativeTensor tensor) in outputs)
        {
            ReadOnlySpan<float> values = tensor.Span<float>();
            fixed (float* first = values)
            {
                write(all.Count, new Span<float>(first, values.Length));
            }

            all[name] = values.ToArray();
        }

        return all;
    }

    // Each token is the most likely one after all before it, as far as float32 can tell.
    private static void RequireGreedy(Checkpoint checkpoint, int[] prompt, IReadOnlyList<int> answer)
    {
        int[] ids = [.. prompt, .. answer];
        Batch batch = Batch.Of([new TrainingRow(ids, ids)]);
        long[] positions = [.. Enumerable.Range(prompt.Length - 1, answer.Count).Select(i => (long)i)];
        (_, float[] logits) = LogitsRun.Run(checkpoint, null, batch with { LabelPositions = positions, LabelIds = new long[positions.Length] });
        float[][] rows = [.. logits.Chunk(checkpoint.Config.VocabSize)];
        Assert.Equal(answer.Count, rows.Length);
        for (int i = 0; i < rows.Length; i++)
        {
            Assert.True(rows[i][answer[i]] >= rows[i].Max() - 1e-3f, $"token {i} after {prompt.Length}: {rows[i][answer[i]]} instead of {rows[i].Max()}");
        }
    }
}
