using MLNetLora.Checkpoints;
using MLNetLora.Onnx;

namespace MLNetLora.Models;

/// <summary>What a tensor is to its model.</summary>
internal enum TensorKind
{
    /// <summary>Rows looked up by token id: [vocabulary, hidden].</summary>
    Embedding,

    /// <summary>Weight of a linear layer inside a block, which an adapter can be put on: [out, in].</summary>
    Linear,

    /// <summary>Bias of a linear layer: [out].</summary>
    Bias,

    /// <summary>Factors of a norm: [size of the last axis].</summary>
    Norm,

    /// <summary>Weight of the output layer: [vocabulary, hidden].</summary>
    Head,

    /// <summary>Weight that says which experts a token goes to, in transformers no linear layer but a bare parameter: [experts, hidden].</summary>
    Router,

    /// <summary>A matrix of one of many experts, in transformers a slice of a bare parameter: [out, in].</summary>
    Expert,

    /// <summary>Kernels of a convolution along the sequence, one for each channel: [channels, 1, taps].</summary>
    Convolution,

    /// <summary>How fast the heads of a recurrence forget: [heads].</summary>
    Rate,
}

/// <summary>Where a tensor is a slice of another one: the experts' matrices in files that hold them stacked.</summary>
/// <param name="Name">Name of the stack.</param>
/// <param name="Shape">Its sizes.</param>
/// <param name="First">First element of the slice.</param>
internal sealed record StackSlice(string Name, IReadOnlyList<long> Shape, long First);

/// <summary>A tensor that a checkpoint of some architecture must hold.</summary>
/// <param name="Name">Name in the checkpoint.</param>
/// <param name="Kind">What it is.</param>
/// <param name="Shape">Sizes of its axes.</param>
internal sealed record TensorSpec(string Name, TensorKind Kind, params IReadOnlyList<long> Shape)
{
    /// <summary>Where it lies in checkpoints that hold it in a stack; null for tensors that never do.</summary>
    public StackSlice? Stack { get; init; }

    /// <summary>Whether weight decay applies when it is trained: not to norms and biases.</summary>
    public bool Decays => Kind is not (TensorKind.Norm or TensorKind.Bias);

    /// <summary>Draws a number of it before any training; null for what is usual of its kind: normal numbers of standard deviation 0.02, norms 1,
    /// biases 0.</summary>
    public Func<Random, float>? Initial { get; init; }
}

/// <summary>A linear layer that an adapter can be put on.</summary>
/// <param name="Name">Module name: the weight's name without ".weight".</param>
/// <param name="In">Inputs.</param>
/// <param name="Out">Outputs.</param>
internal sealed record LinearModule(string Name, int In, int Out);

/// <summary>
/// One model family: how it reads its config.json, what its checkpoints hold, how its parts are computed. Each is one file beside this one, its parts always in
/// this order. Names of a checkpoint's tensors stand in those files alone.
/// </summary>
internal abstract class Architecture
{
    /// <summary>Every family this library knows.</summary>
    public static IReadOnlyList<Architecture> All { get; } = [new Qwen1(), new Qwen2(), new Qwen3(), new Qwen2Moe(), new Qwen3Moe(), .. Qwen35.Layouts];

    /// <summary>model_type in config.json.</summary>
    public abstract string ModelType { get; }

    /// <summary>The family of a model_type.</summary>
    /// <param name="modelType">model_type.</param>
    /// <param name="file">Where it stands, for the message.</param>
    /// <exception cref="CheckpointException">No family has it.</exception>
    public static Architecture Find(string modelType, string file) => All.FirstOrDefault(family => family.ModelType == modelType)
        ?? throw new CheckpointException(
            $"{file}: model_type is '{modelType}'; this version knows {string.Join(", ", All.Select(family => family.ModelType))}.");

    /// <summary>The layers that PEFT puts an adapter on where adapter_config.json names none
    /// (TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING).</summary>
    public virtual IReadOnlyList<string> DefaultTargets => ["q_proj", "v_proj"];

    /// <summary>What other families call linear layers: their name, and the end of the name here.</summary>
    public virtual IReadOnlyDictionary<string, string> OtherNames { get; } = new Dictionary<string, string>
    {
        ["c_attn"] = "q_proj, k_proj, v_proj",
        ["w1"] = "up_proj",
        ["w2"] = "gate_proj",
        ["c_proj"] = "o_proj, down_proj",
    };

    /// <summary>
    /// Names that linear layers had before transformers 5 made bare parameters of them, and the ends of those parameters' names: where PEFT still takes the old
    /// names for targets (transformers_weight_conversion). Empty for the other families.
    /// </summary>
    public virtual IReadOnlyDictionary<string, string> RenamedTargets { get; } = new Dictionary<string, string>();

    /// <summary>Reads what config.json says of a model of this family.</summary>
    /// <exception cref="CheckpointException">A field is missing or impossible.</exception>
    public abstract QwenConfig ReadConfig(ConfigFile file);

    /// <summary>Module name of the embedding.</summary>
    public abstract string EmbeddingName { get; }

    /// <summary>All tensors of a model, in the order of the forward pass; where the output layer is the embedding, that is there once.</summary>
    public abstract IEnumerable<TensorSpec> Tensors(QwenConfig c);

    /// <summary>Whether a tensor that is not one of <see cref="Tensors"/> belongs to the model all the same: to a part of it that text never touches.</summary>
    /// <param name="name">Name in the checkpoint.</param>
    public virtual bool IsBeside(string name) => false;

    /// <summary>Whether such a tensor goes into a checkpoint that is written after every weight was trained: where it <see cref="IsBeside"/>, and where
    /// transformers leaves it out when it loads, but others read it. What is only there twice, such as a copy of a tied output layer, does not.</summary>
    /// <param name="name">Name in the checkpoint.</param>
    public virtual bool IsKept(string name) => IsBeside(name);

    /// <summary>What generation keeps of the tokens so far, for each layer in order.</summary>
    public virtual IEnumerable<CacheState> States(QwenConfig c) =>
        Enumerable.Range(0, c.NumHiddenLayers).SelectMany(layer => CacheState.KeysAndValues(c, layer));

    /// <summary>Looks up the embedding: [tokens] 64-bit → [tokens, hidden].</summary>
    public abstract Value Embed(ModelGraph m, Value ids);

    /// <summary>Emits one layer: [tokens, hidden] → [tokens, hidden], in the last layer → [rows, hidden].</summary>
    public abstract Value Block(ModelGraph m, int layer, Value x);

    /// <summary>The norm before the output layer: [rows, hidden] → [rows, hidden].</summary>
    public abstract Value FinalNorm(ModelGraph m, Value x);

    /// <summary>Name of the output layer's weight, [vocabulary, hidden]: the embedding's where the two are tied.</summary>
    public string HeadName(QwenConfig c) => Tensors(c).Last(tensor => tensor.Kind is TensorKind.Head or TensorKind.Embedding).Name;

    /// <summary>The linear layers inside the blocks, in order: what "all-linear" means (PEFT leaves the output layer out).</summary>
    public IEnumerable<LinearModule> Linears(QwenConfig c) =>
        from tensor in Tensors(c)
        where tensor.Kind == TensorKind.Linear
        select new LinearModule(tensor.Name[..^".weight".Length], (int)tensor.Shape[1], (int)tensor.Shape[0]);
}
