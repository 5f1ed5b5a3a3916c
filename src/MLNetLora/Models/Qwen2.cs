using MLNetLora.Checkpoints;
using MLNetLora.Onnx;
using MLNetLora.Onnx.Differentiable;

namespace MLNetLora.Models;

/// <summary>Qwen1.5, Qwen2 and Qwen2.5, dense (transformers: Qwen2ForCausalLM). q, k and v have a bias, heads share keys in groups.</summary>
internal sealed class Qwen2 : Architecture
{
    private const string Embedding = "model.embed_tokens";
    private const string LastNorm = "model.norm";

    public override string ModelType => "qwen2";

    public override string EmbeddingName => Embedding;

    public override QwenConfig ReadConfig(ConfigFile file) =>
        QwenConfig.Dense(file, defaultRopeTheta: 10_000) with { AttentionBias = true };

    public override IEnumerable<TensorSpec> Tensors(QwenConfig c) =>
    [
        new($"{Embedding}.weight", TensorKind.Embedding, c.VocabSize, c.HiddenSize),
        .. Enumerable.Range(0, c.NumHiddenLayers).SelectMany(layer => Tensors(c, layer)),
        new($"{LastNorm}.weight", TensorKind.Norm, c.HiddenSize),
        .. c.TieWordEmbeddings ? Array.Empty<TensorSpec>() : [new("lm_head.weight", TensorKind.Head, c.VocabSize, c.HiddenSize)],
    ];

    public override Value Embed(ModelGraph m, Value ids) => m.Lookup(Embedding, ids); // [tokens] -> [tokens, hidden]

    public override Value Block(ModelGraph m, int layer, Value x)
    {
        string p = $"model.layers.{layer}";
        x = Residual.Apply(m.Tape, m.OutputOnly(layer, x), Attention(m, layer, m.Norm($"{p}.input_layernorm", x))); // [rows, hidden]
        return Residual.Apply(m.Tape, x, Mlp(m, layer, m.Norm($"{p}.post_attention_layernorm", x))); // [rows, hidden]
    }

    public override Value FinalNorm(ModelGraph m, Value x) => m.Norm(LastNorm, x); // [rows, hidden]

    private static IEnumerable<TensorSpec> Tensors(QwenConfig c, int layer)
    {
        string p = $"model.layers.{layer}";
        (long hidden, long q, long kv, long inner) = (c.HiddenSize, c.NumAttentionHeads * c.HeadDim, c.NumKeyValueHeads * c.HeadDim, c.IntermediateSize);
        return
        [
            new($"{p}.input_layernorm.weight", TensorKind.Norm, hidden),
            new($"{p}.self_attn.q_proj.weight", TensorKind.Linear, q, hidden), new($"{p}.self_attn.q_proj.bias", TensorKind.Bias, q),
            new($"{p}.self_attn.k_proj.weight", TensorKind.Linear, kv, hidden), new($"{p}.self_attn.k_proj.bias", TensorKind.Bias, kv),
            new($"{p}.self_attn.v_proj.weight", TensorKind.Linear, kv, hidden), new($"{p}.self_attn.v_proj.bias", TensorKind.Bias, kv),
            new($"{p}.self_attn.o_proj.weight", TensorKind.Linear, hidden, q),
            new($"{p}.post_attention_layernorm.weight", TensorKind.Norm, hidden),
            new($"{p}.mlp.gate_proj.weight", TensorKind.Linear, inner, hidden),
            new($"{p}.mlp.up_proj.weight", TensorKind.Linear, inner, hidden),
            new($"{p}.mlp.down_proj.weight", TensorKind.Linear, hidden, inner),
        ];
    }

    private static Value Attention(ModelGraph m, int layer, Value x)
    {
        QwenConfig c = m.Config;
        string p = $"model.layers.{layer}.self_attn";
        Value q = m.ToHeads(m.Linear($"{p}.q_proj", x), c.NumAttentionHeads); // [tokens, hidden] -> [batch, heads, sequence, d]
        Value k = m.ToHeads(m.Linear($"{p}.k_proj", x), c.NumKeyValueHeads); // [batch, kv, sequence, d]
        Value v = m.ToHeads(m.Linear($"{p}.v_proj", x), c.NumKeyValueHeads); // [batch, kv, sequence, d]
        Value y = m.Attend(layer, m.RopeQueries(q), m.RopeKeys(k), v); // [batch, heads, sequence, d]
        return m.Linear($"{p}.o_proj", m.OutputOnly(layer, m.FromHeads(y))); // [rows, hidden]
    }

    private static Value Mlp(ModelGraph m, int layer, Value x)
    {
        string p = $"model.layers.{layer}.mlp";
        Value gate = m.Linear($"{p}.gate_proj", x); // [rows, hidden] -> [rows, intermediate]
        Value up = m.Linear($"{p}.up_proj", x); // [rows, intermediate]
        return m.Linear($"{p}.down_proj", SwiGlu.Apply(m.Tape, gate, up)); // [rows, hidden]
    }
}
