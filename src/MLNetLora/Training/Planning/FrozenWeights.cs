using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;

namespace MLNetLora.Training.Planning;

/// <summary>The frozen weights of a run as far as they stay in files.</summary>
internal static class FrozenWeights
{
    private const int Block = 64; // numbers with one scale, in 4 bits

    /// <summary>Bytes of files that each micro-batch reads through memory: those of weights that are not copied, in the precision that is asked for.</summary>
    public static double MappedBytes(PlannedRun run)
    {
        if (run.Lora is null)
        {
            return 0; // they are parameters
        }

        (QwenConfig config, Architecture architecture) = (run.Checkpoint.Config, run.Checkpoint.Architecture);
        HashSet<string> linears = [.. architecture.Linears(config).Select(module => module.Name + ".weight")];
        string head = architecture.HeadName(config);
        double scale = run.Training.Precision is WeightPrecision.Nf4Double or WeightPrecision.Fp4Double ? 1 : sizeof(float);
        return run.Checkpoint.Tensors.Values.Sum(Bytes);

        double Bytes(CheckpointTensor tensor)
        {
            bool isLinear = linears.Contains(tensor.Entry.Name);
            bool isCopied = run.Training.PrepackWeights ? isLinear || tensor.Entry.Name == head : isLinear && run.Training.Precision == WeightPrecision.Int8;
            return isCopied ? 0
                : tensor.FourBit is not null ? tensor.Parts.Sum(part => (double)part.Entry.Length)
                : isLinear && run.Training.Precision is not (WeightPrecision.Checkpoint or WeightPrecision.Int8) ? tensor.Entry.Count * (0.5 + (scale / Block))
                : tensor.Entry.Length;
        }
    }
}
