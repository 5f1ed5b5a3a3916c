using MLNetLora.Onnx;

namespace MLNetLora.Models;

/// <summary>A tensor that a checkpoint of some architecture must hold.</summary>
/// <param name="Name">Name in the checkpoint.</param>
/// <param name="Shape">Sizes of its axes.</param>
/// <param name="Decays">Whether weight decay applies when it is trained: not to norms and biases.</param>
public sealed record TensorSpec(string Name, IReadOnlyList<long> Shape, bool Decays = true);

/// <summary>A linear layer that an adapter can be put on.</summary>
/// <param name="Name">Module name: the weight's name without ".weight".</param>
/// <param name="In">Inputs.</param>
/// <param name="Out">Outputs.</param>
public sealed record LinearModule(string Name, int In, int Out);

/// <summary>One model family as data: what its checkpoints hold and how its layers are computed. Each family is one file beside this one, its parts always in the same order.</summary>
/// <param name="ModelType">model_type in config.json.</param>
/// <param name="DefaultRopeTheta">rope_theta where config.json has none (the class default in transformers).</param>
/// <param name="AlwaysAttentionBias">Whether q, k and v have a bias whatever config.json says.</param>
/// <param name="Tensors">The tensors of a layer, given the configuration and the layer's number.</param>
/// <param name="Block">Emits one layer: [tokens, hidden] → [tokens, hidden].</param>
internal sealed record Architecture(string ModelType, double DefaultRopeTheta, bool AlwaysAttentionBias,
    Func<QwenConfig, int, IEnumerable<TensorSpec>> Tensors, Func<ModelGraph, int, Value, Value> Block)
{
    /// <summary>Every family this library knows.</summary>
    public static IReadOnlyList<Architecture> All { get; } = [Qwen2.Architecture, Qwen3.Architecture];

    /// <summary>The family of a model_type.</summary>
    public static Architecture Find(string modelType, string file) => All.FirstOrDefault(a => a.ModelType == modelType)
        ?? throw new CheckpointException($"{file}: model_type is '{modelType}'; this version knows {string.Join(" and ", All.Select(a => a.ModelType))}.");

    /// <summary>All tensors of a model, in the order of the forward pass.</summary>
    public IEnumerable<TensorSpec> AllTensors(QwenConfig c) =>
    [
        new("model.embed_tokens.weight", [c.VocabSize, c.HiddenSize]),
        .. Enumerable.Range(0, c.NumHiddenLayers).SelectMany(layer => Tensors(c, layer)),
        new("model.norm.weight", [c.HiddenSize], Decays: false),
        .. c.TieWordEmbeddings ? Array.Empty<TensorSpec>() : [new TensorSpec("lm_head.weight", [c.VocabSize, c.HiddenSize])],
    ];

    /// <summary>Name of the output layer's weight: the embedding's where the two are tied.</summary>
    public static string HeadName(QwenConfig c) => c.TieWordEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight";

    /// <summary>The linear layers inside the blocks, in order: what "all-linear" means (PEFT leaves the output layer out).</summary>
    public IEnumerable<LinearModule> Linears(QwenConfig c) =>
        from layer in Enumerable.Range(0, c.NumHiddenLayers)
        from tensor in Tensors(c, layer)
        where tensor.Shape.Count == 2
        select new LinearModule(tensor.Name[..^".weight".Length], (int)tensor.Shape[1], (int)tensor.Shape[0]);
}
