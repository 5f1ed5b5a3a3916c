using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Onnx.Differentiable;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;

namespace MLNetLora.Training;

/// <summary>
/// What a run takes of private memory at the least, known before anything is allocated: a run that cannot fit is refused in words instead of ended by the
/// system's memory killer. On a processor the frozen weights are not in it; they stay in the checkpoint's files, which the system reads again when memory is
/// short. A GPU holds them.
/// </summary>
/// <param name="Parameters">Bytes of the trained parameters, their gradients and the optimizer's states, and of the adapter outside the runtime.</param>
/// <param name="Activations">Bytes that the largest micro-batch keeps for its backward pass, dropout masks included.</param>
/// <param name="Copies">Bytes of the copies of frozen weights that the options ask for.</param>
internal sealed record MemoryEstimate(long Parameters, long Activations, long Copies)
{
    private const long MostOfOne = (long)int.MaxValue * sizeof(long); // DeviceMemory.Allocate

    /// <summary>Bytes of the trained parameters alone.</summary>
    public long VectorBytes { get; init; }

    /// <summary>Bytes of the frozen weights on a GPU; 0 on a processor.</summary>
    public long Weights { get; init; }

    /// <summary>All of it.</summary>
    public long Bytes => Parameters + Activations + Copies + Weights;

    /// <summary>The estimate for a run.</summary>
    /// <param name="target">What is trained.</param>
    /// <param name="options">How.</param>
    /// <param name="plan">How the graphs are cut.</param>
    /// <param name="sequences">What is learned.</param>
    public static MemoryEstimate Of(TrainingTarget target, TrainingOptions options, ChunkPlan plan, IReadOnlyList<TrainingRow[]> sequences)
    {
        const int Vectors = 2; // parameters, gradients
        bool isOnGpu = options.Device is CudaDevice;
        bool isReduced = isOnGpu && options.UsedComputeType != ComputeType.Float32;
        int number = isReduced ? sizeof(short) : sizeof(float); // bytes of an activation
        bool captures = options.Device is CudaDevice { Graphs: true }; // which takes the gradients once more
        bool isStarted = target.Checkpoint is not null && !isOnGpu; // from an adapter on the managed heap
        int vectors = captures || isStarted ? Vectors + 1 : Vectors;
        IReadOnlyList<TrainableTensor> tensors = target.Trainables;
        long parameters = (vectors * sizeof(float) * tensors.Sum(tensor => tensor.Count)) + Optimizers.Of(options).StateBytes(tensors);
        long rows = Math.Min(options.BatchSize, sequences.Count);
        long tokens = rows * sequences.Max(sequence => sequence.Sum(row => (long)row.InputIds.Length));
        long labels = sequences.Select(sequence => (long)sequence.Sum(row => row.LabelTokens)).OrderDescending().Take(options.BatchSize).Sum();
        long scored = labels / Math.Max(1, plan.Loss);
        long logits = scored * target.Config.VocabSize;
        long trained = target.Tokens?.Ids.Count ?? 0; // of each token whether it is one of these; of what is scored too where the output layer is the embedding
        long matches = (tokens + (target.Config.TieWordEmbeddings ? scored : 0)) * trained;
        long masks = target.Dropout > 0 && !isOnGpu ? tokens * target.Loras.Sum(lora => (long)DropoutMask.RowBytes(lora.Module.In)) : 0;
        long activations = (number * tokens * FloatsPerToken(target.Config, options)) + (sizeof(float) * (logits + matches)) + masks;
        long copies = target.Checkpoint switch
        {
            { } checkpoint when options.PrepackWeights => Prepacking.Bytes(checkpoint, options.Precision),
            { } checkpoint when options.Precision == WeightPrecision.Int8 => Prepacking.Int8Bytes(checkpoint),
            _ => 0,
        };
        bool isFourBit = options.Precision is WeightPrecision.Nf4 or WeightPrecision.Nf4Double or WeightPrecision.Fp4 or WeightPrecision.Fp4Double;
        long vector = sizeof(float) * tensors.Sum(tensor => tensor.Count);

        // On a device of others what is in the process's memory for certain: the parameters alone, and new gradients beside the old ones.
        return options.Device is CustomDevice ? new MemoryEstimate(parameters + vector, 0, copies) : new MemoryEstimate(parameters, activations, copies)
        {
            VectorBytes = vector,
            Weights = isOnGpu && target.Checkpoint is { } frozen ? WeightBytes(target, frozen, isFourBit, isReduced) : 0,
        };
    }

    /// <summary>Whether the machine, or the GPU, has as much memory as this.</summary>
    /// <param name="device">Where the run is.</param>
    public bool Fits(Device? device) => device is CudaDevice gpu ? VectorBytes <= MostOfOne && Lack(gpu) is null : Bytes <= MachineMemory.Available;

    /// <summary>Refuses the run where the machine, or the GPU, has less memory than this.</summary>
    /// <param name="run">The run that this is the estimate of.</param>
    /// <exception cref="OptionException">It has; the message has the figures, and says what options would save.</exception>
    public void Require(RunMemory run)
    {
        if (run.Options.Device is CudaDevice gpu)
        {
            MLNetLora.Require.That(VectorBytes <= MostOfOne, "The trained parameters", FormattableString.Invariant($"{VectorBytes / 1e9:F2} GB"),
                $"at most 17.18 GB on {gpu}, where they stand in one piece: train an adapter instead of every weight, fewer of ModulesToSave, or on the "
                + "processor");
            RequireOn(gpu, run);
            return;
        }

        long available = MachineMemory.Available;
        if (Bytes <= available)
        {
            return;
        }

        string copies = Copies > 0 ? $", {Gigabytes(Copies)} for copies of weights" : "";
        throw new OptionException(
            $"The training would take at least {Gigabytes(Bytes)} and there are {Gigabytes(available)} of memory: "
            + $"{Gigabytes(Parameters)} for the trained parameters with gradients and the optimizer's states, "
            + $"{Gigabytes(Activations)} for the activations of the largest micro-batch{copies}. {MemoryRemedies.Sufficient(run)}");
    }

    /// <summary>How much less a GPU has, as words; null where it has as much.</summary>
    private string? Lack(CudaDevice gpu) =>
        // The limit is one for weights and parameters, and one for each session's activations.
        MachineMemory.Of(gpu) is long memory && Bytes > memory ? $"which has {Gigabytes(memory)}"
            : gpu.MemoryLimit is long limit && Math.Max(Weights + Parameters, Activations) > limit
                ? $"whose {nameof(CudaDevice.MemoryLimit)} is {Gigabytes(limit)} for weights and parameters, and as much for activations"
            : null;

    private void RequireOn(CudaDevice gpu, RunMemory run)
    {
        if (Lack(gpu) is not { } has)
        {
            return;
        }

        throw new OptionException(
            $"The training would take at least {Gigabytes(Bytes)} of {gpu}, {has}: {Gigabytes(Weights)} for the frozen weights, "
            + $"{Gigabytes(Parameters)} for the trained parameters with gradients and the optimizer's states, "
            + $"{Gigabytes(Activations)} for the activations of the largest micro-batch. {MemoryRemedies.Sufficient(run)}");
    }

    /// <summary>Bytes of a checkpoint's weights on a GPU: matrices in the type that is computed in, linear layers in 4 bits where that is asked for.</summary>
    private static long WeightBytes(TrainingTarget target, Checkpoint checkpoint, bool isFourBit, bool isReduced)
    {
        HashSet<string> replaced = [.. target.Saved.Select(saved => saved.Base.Name)];
        HashSet<string> linears = [.. checkpoint.Architecture.Linears(checkpoint.Config).Select(module => module.Name + ".weight")];
        return checkpoint.Architecture.Tensors(checkpoint.Config)
            .Where(spec => !replaced.Contains(spec.Name))
            .Select(spec => checkpoint.Tensors.GetValueOrDefault(spec.Name))
            .OfType<CheckpointTensor>()
            .Sum(tensor => tensor.FourBit is not null ? tensor.Parts.Sum(part => part.Entry.Length)
                : isFourBit && linears.Contains(tensor.Entry.Name) ? tensor.Entry.Count / 2
                : isReduced && tensor.Entry.Shape.Count == 2 ? sizeof(short) * tensor.Entry.Count
                : tensor.Entry.Length);
    }

    /// <summary>
    /// What is kept of a token: of each layer its two inputs of the norms, q, k, v, the attention's output, gate and up, of experts those that the token
    /// has; of a recurrent layer the channels before and behind the convolution, the output and its gate in place of attention's; with recomputation the
    /// input of each layer, and one layer whole. What experts return is there three times while it is put in order.
    /// </summary>
    private static long FloatsPerToken(QwenConfig config, TrainingOptions options)
    {
        long heads = (2L * config.NumAttentionHeads) + (2L * config.NumKeyValueHeads); // q and the output, k and v
        long[] layers = [.. Enumerable.Range(0, config.NumHiddenLayers).Select(layer => (2L * config.HiddenSize) + (2 * Intermediate(config, layer))
            + (config.DeltaNet is { } d && d.Layers[layer] ? (2L * d.Channels) + (2L * d.Values) : heads * config.HeadDim))];
        long returned = config.Experts is { } experts ? 3L * experts.PerToken * config.HiddenSize : 0;
        return returned + (options.ActivationCheckpointing ? ((long)config.NumHiddenLayers * config.HiddenSize) + layers.Max() : layers.Sum());
    }

    /// <summary>Outputs of a layer's gates for one token: of its experts, the shared one included, or of the one MLP.</summary>
    private static long Intermediate(QwenConfig config, int layer) => config.Experts is { } experts && experts.IsSparse[layer]
        ? ((long)experts.PerToken * experts.IntermediateSize) + experts.SharedIntermediateSize
        : config.IntermediateSize;

    private static string Gigabytes(long bytes) => MachineMemory.Gigabytes(bytes);
}
