namespace MLNetLora.Cli.NewCheckpoint;

internal enum Family { Qwen1, Qwen2, Qwen3, Qwen2Moe, Qwen3Moe, Qwen35 }

/// <summary>The numbers of a mixture of experts in every layer.</summary>
/// <param name="Count">Experts of a layer.</param>
/// <param name="PerToken">Experts of a token.</param>
/// <param name="IntermediateSize">Outputs of an expert's gate.</param>
/// <param name="SharedIntermediateSize">Outputs of the shared expert's gate, which Qwen2's mixtures have.</param>
internal sealed record ExpertSize(int Count, int PerToken, int IntermediateSize, int SharedIntermediateSize = 0);

/// <summary>Sizes of gated DeltaNet layers, of which every fourth layer is none.</summary>
internal sealed record DeltaNetSize(int KeyHeads, int ValueHeads, int HeadDimension = 128, int Taps = 4)
{
    public int Keys => KeyHeads * HeadDimension;

    public int Values => ValueHeads * HeadDimension;

    public int Channels => 2 * Keys + Values;

    public static bool IsOne(int layer) => (layer + 1) % 4 != 0;
}

/// <summary>The numbers that decide every tensor's shape.</summary>
internal sealed record ModelSize(
    string Name, Family Family, int Layers, int HiddenSize, int Heads, int KeyValueHeads, int HeadDimension, int IntermediateSize, int VocabularySize,
    bool TiedEmbeddings)
{
    /// <summary>The experts of a mixture; null for a dense model.</summary>
    public ExpertSize? Experts { get; init; }

    /// <summary>Whether q, k and v have a bias, and no norm on every head.</summary>
    public bool IsQwen2 => Family is Family.Qwen2 or Family.Qwen2Moe;

    /// <summary>Null where all layers have attention.</summary>
    public DeltaNetSize? DeltaNet { get; init; }

    /// <summary>The published models (Qwen's config.json, of Qwen3.5 the text alone; torchtune's qwen2_5 and qwen3 model builders; the heads of Qwen3
    /// are 128 wide whatever the hidden size).</summary>
    public static IReadOnlyList<ModelSize> Published { get; } =
    [
        new("Qwen-1_8B", Family.Qwen1, 24, 2048, 16, 16, 128, 5504, 151936, false),
        new("Qwen-7B", Family.Qwen1, 32, 4096, 32, 32, 128, 11008, 151936, false),
        new("Qwen2.5-0.5B", Family.Qwen2, 24, 896, 14, 2, 64, 4864, 151936, true),
        new("Qwen2.5-1.5B", Family.Qwen2, 28, 1536, 12, 2, 128, 8960, 151936, true),
        new("Qwen2.5-3B", Family.Qwen2, 36, 2048, 16, 2, 128, 11008, 151936, true),
        new("Qwen2.5-7B", Family.Qwen2, 28, 3584, 28, 4, 128, 18944, 152064, false),
        new("Qwen2.5-14B", Family.Qwen2, 48, 5120, 40, 8, 128, 13824, 152064, false),
        new("Qwen3-0.6B", Family.Qwen3, 28, 1024, 16, 8, 128, 3072, 151936, true),
        new("Qwen3-1.7B", Family.Qwen3, 28, 2048, 16, 8, 128, 6144, 151936, true),
        new("Qwen3-4B", Family.Qwen3, 36, 2560, 32, 8, 128, 9728, 151936, true),
        new("Qwen3-8B", Family.Qwen3, 36, 4096, 32, 8, 128, 12288, 151936, false),
        new("Qwen3-14B", Family.Qwen3, 40, 5120, 40, 8, 128, 17408, 151936, false),
        new("Qwen3-32B", Family.Qwen3, 64, 5120, 64, 8, 128, 25600, 151936, false),
        new("Qwen1.5-MoE-A2.7B", Family.Qwen2Moe, 24, 2048, 16, 16, 128, 5632, 151936, false) { Experts = new(60, 4, 1408, 5632) },
        new("Qwen3-30B-A3B", Family.Qwen3Moe, 48, 2048, 32, 4, 128, 6144, 151936, false) { Experts = new(128, 8, 768) },
        new("Qwen3.5-0.8B", Family.Qwen35, 24, 1024, 8, 2, 256, 3584, 248320, true) { DeltaNet = new(16, 16) },
        new("Qwen3.5-2B", Family.Qwen35, 24, 2048, 8, 2, 256, 6144, 248320, true) { DeltaNet = new(16, 16) },
        new("Qwen3.5-4B", Family.Qwen35, 32, 2560, 16, 4, 256, 9216, 248320, true) { DeltaNet = new(16, 32) },
        new("Qwen3.5-9B", Family.Qwen35, 32, 4096, 16, 4, 256, 12288, 248320, false) { DeltaNet = new(16, 32) },
    ];

    public static ModelSize Find(string name) =>
        Published.FirstOrDefault(size => string.Equals(size.Name, name, StringComparison.OrdinalIgnoreCase))
        ?? throw new OptionException($"--size {name} is not known; known sizes are {string.Join(", ", Published.Select(size => size.Name))}");

    public long Parameters => Tensors().Sum(tensor => tensor.Elements);

    /// <summary>Every tensor in the order of the published files' layers.</summary>
    public IEnumerable<TensorSpec> Tensors() => Family == Family.Qwen1 ? Qwen1() : Later();

    private IEnumerable<TensorSpec> Qwen1()
    {
        yield return new("transformer.wte.weight", [VocabularySize, HiddenSize]);
        for (int layer = 0; layer < Layers; layer++)
        {
            string prefix = $"transformer.h.{layer}.";
            yield return new(prefix + "ln_1.weight", [HiddenSize], IsNorm: true);
            yield return new(prefix + "attn.c_attn.weight", [3 * HiddenSize, HiddenSize]);
            yield return new(prefix + "attn.c_attn.bias", [3 * HiddenSize]);
            yield return new(prefix + "attn.c_proj.weight", [HiddenSize, HiddenSize]);
            yield return new(prefix + "ln_2.weight", [HiddenSize], IsNorm: true);
            yield return new(prefix + "mlp.w1.weight", [IntermediateSize, HiddenSize]);
            yield return new(prefix + "mlp.w2.weight", [IntermediateSize, HiddenSize]);
            yield return new(prefix + "mlp.c_proj.weight", [HiddenSize, IntermediateSize]);
        }

        yield return new("transformer.ln_f.weight", [HiddenSize], IsNorm: true);
        yield return new("lm_head.weight", [VocabularySize, HiddenSize]);
    }

    private IEnumerable<TensorSpec> Later()
    {
        yield return new("model.embed_tokens.weight", [VocabularySize, HiddenSize]);
        for (int layer = 0; layer < Layers; layer++)
        {
            string prefix = $"model.layers.{layer}.";
            yield return Norm(prefix + "input_layernorm.weight", HiddenSize);
            foreach (TensorSpec tensor in DeltaNet is { } d && DeltaNetSize.IsOne(layer) ? Mixer(d, prefix + "linear_attn.") : Attention(prefix))
            {
                yield return tensor;
            }
            yield return Norm(prefix + "post_attention_layernorm.weight", HiddenSize);
            foreach (TensorSpec tensor in Experts is null ? Mlp(prefix + "mlp.", IntermediateSize) : Mixture(prefix + "mlp.", Experts))
            {
                yield return tensor;
            }
        }
        yield return Norm("model.norm.weight", HiddenSize);
        if (!TiedEmbeddings)
        {
            yield return new("lm_head.weight", [VocabularySize, HiddenSize]);
        }
    }

    private TensorSpec[] Mlp(string prefix, int inner) =>
    [
        new(prefix + "gate_proj.weight", [inner, HiddenSize]),
        new(prefix + "up_proj.weight", [inner, HiddenSize]),
        new(prefix + "down_proj.weight", [HiddenSize, inner]),
    ];

    // Published files have the tensors of a layer in the order of their names: experts 0, 1, 10, 11, ….
    private IEnumerable<TensorSpec> Mixture(string prefix, ExpertSize experts) =>
        Enumerable.Range(0, experts.Count).SelectMany(e => Mlp($"{prefix}experts.{e}.", experts.IntermediateSize))
            .OrderBy(tensor => tensor.Name, StringComparer.Ordinal)
            .Append(new(prefix + "gate.weight", [experts.Count, HiddenSize]))
            .Concat(experts.SharedIntermediateSize == 0
                ? []
                : [.. Mlp(prefix + "shared_expert.", experts.SharedIntermediateSize), new(prefix + "shared_expert_gate.weight", [1, HiddenSize])]);

    /// <summary>Qwen3.5 stores the factors less one: noise around zero is what its norms begin with.</summary>
    private TensorSpec Norm(string name, int size) => new(name, [size], IsNorm: Family != Family.Qwen35);

    private IEnumerable<TensorSpec> Attention(string prefix)
    {
        int queries = Heads * HeadDimension * (Family == Family.Qwen35 ? 2 : 1); // with the gate
        int keys = KeyValueHeads * HeadDimension;
        foreach ((string name, int rows) in new[] { ("q_proj", queries), ("k_proj", keys), ("v_proj", keys) })
        {
            yield return new($"{prefix}self_attn.{name}.weight", [rows, HiddenSize]);
            if (IsQwen2)
            {
                yield return new($"{prefix}self_attn.{name}.bias", [rows]);
            }
        }
        yield return new(prefix + "self_attn.o_proj.weight", [HiddenSize, Heads * HeadDimension]);
        if (!IsQwen2)
        {
            yield return Norm(prefix + "self_attn.q_norm.weight", HeadDimension);
            yield return Norm(prefix + "self_attn.k_norm.weight", HeadDimension);
        }
    }

    private IEnumerable<TensorSpec> Mixer(DeltaNetSize d, string prefix) =>
    [
        new(prefix + "in_proj_qkv.weight", [d.Channels, HiddenSize]),
        new(prefix + "in_proj_z.weight", [d.Values, HiddenSize]),
        new(prefix + "in_proj_b.weight", [d.ValueHeads, HiddenSize]),
        new(prefix + "in_proj_a.weight", [d.ValueHeads, HiddenSize]),
        new(prefix + "conv1d.weight", [d.Channels, 1, d.Taps]),
        new(prefix + "dt_bias", [d.ValueHeads], IsNorm: true), // ones
        new(prefix + "A_log", [d.ValueHeads], IsNorm: true),
        new(prefix + "norm.weight", [d.HeadDimension], IsNorm: true),
        new(prefix + "out_proj.weight", [HiddenSize, d.Values]),
    ];
}
