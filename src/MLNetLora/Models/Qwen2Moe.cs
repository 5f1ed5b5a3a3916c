using MLNetLora.Checkpoints;
using MLNetLora.Onnx;
using MLNetLora.Onnx.Differentiable;

namespace MLNetLora.Models;

/// <summary>
/// Qwen1.5-MoE and Qwen2-57B-A14B (transformers: Qwen2MoeForCausalLM): Qwen2 with a mixture of experts in the place of the MLP, and beside it an expert that
/// every token has, behind a sigmoid gate.
/// </summary>
internal sealed class Qwen2Moe : Architecture
{
    private const string Embedding = "model.embed_tokens";
    private const string LastNorm = "model.norm";

    public override string ModelType => "qwen2_moe";

    public override string EmbeddingName => Embedding;

    public override QwenConfig ReadConfig(ConfigFile file)
    {
        QwenConfig dense = QwenConfig.Dense(file, defaultRopeTheta: 10_000);
        int maxWindowLayers = QwenConfig.MaxWindowLayers(file);
        ExpertConfig experts = ExpertConfig.Read(file, dense.NumHiddenLayers);
        return dense with
        {
            AttentionBias = file.Flag("qkv_bias", otherwise: true),
            Experts = experts with { SharedIntermediateSize = file.Int("shared_expert_intermediate_size", 1 << 20) },
            SlidingWindows = QwenConfig.Windows(file, dense.NumHiddenLayers, layer => layer % 2 == 0 && layer < maxWindowLayers),
        };
    }

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
        Value normed = m.Norm($"{p}.post_attention_layernorm", x); // [rows, hidden]
        return Residual.Apply(m.Tape, x, m.Config.Experts!.IsSparse[layer] ? Mixture(m, layer, normed) : Mlp(m, $"{p}.mlp", normed)); // [rows, hidden]
    }

    public override Value FinalNorm(ModelGraph m, Value x) => m.Norm(LastNorm, x); // [rows, hidden]

    private static IEnumerable<TensorSpec> Tensors(QwenConfig c, int layer)
    {
        string p = $"model.layers.{layer}";
        (long hidden, long q, long kv) = (c.HiddenSize, c.NumAttentionHeads * c.HeadDim, c.NumKeyValueHeads * c.HeadDim);
        return
        [
            new($"{p}.input_layernorm.weight", TensorKind.Norm, hidden),
            .. Projection("q_proj", q), .. Projection("k_proj", kv), .. Projection("v_proj", kv),
            new($"{p}.self_attn.o_proj.weight", TensorKind.Linear, hidden, q),
            new($"{p}.post_attention_layernorm.weight", TensorKind.Norm, hidden),
            .. c.Experts!.IsSparse[layer]
                ?
                [
                    .. Experts($"{p}.mlp", c), .. Mlp($"{p}.mlp.shared_expert", c.Experts.SharedIntermediateSize, hidden),
                    new($"{p}.mlp.shared_expert_gate.weight", TensorKind.Linear, 1, hidden),
                ]
                : Mlp($"{p}.mlp", c.IntermediateSize, hidden),
        ];

        IEnumerable<TensorSpec> Projection(string name, long outputs) => c.AttentionBias
            ? [new($"{p}.self_attn.{name}.weight", TensorKind.Linear, outputs, hidden), new($"{p}.self_attn.{name}.bias", TensorKind.Bias, outputs)]
            : [new($"{p}.self_attn.{name}.weight", TensorKind.Linear, outputs, hidden)];
    }

    private static IEnumerable<TensorSpec> Mlp(string p, long inner, long hidden) =>
    [
        new($"{p}.gate_proj.weight", TensorKind.Linear, inner, hidden),
        new($"{p}.up_proj.weight", TensorKind.Linear, inner, hidden),
        new($"{p}.down_proj.weight", TensorKind.Linear, hidden, inner),
    ];

    private static IEnumerable<TensorSpec> Experts(string p, QwenConfig c)
    {
        ExpertConfig experts = c.Experts!;
        (long count, long hidden, long inner) = (experts.Count, c.HiddenSize, experts.IntermediateSize);
        return
        [
            new($"{p}.gate.weight", TensorKind.Router, count, hidden),
            .. Enumerable.Range(0, experts.Count).SelectMany(Expert),
        ];

        // What transformers holds in memory is stacked, gate above up; what it writes is not, unless it is told to.
        IEnumerable<TensorSpec> Expert(int e) =>
        [
            new($"{p}.experts.{e}.gate_proj.weight", TensorKind.Expert, inner, hidden) { Stack = GateUp(2L * e) },
            new($"{p}.experts.{e}.up_proj.weight", TensorKind.Expert, inner, hidden) { Stack = GateUp((2L * e) + 1) },
            new($"{p}.experts.{e}.down_proj.weight", TensorKind.Expert, hidden, inner)
            {
                Stack = new StackSlice($"{p}.experts.down_proj", [count, hidden, inner], e * hidden * inner),
            },
        ];

        StackSlice GateUp(long half) => new($"{p}.experts.gate_up_proj", [count, 2 * inner, hidden], half * inner * hidden);
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

    private static Value Mixture(ModelGraph m, int layer, Value x)
    {
        string p = $"model.layers.{layer}.mlp";
        string Matrix(int expert, string projection) => $"{p}.experts.{expert}.{projection}_proj.weight";
        ExpertNames names = new(Matrix, $"{p}.experts.gate_up_proj", $"{p}.experts.down_proj");
        Value experts = m.Experts(m.Router($"{p}.gate", x), x, names); // [rows, hidden]
        Value shared = Mlp(m, $"{p}.shared_expert", x); // [rows, hidden]
        return Residual.Apply(m.Tape, experts, SigmoidGate.Apply(m.Tape, m.Linear($"{p}.shared_expert_gate", x), shared)); // [rows, hidden]
    }

    private static Value Mlp(ModelGraph m, string p, Value x)
    {
        Value gate = m.Linear($"{p}.gate_proj", x); // [rows, hidden] -> [rows, intermediate]
        Value up = m.Linear($"{p}.up_proj", x); // [rows, intermediate]
        return m.Linear($"{p}.down_proj", SwiGlu.Apply(m.Tape, gate, up)); // [rows, hidden]
    }
}
