using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;

namespace MLNetLora.Training;

/// <summary>What <see cref="TrainingOptions.PrepackWeights"/> asks of the machine.</summary>
internal static class Prepacking
{
    /// <summary>Bytes of the copies, those in the way while a 16-bit checkpoint is loaded included.</summary>
    public static long Bytes(Checkpoint checkpoint, WeightPrecision precision)
    {
        CheckpointTensor head = checkpoint.Tensors[checkpoint.Architecture.HeadName(checkpoint.Config)];
        int each = (2 * sizeof(float)) + (head.Entry.Type == TensorType.Float32 ? 0 : sizeof(float)); // forward and backward, and the upcast one
        long packedHead = each * head.Entry.Count;
        return packedHead + (precision == WeightPrecision.Int8 ? Int8Bytes(checkpoint) : each * Blocks(checkpoint));
    }

    /// <summary>Bytes of the 8-bit copies of the blocks' weights, one for the forward and one for the backward pass.</summary>
    public static long Int8Bytes(Checkpoint checkpoint) => 2 * Blocks(checkpoint);

    /// <summary>Refuses the option for weights of 4 bits, whose copies would be those of float32.</summary>
    /// <exception cref="OptionException">Both are asked for.</exception>
    public static void RequireWhole(Checkpoint checkpoint, TrainingOptions options)
    {
        bool isFourBit = checkpoint.IsFourBit && options.Precision != WeightPrecision.Int8;
        if (options.PrepackWeights && (isFourBit || options.Precision is not (WeightPrecision.Checkpoint or WeightPrecision.Int8)))
        {
            throw new OptionException($"{nameof(options.PrepackWeights)} is true; with weights in 4 bits it must be false: the copies would be in float32.");
        }
    }

    private static long Blocks(Checkpoint checkpoint) => checkpoint.Architecture.Linears(checkpoint.Config).Sum(module => (long)module.In * module.Out);
}
