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

    /// <summary>Rows of the embedding that are trained with the adapter; null for none.</summary>
    public TrainedTokens? Tokens { get; init; }

    /// <summary>Layers whose factors of the start are taken out of the base (PiSSA); the session is given them beside the trained ones.</summary>
    public IReadOnlyList<LoraModule> Initial { get; init; } = [];

    /// <summary>The inputs for those of a layer, A and B.</summary>
    public static (string A, string B) InitialNames(LoraModule lora) => (lora.KeyA + ".initial", lora.KeyB + ".initial");

    /// <summary>An adapter on a frozen base.</summary>
    /// <exception cref="CheckpointException">config.json asks for a loss that is not implemented.</exception>
    public static TrainingTarget Lora(Checkpoint checkpoint, LoraOptions options)
    {
        if (checkpoint.Config.Experts is { AuxiliaryLoss: > 0 and var factor })
        {
            string file = Path.Combine(checkpoint.Folder, QwenConfig.FileName);
            throw new CheckpointException($"{file}: output_router_logits is true, with which transformers adds {factor} times a loss that balances experts; "
                + "training has none here. Set it to false, its default.");
        }

        AdapterParts parts = AdapterParts.Resolve(options, checkpoint.Architecture, checkpoint.Config);
        return new TrainingTarget(checkpoint.Config, checkpoint.Architecture, checkpoint, parts.Modules, options.Dropout)
        {
            Saved = parts.Saved,
            Tokens = parts.Tokens,
        };
    }

    /// <summary>Every parameter of a model.</summary>
    public static TrainingTarget Full(QwenConfig config) => new(config, Architecture.Find(config.ModelType, QwenConfig.FileName), null, [], 0);

    /// <summary>The tensors that training changes.</summary>
    public IReadOnlyList<TrainableTensor> Trainables => Checkpoint is null
        ? TrainableTensor.Of(Architecture, Config)
        : [.. new AdapterParts(Loras, Saved, Tokens).Tensors.Select(
            tensor => new TrainableTensor(tensor.Key, tensor.Shape, tensor.Decays) { IsEmbedding = tensor.IsEmbedding })];

    /// <summary>Most parts of the loss: where the output layer is trained, every part has a gradient of its size.</summary>
    public int MaximumLossChunks => Checkpoint is null || Saved.Any(tensor => tensor.Base.Name == Architecture.HeadName(Config)) ? 4 : 64;
}
