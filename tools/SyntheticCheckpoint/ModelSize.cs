namespace MLNetLora.Tools.SyntheticCheckpoint;

internal enum Family { Qwen1, Qwen2, Qwen3 }

/// <summary>The numbers that decide every tensor's shape.</summary>
internal sealed record ModelSize(
    string Name, Family Family, int Layers, int HiddenSize, int Heads, int KeyValueHeads, int HeadDimension, int IntermediateSize, int VocabularySize,
    bool TiedEmbeddings)
{
    /// <summary>The published dense models (Qwen's config.json, torchtune's qwen2_5 and qwen3 model builders; the heads of Qwen3 are 128 wide whatever the
    /// hidden size).</summary>
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
        int queries = Heads * HeadDimension;
        int keys = KeyValueHeads * HeadDimension;
        yield return new("model.embed_tokens.weight", [VocabularySize, HiddenSize]);
        for (int layer = 0; layer < Layers; layer++)
        {
            string prefix = $"model.layers.{layer}.";
            yield return new(prefix + "input_layernorm.weight", [HiddenSize], IsNorm: true);
            foreach ((string name, int rows) in new[] { ("q_proj", queries), ("k_proj", keys), ("v_proj", keys) })
            {
                yield return new($"{prefix}self_attn.{name}.weight", [rows, HiddenSize]);
                if (Family == Family.Qwen2)
                {
                    yield return new($"{prefix}self_attn.{name}.bias", [rows]);
                }
            }
            yield return new(prefix + "self_attn.o_proj.weight", [HiddenSize, queries]);
            if (Family == Family.Qwen3)
            {
                yield return new(prefix + "self_attn.q_norm.weight", [HeadDimension], IsNorm: true);
                yield return new(prefix + "self_attn.k_norm.weight", [HeadDimension], IsNorm: true);
            }
            yield return new(prefix + "post_attention_layernorm.weight", [HiddenSize], IsNorm: true);
            yield return new(prefix + "mlp.gate_proj.weight", [IntermediateSize, HiddenSize]);
            yield return new(prefix + "mlp.up_proj.weight", [IntermediateSize, HiddenSize]);
            yield return new(prefix + "mlp.down_proj.weight", [HiddenSize, IntermediateSize]);
        }
        yield return new("model.norm.weight", [HiddenSize], IsNorm: true);
        if (!TiedEmbeddings)
        {
            yield return new("lm_head.weight", [VocabularySize, HiddenSize]);
        }
    }
}
