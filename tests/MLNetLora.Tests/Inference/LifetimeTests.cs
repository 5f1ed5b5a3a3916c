using System.Runtime.CompilerServices;
using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Tests.Runtime;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference;

/// <summary>Use after and during Dispose, models that are dropped, native calls that fail: on the real engine.</summary>
[Collection(Alone.Name)]
public sealed class LifetimeTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public static TheoryData<WeightPrecision> Precisions => [WeightPrecision.Checkpoint, WeightPrecision.Int8, WeightPrecision.Int4];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void After_dispose_every_call_says_so()
    {
        CausalLanguageModel lm = new(Checkpoint.Open(Repository.Nano), threads: 1);
        lm.Dispose();
        lm.Dispose();
        Assert.Contains(nameof(CausalLanguageModel), Assert.Throws<ObjectDisposedException>(() => lm.Generate([[1, 2]], new())).Message,
            StringComparison.Ordinal);
        Assert.Throws<ObjectDisposedException>(() => lm.Generate([], new()));
        Assert.Throws<ObjectDisposedException>(() => lm.Logits([1]));
        TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        generator.Dispose();
        generator.Dispose();
        Assert.Throws<ObjectDisposedException>(() => generator.Generate([new InstructionRow("Who are you?")], new()));
        Assert.Throws<ObjectDisposedException>(() => generator.Generate([], new()));
        Assert.Throws<ObjectDisposedException>(() => generator.Reply([], new()));
    }

    [Fact]
    public void A_request_that_cannot_begin_holds_nothing()
    {
        NativeCounts before = NativeCounts.Settled();
        CausalLanguageModel lm = new(Checkpoint.Open(Repository.Nano), threads: 1);
        ChangedMeanwhile biases = new();
        GenerationOptions options = lm.Prepare(new GenerationOptions { LogitBias = biases });
        biases.HasChanged = true;
        Assert.Throws<InvalidOperationException>(() => lm.Begin([1, 2], options, null, 0, default));
        lm.Dispose();
        Assert.Equal(before, NativeCounts.Now);
    }

    [Theory]
    [MemberData(nameof(Precisions))]
    public async Task Disposed_under_load_every_call_ends_with_its_answer_or_says_so(WeightPrecision precision)
    {
        NativeCounts before = NativeCounts.Settled();
        int[] prompt = [.. Enumerable.Range(5, 120)];
        GenerationOptions options = new() { MaximumNewTokens = 24 };
        for (int round = 0; round < 3; round++)
        {
            CausalLanguageModel lm = new(Checkpoint.Open(Repository.Nano), threads: 2, precision: precision);
            IReadOnlyList<int> expected = lm.Generate([prompt], options)[0].Ids;
            using CountdownEvent started = new(6);
            Task<ObjectDisposedException>[] callers = [
                .. Enumerable.Range(0, 6).Select(_ => Task.Factory.StartNew(() => Load(lm, expected, started), TaskCreationOptions.LongRunning))];
            started.Wait();
            lm.Dispose();
            Assert.All(await Task.WhenAll(callers), end => Assert.Contains(nameof(CausalLanguageModel), end.Message, StringComparison.Ordinal));

            Assert.Equal(before, NativeCounts.Now);
        }

        ObjectDisposedException Load(CausalLanguageModel lm, IReadOnlyList<int> expected, CountdownEvent started)
        {
            bool told = false;
            while (true)
            {
                try
                {
                    Assert.Equal(expected, lm.Generate([prompt], options, OnToken)[0].Ids);
                }
                catch (ObjectDisposedException e)
                {
                    return e;
                }
            }

            bool OnToken(int row, int token)
            {
                if (!told)
                {
                    told = true;
                    started.Signal();
                }

                return false;
            }
        }
    }

    [Fact]
    public void Two_threads_at_once_get_what_each_gets_alone()
    {
        using CausalLanguageModel lm = new(Checkpoint.Open(Repository.Nano), threads: 2);
        int[][] prompts = [.. Enumerable.Range(0, 12).Select(i => Enumerable.Range(i * 3, 4 + (i * 5)).ToArray())];
        GenerationOptions options = new() { MaximumNewTokens = 20, Temperature = 0.8f, TopK = 20, TopP = 0.9f, Seed = 5 };
        IReadOnlyList<int>[] alone = [.. prompts.Select(prompt => lm.Generate([prompt], options)[0].Ids)];
        IReadOnlyList<int>[] together = new IReadOnlyList<int>[prompts.Length];
        Parallel.For(0, prompts.Length, new ParallelOptions { MaxDegreeOfParallelism = 4 }, i => together[i] = lm.Generate([prompts[i]], options)[0].Ids);
        Assert.Equal(alone, together);
    }

    [Theory]
    [MemberData(nameof(Precisions))]
    public void Dropped_without_dispose_everything_is_freed(WeightPrecision precision)
    {
        NativeCounts before = NativeCounts.Settled();
        long bytes = NativeBuffer.LiveBytes;
        Drop(precision);
        Assert.True(NativeCounts.Return(before), $"{NativeCounts.Now} instead of {before}");
        Assert.Equal(bytes, NativeBuffer.LiveBytes);
    }

    [Theory]
    [MemberData(nameof(Precisions))]
    public void Whichever_native_call_fails_nothing_is_left_and_the_error_is_typed(WeightPrecision precision)
    {
        Checkpoint nano = Checkpoint.Open(Repository.Nano);
        LoraAdapter adapter = LoraAdapter.Create(new LoraOptions { Rank = 2 }, nano, 1);
        GenerationOptions options = new() { MaximumNewTokens = 2 };
        List<Exception> ends = Failing.AtEveryCall(_ => new InsufficientMemoryException("injected"), () =>
        {
            using CausalLanguageModel lm = new(nano, adapter, threads: 1, precision: precision);
            lm.Generate([[1, 2, 3], [4]], options);
        });
        Assert.True(ends.Count > 20, $"{ends.Count}");
        Assert.All(ends, end => Assert.IsType<NativeMemoryException>(end));
    }

    [Fact]
    public void A_failed_call_leaves_the_model_as_it_was()
    {
        using CausalLanguageModel lm = new(Checkpoint.Open(Repository.Nano), threads: 1);
        GenerationOptions options = new() { MaximumNewTokens = 6 };
        IReadOnlyList<int> expected = lm.Generate([[1, 2, 3]], options)[0].Ids;
        List<Exception> ends = Failing.AtEveryCall(kind => kind == "allocation" ? new InsufficientMemoryException("injected") : Failing.Runtime("injected"),
            () => lm.Generate([[1, 2, 3]], options));
        Assert.Contains(ends, end => end is NativeMemoryException);
        Assert.All(ends.Where(end => end is not NativeMemoryException),
            end => Assert.Contains("injected", Assert.IsType<MLNetLoraException>(end).Message, StringComparison.Ordinal));
        Assert.Equal(expected, lm.Generate([[1, 2, 3]], options)[0].Ids);
    }

    [Fact]
    public void Without_a_native_runtime_the_message_names_the_package()
    {
        Checkpoint nano = Checkpoint.Open(Repository.Nano);
        List<Exception> ends = Failing.AtEveryCall(kind => kind == "allocation" ? new InsufficientMemoryException("injected") : new TypeInitializationException(
            "NativeMethods", new DllNotFoundException("onnxruntime")), () =>
        {
            using CausalLanguageModel lm = new(nano, threads: 1);
        });
        Assert.NotEmpty(ends);
        Assert.All(ends, end => Assert.Contains("Microsoft.ML.OnnxRuntime (CPU)", Assert.IsType<MLNetLoraException>(end).Message, StringComparison.Ordinal));
    }

    [Fact]
    public void Threads_are_handed_on_and_bounded()
    {
        Checkpoint nano = Checkpoint.Open(Repository.Nano);
        using CausalLanguageModel few = new(nano, threads: 1);
        int before = Count();
        using CausalLanguageModel many = new(nano, threads: 41);
        Assert.InRange(Count() - before, 32, 48);
        before = Count();
        using TextGenerator generator = new(nano, threads: 41);
        Assert.InRange(Count() - before, 32, 48);
        Assert.Contains("threads is 1000", Assert.Throws<OptionException>(() => new CausalLanguageModel(nano, threads: 1000)).Message,
            StringComparison.Ordinal);
        Assert.Throws<OptionException>(() => new TextGenerator(nano, threads: -1));

        static int Count()
        {
            using System.Diagnostics.Process process = System.Diagnostics.Process.GetCurrentProcess();
            return process.Threads.Count;
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Drop(WeightPrecision precision)
    {
        Checkpoint nano = Checkpoint.Open(Repository.Nano);
        CausalLanguageModel lm = new(nano, LoraAdapter.Create(new LoraOptions { Rank = 2 }, nano, 1), threads: 1, precision: precision);
        lm.Generate([[1, 2, 3]], new GenerationOptions { MaximumNewTokens = 3 });
    }

    /// <summary>What somebody else changes while it is read.</summary>
    private sealed class ChangedMeanwhile : IReadOnlyDictionary<int, float>
    {
        public bool HasChanged { get; set; }

        public int Count => 0;

        public IEnumerable<int> Keys => [];

        public IEnumerable<float> Values => [];

        public float this[int key] => 0;

        public bool ContainsKey(int key) => false;

        public bool TryGetValue(int key, out float value) => (value = 0) != 0;

        public IEnumerator<KeyValuePair<int, float>> GetEnumerator() =>
            HasChanged ? throw new InvalidOperationException("It was changed.") : Enumerable.Empty<KeyValuePair<int, float>>().GetEnumerator();

        System.Collections.IEnumerator System.Collections.IEnumerable.GetEnumerator() => GetEnumerator();
    }
}
