namespace MLNetLora.Training;

/// <summary>Which optimizer makes the steps. Each clips the gradients by their global norm first.</summary>
/// <remarks>
/// The "paged" optimizers of bitsandbytes (paged_adamw_8bit, paged_adamw_32bit) compute what the others compute; they differ in where a GPU keeps
/// the states when its memory is short. Here the states of a run on the processor are in the machine's memory, which the system pages by itself, and
/// those on a GPU stay there, so the paged names stand for the same optimizers (<see cref="OptimizerNames"/>).
/// </remarks>
public enum OptimizerKind
{
    /// <summary>AdamW, decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101), two states in 32 bits: 8 bytes for each trained number. The
    /// peers' name: adamw_torch.</summary>
    AdamW,

    /// <summary>
    /// AdamW with both states in 8 bits (Dettmers et al. 2022, arXiv:2110.02861): 2.03 bytes for each trained number. Blocks of 256 numbers of a tensor share
    /// an absmax; tensors of fewer than 4096 numbers and embeddings keep 32 bits. The peers' names: adamw_bnb_8bit, adamw_8bit, paged_adamw_8bit.
    /// </summary>
    AdamW8Bit,

    /// <summary>Gradient descent without momentum, and so without states: p − lr·(g + weight_decay·p). The peers' name: sgd.</summary>
    Sgd,

    /// <summary>Lion (Chen et al. 2023, arXiv:2302.06675), one state in 32 bits: steps of the size of the learning rate, which wants to be three to ten
    /// times smaller than AdamW's. The peers' name: lion_32bit.</summary>
    Lion,
}

/// <summary>The names that transformers has for optimizers (TrainingArguments.optim).</summary>
public static class OptimizerNames
{
    private static readonly Dictionary<string, OptimizerKind> s_kinds = new(StringComparer.Ordinal)
    {
        ["adamw_torch"] = OptimizerKind.AdamW,
        ["adamw_torch_fused"] = OptimizerKind.AdamW,
        ["adamw_hf"] = OptimizerKind.AdamW,
        ["adamw_apex_fused"] = OptimizerKind.AdamW,
        ["paged_adamw_32bit"] = OptimizerKind.AdamW,
        ["adamw_bnb_8bit"] = OptimizerKind.AdamW8Bit,
        ["adamw_8bit"] = OptimizerKind.AdamW8Bit,
        ["paged_adamw_8bit"] = OptimizerKind.AdamW8Bit,
        ["sgd"] = OptimizerKind.Sgd,
        ["lion_32bit"] = OptimizerKind.Lion,
        ["paged_lion_32bit"] = OptimizerKind.Lion,
    };

    /// <summary>The optimizer of a name.</summary>
    /// <param name="optim">Such as paged_adamw_8bit.</param>
    /// <exception cref="OptionException">There is none of this name; the message lists those that there are.</exception>
    public static OptimizerKind Parse(string optim) => s_kinds.TryGetValue(optim ?? throw new ArgumentNullException(nameof(optim)), out OptimizerKind kind)
        ? kind
        : throw new OptionException($"There is no optimizer '{optim}' (optim); there are {string.Join(", ", s_kinds.Keys)}.");
}
