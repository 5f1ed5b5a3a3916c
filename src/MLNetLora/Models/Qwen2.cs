using MLNetLora.Onnx;
using MLNetLora.Onnx.Differentiable;

namespace MLNetLora.Models;

/// <summary>Qwen1.5, Qwen2 and Qwen2.5, dense (transformers: Qwen2ForCausalLM). q, k and v have a bias, heads share keys in groups.</summary>
internal static class Qwen2
{
    public static Architecture Architecture { get; } = new("qwen2", DefaultRopeTheta: 10_000, AlwaysAttentionBias: true, Tensors, Block);

    private static IEnumerable<TensorSpec> Tensors(QwenConfig c, int layer)
    {
        string p = $"model.layers.{layer}";
        (long hidden, long q, long kv, long inner) = (c.HiddenSize, c.NumAttentionHeads * c.HeadDim, c.NumKeyValueHeads * c.HeadDim, c.IntermediateSize);
        return
        [
            new($"{p}.input_layernorm.weight", [hidden], Decays: false),
            new($"{p}.self_attn.q_proj.weight", [q, hidden]), new($"{p}.self_attn.q_proj.bias", [q], Decays: false),
            new($"{p}.self_attn.k_proj.weight", [kv, hidden]), new($"{p}.self_attn.k_proj.bias", [kv], Decays: false),
            new($"{p}.self_attn.v_proj.weight", [kv, hidden]), new($"{p}.self_attn.v_proj.bias", [kv], Decays: false),
            new($"{p}.self_attn.o_proj.weight", [hidden, q]),
            new($"{p}.post_attention_layernorm.weight", [hidden], Decays: false),
            new($"{p}.mlp.gate_proj.weight", [inner, hidden]),
            new($"{p}.mlp.up_proj.weight", [inner, hidden]),
            new($"{p}.mlp.down_proj.weight", [hidden, inner]),
        ];
    }

    private static Value Attention(ModelGraph m, int layer, Value x)
    {
        QwenConfig c = m.Config;
        string p = $"model.layers.{layer}.self_attn";
        Value q = m.ToHeads(m.Linear($"{p}.q_proj", x), c.NumAttentionHeads); // [tokens, hidden] -> [batch, heads, sequence, d]
        Value k = m.ToHeads(m.Linear($"{p}.k_proj", x), c.NumKeyValueHeads); // [batch, kv, sequence, d]
        Value v = m.ToHeads(m.Linear($"{p}.v_proj", x), c.NumKeyValueHeads); // [batch, kv, sequence, d]
        Value y = m.Attend(layer, m.Rope(q), m.Rope(k), v); // [batch, heads, sequence, d]
        return m.Linear($"{p}.o_proj", m.OutputOnly(layer, m.FromHeads(y))); // [rows, hidden]
    }

    private static Value Mlp(ModelGraph m, int layer, Value x)
    {
        string p = $"model.layers.{layer}.mlp";
        Value gate = m.Linear($"{p}.gate_proj", x); // [rows, hidden] -> [rows, intermediate]
        Value up = m.Linear($"{p}.up_proj", x); // [rows, intermediate]
        return m.Linear($"{p}.down_proj", SwiGlu.Apply(m.Tape, gate, up)); // [rows, hidden]
    }

    private static Value Block(ModelGraph m, int layer, Value x)
    {
        string p = $"model.layers.{layer}";
        x = Residual.Apply(m.Tape, m.OutputOnly(layer, x), Attention(m, layer, m.Norm($"{p}.input_layernorm", x))); // [rows, hidden]
        return Residual.Apply(m.Tape, x, Mlp(m, layer, m.Norm($"{p}.post_attention_layernorm", x))); // [rows, hidden]
    }
}
