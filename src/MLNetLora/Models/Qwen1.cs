using MLNetLora.Checkpoints;
using MLNetLora.Onnx;
using MLNetLora.Onnx.Differentiable;

namespace MLNetLora.Models;

/// <summary>
/// Qwen, the first generation: Qwen-1_8B, Qwen-7B, Qwen-14B and their chats (QWenLMHeadModel, modeling_qwen.py beside the checkpoints). q, k and v come from
/// one layer with a bias, a key head for each query head, and in the MLP w2 is the gate. Beyond seq_length the angles and the queries change (dynamic NTK,
/// log-n), in inference alone.
/// </summary>
internal sealed class Qwen1 : Architecture
{
    private const string Embedding = "transformer.wte";
    private const string LastNorm = "transformer.ln_f";

    public override string ModelType => "qwen";

    public override string EmbeddingName => Embedding;

    public override IReadOnlyList<string> DefaultTargets => ["c_attn"];

    public override IReadOnlyDictionary<string, string> OtherNames { get; } = new Dictionary<string, string>
    {
        ["q_proj"] = "c_attn",
        ["k_proj"] = "c_attn",
        ["v_proj"] = "c_attn",
        ["o_proj"] = "attn.c_proj",
        ["gate_proj"] = "w2",
        ["up_proj"] = "w1",
        ["down_proj"] = "mlp.c_proj",
    };

    public override QwenConfig ReadConfig(ConfigFile file)
    {
        int hidden = file.Int("hidden_size", 1 << 17);
        int heads = file.Int("num_attention_heads", 4096);
        int headDim = file.OptionalInt("kv_channels", 4096) ?? 128;
        int inner = file.Int("intermediate_size", 1 << 20);
        int layers = file.Int("num_hidden_layers", 10_000);
        int trained = file.OptionalInt("seq_length", 1 << 30, minimum: 2) ?? 2048;
        int positions = Math.Max(trained, file.OptionalInt("max_position_embeddings", 1 << 30) ?? trained);
        file.Require((long)heads * headDim == hidden, "kv_channels", $"hidden_size / num_attention_heads, {hidden} / {heads}");
        file.Require(headDim > 2 && headDim % 2 == 0, "kv_channels", "an even number above 2, for rotary position embedding");
        file.Require(inner % 2 == 0, "intermediate_size", "an even number: w1 and w2 have half of it each");
        foreach ((string field, double value) in ((string, double)[])[("rotary_pct", 1), ("attn_dropout_prob", 0), ("emb_dropout_prob", 0)])
        {
            file.Require((file.Number(field, _ => true, "a number") ?? value) == value, field, $"{value}; nothing else is implemented");
        }

        file.Require(file.Flag("scale_attn_weights", otherwise: true), "scale_attn_weights", "true; nothing else is implemented");
        return new QwenConfig
        {
            ModelType = ModelType,
            HiddenSize = hidden,
            IntermediateSize = inner / 2,
            NumHiddenLayers = layers,
            NumAttentionHeads = heads,
            NumKeyValueHeads = heads,
            HeadDim = headDim,
            VocabSize = file.Int("vocab_size", 1 << 24),
            RmsNormEps = (float)(file.Number("layer_norm_epsilon", number => number is >= 0 and <= 1, "a number from 0 to 1") ?? 1e-6),
            Rope = new RopeParameters("default", file.Positive("rotary_emb_base") ?? 10_000)
            {
                TrainedLength = trained,
                DynamicNtk = file.Flag("use_dynamic_ntk", otherwise: true),
                LogN = file.Flag("use_logn_attn", otherwise: true),
            },
            MaxPositionEmbeddings = positions,
            TieWordEmbeddings = file.Flag("tie_word_embeddings"),
            LinearBias = !file.Flag("no_bias", otherwise: true),
            SlidingWindows = new int?[layers],
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
        string p = $"transformer.h.{layer}";
        x = Residual.Apply(m.Tape, m.OutputOnly(layer, x), Attention(m, layer, m.Norm($"{p}.ln_1", x))); // [rows, hidden]
        return Residual.Apply(m.Tape, x, Mlp(m, layer, m.Norm($"{p}.ln_2", x))); // [rows, hidden]
    }

    public override Value FinalNorm(ModelGraph m, Value x) => m.Norm(LastNorm, x); // [rows, hidden]

    private static IEnumerable<TensorSpec> Tensors(QwenConfig c, int layer)
    {
        string p = $"transformer.h.{layer}";
        (long hidden, long inner) = (c.HiddenSize, c.IntermediateSize);
        return
        [
            new($"{p}.ln_1.weight", TensorKind.Norm, hidden),
            .. Linear("attn.c_attn", 3 * hidden, hidden, bias: true), .. Linear("attn.c_proj", hidden, hidden, c.LinearBias),
            new($"{p}.ln_2.weight", TensorKind.Norm, hidden),
            .. Linear("mlp.w1", inner, hidden, c.LinearBias), .. Linear("mlp.w2", inner, hidden, c.LinearBias),
            .. Linear("mlp.c_proj", hidden, inner, c.LinearBias),
        ];

        IEnumerable<TensorSpec> Linear(string name, long outputs, long inputs, bool bias) => bias
            ? [new($"{p}.{name}.weight", TensorKind.Linear, outputs, inputs), new($"{p}.{name}.bias", TensorKind.Bias, outputs)]
            : [new($"{p}.{name}.weight", TensorKind.Linear, outputs, inputs)];
    }

    private static Value Attention(ModelGraph m, int layer, Value x)
    {
        int heads = m.Config.NumAttentionHeads;
        string p = $"transformer.h.{layer}.attn";
        Value[] qkv = Columns.Split(m.Tape, m.Linear($"{p}.c_attn", x), 3); // [tokens, hidden] -> 3 x [tokens, hidden]
        Value q = m.ToHeads(qkv[0], heads); // [batch, heads, sequence, d]
        Value k = m.ToHeads(qkv[1], heads); // [batch, heads, sequence, d]
        Value v = m.ToHeads(qkv[2], heads); // [batch, heads, sequence, d]
        Value y = m.Attend(layer, m.RopeQueries(q), m.RopeKeys(k), v); // [batch, heads, sequence, d]
        return m.Linear($"{p}.c_proj", m.OutputOnly(layer, m.FromHeads(y))); // [rows, hidden]
    }

    private static Value Mlp(ModelGraph m, int layer, Value x)
    {
        string p = $"transformer.h.{layer}.mlp";
        Value up = m.Linear($"{p}.w1", x); // [rows, hidden] -> [rows, intermediate]
        Value gate = m.Linear($"{p}.w2", x); // [rows, intermediate]
        return m.Linear($"{p}.c_proj", SwiGlu.Apply(m.Tape, gate, up)); // [rows, hidden]
    }
}
