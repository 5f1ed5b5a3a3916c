using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;

namespace MLNetLora.Artifacts;

/// <summary>A tensor that training changes. Which tensors those are is data: LoRA factors, or every parameter of the model.</summary>
/// <param name="Name">PEFT key of a factor, or the checkpoint's name of a parameter.</param>
/// <param name="Shape">Sizes of the axes.</param>
/// <param name="Decays">Whether weight decay applies.</param>
internal sealed record TrainableTensor(string Name, IReadOnlyList<long> Shape, bool Decays)
{
    /// <summary>Whether it is an embedding, or the trained copy of one.</summary>
    public bool IsEmbedding { get; init; }

    /// <summary>Its numbers.</summary>
    public long Count => Shape.Aggregate(1L, (product, size) => product * size);

    /// <summary>The factors of an adapter.</summary>
    public static IReadOnlyList<TrainableTensor> Of(IEnumerable<LoraModule> modules) =>
        [.. modules.SelectMany(m => new TrainableTensor[] { new(m.KeyA, [m.Rank, m.Module.In], true), new(m.KeyB, [m.Module.Out, m.Rank], true) })];

    /// <summary>The tensors of the base that are trained with an adapter.</summary>
    public static IEnumerable<TrainableTensor> Of(IEnumerable<SavedTensor> saved) =>
        saved.Select(tensor => new TrainableTensor(tensor.Key, tensor.Base.Shape, tensor.Base.Decays)
        {
            IsEmbedding = tensor.Base.Kind == TensorKind.Embedding,
        });

    /// <summary>Every parameter of a model.</summary>
    public static IReadOnlyList<TrainableTensor> Of(Architecture architecture, QwenConfig config) =>
        [.. architecture.Tensors(config).Select(spec => new TrainableTensor(spec.Name, spec.Shape, spec.Decays)
        {
            IsEmbedding = spec.Kind == TensorKind.Embedding,
        })];
}

/// <summary>What a training or evaluation graph is built for.</summary>
/// <param name="Config">The model.</param>
/// <param name="Architecture">Its family.</param>
/// <param name="Checkpoint">Where frozen weights lie; null when every parameter is trainable.</param>
/// <param name="Loras">Adapted layers; empty when every parameter is trainable.</param>
/// <param name="Dropout">Dropout on the adapters' inputs.</param>
internal sealed record TrainingTarget(QwenConfig Config, Architecture Architecture, Checkpoint? Checkpoint, IReadOnlyList<LoraModule> Loras, double Dropout)
{
    /// <summary>The frozen layers that the training graph multiplies with in 8-bit integers; null for float32.</summary>
    public Int8Weights? Int8 { get; init; }

    /// <summary>Tensors of the base that are trained whole with the adapter, in the base's place.</summary>
    public IReadOnlyList<SavedTensor> Saved { get; init; } = [];

    /// <summary>An adapter on a frozen base.</summary>
    public static TrainingTarget Lora(Checkpoint checkpoint, LoraOptions options)
    {
        IReadOnlyList<LoraModule> modules = LoraTargets.Resolve(options, checkpoint.Architecture, checkpoint.Config);
        return new TrainingTarget(checkpoint.Config, checkpoint.Architecture, checkpoint, modules, options.Dropout)
        {
            Saved = SavedTensors.Resolve(options, checkpoint.Architecture, checkpoint.Config, modules),
        };
    }

    /// <summary>Every parameter of a model.</summary>
    public static TrainingTarget Full(QwenConfig config) => new(config, Architecture.Find(config.ModelType, QwenConfig.FileName), null, [], 0);

    /// <summary>The tensors that training changes.</summary>
    public IReadOnlyList<TrainableTensor> Trainables => Checkpoint is null
        ? TrainableTensor.Of(Architecture, Config)
        : [.. TrainableTensor.Of(Loras), .. TrainableTensor.Of(Saved)];

    /// <summary>Most parts of the loss: where the output layer is trained, every part has a gradient of its size.</summary>
    public int MaximumLossChunks => Checkpoint is null || Saved.Any(tensor => tensor.Base.Name == Architecture.HeadName(Config)) ? 4 : 64;
}
