using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.Tests.Inference;

/// <summary>The memory of quantized weights is given back only where the session does not read it.</summary>
public sealed class BlockMemoryTests
{
    [Theory]
    [InlineData(WeightPrecision.Int8)]
    [InlineData(WeightPrecision.Int4)]
    public void What_a_session_still_reads_is_quantized_again(WeightPrecision precision)
    {
        BlockWeights weights = new(Checkpoint.Open(Repository.Nano), precision);
        using BlockMemory memory = new(weights, threads: 2, CancellationToken.None);
        byte[][] before = Packed(weights, memory);
        Assert.All(before, bytes => Assert.Contains(bytes, b => b != 0));
        int runs = 0;
        memory.FreePacked(() =>
        {
            runs++;
            return [Packed(weights, memory).Sum(bytes => bytes.Sum(b => (float)b))];
        }, CancellationToken.None);
        Assert.Equal(2, runs);
        Assert.Equal(before, Packed(weights, memory));

        // Quantizing takes minutes at real sizes: a token ends it the second time as it does the first.
        using CancellationTokenSource source = new();
        Assert.ThrowsAny<OperationCanceledException>(() => memory.FreePacked(() => [runs++ == 3 ? Cancel(source) : 1], source.Token));

        static float Cancel(CancellationTokenSource source)
        {
            source.Cancel();
            return 2;
        }
    }

    [LinuxFact]
    public void What_a_session_has_copied_is_given_back()
    {
        BlockWeights weights = new(Checkpoint.Open(Repository.Nano), WeightPrecision.Int8);
        using BlockMemory memory = new(weights, threads: 2, CancellationToken.None);
        float[] scales = memory.Initializers[weights.Scales.First().Name].Span<float>().ToArray();
        memory.FreePacked(() => [1], CancellationToken.None); // reads nothing, as a session with its own copy
        Assert.All(Packed(weights, memory), bytes => Assert.All(bytes, b => Assert.Equal(0, b)));
        Assert.Equal(scales, memory.Initializers[weights.Scales.First().Name].Span<float>().ToArray());
    }

    [Fact]
    public void A_session_that_was_asked_answers_as_before()
    {
        // The whole way: loading asks the session, and what it computes afterwards is what it computed then.
        Checkpoint nano = Checkpoint.Open(Repository.Nano);
        using CausalLanguageModel once = new(nano, threads: 1, precision: WeightPrecision.Int8);
        float[] first = once.Logits([3, 5, 8]);
        using CausalLanguageModel again = new(nano, threads: 1, precision: WeightPrecision.Int8);
        Assert.Equal(first, again.Logits([3, 5, 8]));
        Assert.Equal(first, once.Logits([3, 5, 8]));
    }

    private static byte[][] Packed(BlockWeights weights, BlockMemory memory) =>
        [.. weights.Packed.Select(tensor => memory.Initializers[tensor.Name].Span<byte>().ToArray())];
}
