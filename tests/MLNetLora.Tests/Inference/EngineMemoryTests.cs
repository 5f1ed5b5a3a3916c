using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.Tests.Inference;

/// <summary>A model that cannot fit is refused before anything is allocated, with what would fit.</summary>
public sealed class EngineMemoryTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_GPU_holds_all_weights_and_says_what_would_fit()
    {
        Checkpoint nano = Checkpoint.Open(Repository.Nano); // bf16, tied
        long all = EngineMemory.OnGpu(nano, null);
        Assert.Equal(nano.Tensors.Values.Sum(tensor => tensor.Entry.Length), all);
        long eight = EngineMemory.OnGpu(nano, new BlockWeights(nano, WeightPrecision.Int8));
        long embedding = (long)nano.Config.VocabSize * nano.Config.HiddenSize; // looked up in 16 bits, and in 8 as the output layer
        long linears = nano.Architecture.Linears(nano.Config).Sum(module => (long)module.In * module.Out);
        Assert.InRange(eight, (2 * embedding) + (1.0 * (embedding + linears)), (2 * embedding) + (1.1 * (embedding + linears)));
        MachineMemory.Given = eight;
        try
        {
            string message = Assert.Throws<OptionException>(() => EngineMemory.Require(new CudaDevice(), nano, WeightPrecision.Checkpoint, null)).Message;
            Assert.Contains("of cuda:0 for its weights, and it has", message, StringComparison.Ordinal);
            Assert.Contains("Set WeightPrecision to Int8 (", message, StringComparison.Ordinal);
            EngineMemory.Require(new CudaDevice(), nano, WeightPrecision.Int8, new BlockWeights(nano, WeightPrecision.Int8));
            MachineMemory.Given = all;
            EngineMemory.Require(new CudaDevice(), nano, WeightPrecision.Checkpoint, null);
        }
        finally
        {
            MachineMemory.Given = null;
        }
    }

    [Fact]
    public void What_is_not_used_as_the_file_has_it_is_counted()
    {
        Checkpoint nano = Checkpoint.Open(Repository.Nano); // bf16, tied
        long linears = nano.Architecture.Linears(nano.Config).Sum(module => (long)module.In * module.Out);
        long head = (long)nano.Config.VocabSize * nano.Config.HiddenSize;
        Assert.Equal(sizeof(float) * (linears + head), EngineMemory.Of(nano, null));
        Assert.Equal(0, EngineMemory.Of(TinyModel.WriteCheckpoint(_folder.File("base")), null)); // float32: mapped

        // Twice the packed numbers, and 4 bytes of scale for a block of 128, with a half more for the zero point of 4 bits.
        long eight = EngineMemory.Of(nano, new BlockWeights(nano, WeightPrecision.Int8));
        long four = EngineMemory.Of(nano, new BlockWeights(nano, WeightPrecision.Int4));
        Assert.InRange(eight, 2 * (linears + head), 2.1 * (linears + head));
        Assert.InRange(four, linears + head, 1.1 * (linears + head));
    }

    [Fact]
    public void It_is_refused_with_what_would_fit()
    {
        Checkpoint nano = Checkpoint.Open(Repository.Nano);
        long eight = EngineMemory.Of(nano, new BlockWeights(nano, WeightPrecision.Int8));
        string four = MachineMemory.Gigabytes(EngineMemory.Of(nano, new BlockWeights(nano, WeightPrecision.Int4)));
        Assert.EndsWith($" Set WeightPrecision to Int8 ({MachineMemory.Gigabytes(eight)}) or Int4 ({four}).", Refusal(eight, WeightPrecision.Checkpoint),
            StringComparison.Ordinal);
        Assert.Contains("float32 copies of its 16-bit weights", Refusal(eight, WeightPrecision.Checkpoint), StringComparison.Ordinal);
        Assert.EndsWith($" Set WeightPrecision to Int4 ({four}).", Refusal(eight - 1, WeightPrecision.Int8), StringComparison.Ordinal);
        Assert.EndsWith(" Take a smaller model, or a machine with more.", Refusal(1000, WeightPrecision.Int4), StringComparison.Ordinal);
        MachineMemory.Given = eight;
        try
        {
            using CausalLanguageModel fits = new(nano, precision: WeightPrecision.Int8);
        }
        finally
        {
            MachineMemory.Given = null;
        }

        string Refusal(long bytes, WeightPrecision precision)
        {
            MachineMemory.Given = bytes;
            try
            {
                return Assert.Throws<OptionException>(() => new CausalLanguageModel(nano, precision: precision)).Message;
            }
            finally
            {
                MachineMemory.Given = null;
            }
        }
    }
}
