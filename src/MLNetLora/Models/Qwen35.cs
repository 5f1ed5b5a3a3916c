using MLNetLora.Checkpoints;
using MLNetLora.Onnx;
using MLNetLora.Onnx.Differentiable;

namespace MLNetLora.Models;

/// <summary>
/// Qwen3.5, dense (transformers: Qwen3_5ForCausalLM, and the text of Qwen3_5ForConditionalGeneration). Most layers are gated DeltaNet: a convolution,
/// queries and keys of length one, the gated delta rule, a norm and a gate; every fourth has attention with an output gate and a norm on every query and
/// key head, of which the first quarter is rotated. The norms but that of the delta rule's output store their factors less one.
/// As published the text lies beside a vision tower, under names of its own; the tower and the layers for predicting several tokens at once (mtp) are not read.
/// </summary>
/// <param name="modelType">model_type.</param>
/// <param name="root">What the names of the text's tensors begin with.</param>
internal sealed class Qwen35(string modelType, string root) : Architecture
{
    private const string Wrapper = "qwen3_5"; // around text and vision
    private const string Text = "qwen3_5_text";
    private const float UnitEpsilon = 1e-6f; // of queries and keys of length one, in the code of transformers

    private readonly string _embedding = $"{root}.embed_tokens";
    private readonly string _lastNorm = $"{root}.norm";

    /// <summary>Both layouts: text alone, and text beside vision.</summary>
    public static IReadOnlyList<Architecture> Layouts { get; } = [new Qwen35(Text, "model"), new Qwen35(Wrapper, "model.language_model")];

    public override string ModelType => modelType;

    public override string EmbeddingName => _embedding;

    public override QwenConfig ReadConfig(ConfigFile file)
    {
        ConfigFile text = modelType == Text
            ? file
            : file.Section("text_config") ?? throw new CheckpointException($"{file.Path} has no text_config, which a {Wrapper} model needs.");
        text.Require(text.Text("model_type") is null or Text, "model_type", Text);
        text.Require(text.Flag("attn_output_gate", otherwise: true), "attn_output_gate", "true; nothing else is implemented");
        QwenConfig dense = QwenConfig.Dense(text, defaultRopeTheta: 10_000, partialRotary: true);
        int headDim = text.OptionalInt("head_dim", 4096) ?? 256;
        ConfigFile rope = text.Section("rope_parameters") is { } parameters && parameters.Has("partial_rotary_factor") ? parameters : text;
        double part = rope.Number("partial_rotary_factor", number => number is > 0 and <= 1, "above 0 and at most 1") ?? 0.25;
        int rotated = (int)(headDim * part);
        rope.Require(rotated >= 2 && rotated % 2 == 0, "partial_rotary_factor", $"such that an even number of a head's {headDim} dimensions is rotated");
        return dense with
        {
            ModelType = ModelType,
            HeadDim = headDim,
            RotaryDim = rotated,
            AttentionBias = text.Flag("attention_bias"),
            TieWordEmbeddings = file.Has("tie_word_embeddings") ? file.Flag("tie_word_embeddings") : text.Flag("tie_word_embeddings"),
            SlidingWindows = new int?[dense.NumHiddenLayers],
            DeltaNet = GatedDeltaNet.Read(text, dense.NumHiddenLayers),
        };
    }

    public override IEnumerable<TensorSpec> Tensors(QwenConfig c) =>
    [
        new($"{_embedding}.weight", TensorKind.Embedding, c.VocabSize, c.HiddenSize),
        .. Enumerable.Range(0, c.NumHiddenLayers).SelectMany(layer => Tensors(c, layer)),
        Norm(_lastNorm, c.HiddenSize),
        .. c.TieWordEmbeddings ? Array.Empty<TensorSpec>() : [new("lm_head.weight", TensorKind.Head, c.VocabSize, c.HiddenSize)],
    ];

    public override bool IsBeside(string name) => modelType == Wrapper && name.StartsWith("model.visual.", StringComparison.Ordinal);

    public override bool IsKept(string name) => IsBeside(name) || name.StartsWith("mtp.", StringComparison.Ordinal);

    public override IEnumerable<CacheState> States(QwenConfig c) => Enumerable.Range(0, c.NumHiddenLayers).SelectMany(layer =>
        c.DeltaNet is { } d && d.Layers[layer]
            ?
            [
                new CacheState($"{layer}.convolution", false, d.Taps - 1, d.Channels), // the last tokens before the convolution
                new CacheState($"{layer}.recurrence", false, d.ValueHeads, d.KeyDim, d.ValueDim),
            ]
            : CacheState.KeysAndValues(c, layer));

    public override Value Embed(ModelGraph m, Value ids) => m.Lookup(_embedding, ids); // [tokens] -> [tokens, hidden]

    public override Value Block(ModelGraph m, int layer, Value x)
    {
        string p = $"{root}.layers.{layer}";
        Value normed = m.Norm($"{p}.input_layernorm", x, onePlus: true); // [tokens, hidden]
        Value mixed = m.Config.DeltaNet!.Layers[layer] ? DeltaNet(m, layer, normed) : Attention(m, layer, normed); // [rows, hidden]
        x = Residual.Apply(m.Tape, m.OutputOnly(layer, x), mixed); // [rows, hidden]
        return Residual.Apply(m.Tape, x, Mlp(m, layer, m.Norm($"{p}.post_attention_layernorm", x, onePlus: true))); // [rows, hidden]
    }

    public override Value FinalNorm(ModelGraph m, Value x) => m.Norm(_lastNorm, x, onePlus: true); // [rows, hidden]

    private TensorSpec[] Tensors(QwenConfig c, int layer)
    {
        string p = $"{root}.layers.{layer}";
        (long hidden, long q, long kv, long inner) = (c.HiddenSize, c.NumAttentionHeads * c.HeadDim, c.NumKeyValueHeads * c.HeadDim, c.IntermediateSize);
        return
        [
            Norm($"{p}.input_layernorm", hidden),
            .. c.DeltaNet!.Layers[layer] ? Mixer(c.DeltaNet, $"{p}.linear_attn", hidden) :
            [
                .. Projection("q_proj", 2 * q, hidden), // with the gate
                .. Projection("k_proj", kv, hidden),
                .. Projection("v_proj", kv, hidden),
                .. Projection("o_proj", hidden, q),
                Norm($"{p}.self_attn.q_norm", c.HeadDim),
                Norm($"{p}.self_attn.k_norm", c.HeadDim),
            ],
            Norm($"{p}.post_attention_layernorm", hidden),
            new($"{p}.mlp.gate_proj.weight", TensorKind.Linear, inner, hidden),
            new($"{p}.mlp.up_proj.weight", TensorKind.Linear, inner, hidden),
            new($"{p}.mlp.down_proj.weight", TensorKind.Linear, hidden, inner),
        ];

        TensorSpec[] Projection(string name, long outputs, long inputs) => c.AttentionBias
            ? [new($"{p}.self_attn.{name}.weight", TensorKind.Linear, outputs, inputs), new($"{p}.self_attn.{name}.bias", TensorKind.Bias, outputs)]
            : [new($"{p}.self_attn.{name}.weight", TensorKind.Linear, outputs, inputs)];
    }

    private static TensorSpec[] Mixer(GatedDeltaNet d, string p, long hidden) =>
    [
        new($"{p}.in_proj_qkv.weight", TensorKind.Linear, d.Channels, hidden),
        new($"{p}.in_proj_z.weight", TensorKind.Linear, d.Values, hidden),
        new($"{p}.in_proj_b.weight", TensorKind.Linear, d.ValueHeads, hidden),
        new($"{p}.in_proj_a.weight", TensorKind.Linear, d.ValueHeads, hidden),
        new($"{p}.conv1d.weight", TensorKind.Convolution, d.Channels, 1, d.Taps),
        new($"{p}.dt_bias", TensorKind.Bias, d.ValueHeads) { Initial = static _ => 1 },
        new($"{p}.A_log", TensorKind.Rate, d.ValueHeads) { Initial = static random => MathF.Log(0.01f + (15.99f * random.NextSingle())) },
        new($"{p}.norm.weight", TensorKind.Norm, d.ValueDim),
        new($"{p}.out_proj.weight", TensorKind.Linear, hidden, d.Values),
    ];

    /// <summary>A norm whose factors are stored less one.</summary>
    private static TensorSpec Norm(string module, long size) => new($"{module}.weight", TensorKind.Norm, size) { Initial = static _ => 0 };

    private Value DeltaNet(ModelGraph m, int layer, Value x)
    {
        GatedDeltaNet d = m.Config.DeltaNet!;
        string p = $"{root}.layers.{layer}.linear_attn";
        Value channels = m.Linear($"{p}.in_proj_qkv", x); // [tokens, hidden] -> [tokens, channels]
        Value b = m.Linear($"{p}.in_proj_b", x); // [tokens, value heads]
        Value a = m.Linear($"{p}.in_proj_a", x); // [tokens, value heads]
        channels = m.Recurrent!.Convolution(m.Tape, layer, channels, m.Required($"{p}.conv1d.weight")); // [tokens, channels]
        Value[] qkv = Columns.Split(m.Tape, channels, [d.Keys, d.Keys, d.Values]); // [tokens, heads·dk] twice, [tokens, value heads·dv]
        Value q = L2Norm.Apply(m.Tape, Heads(qkv[0], d.KeyDim), UnitEpsilon, (float)(1 / Math.Sqrt(d.KeyDim))); // [tokens·key heads, dk]
        Value k = L2Norm.Apply(m.Tape, Heads(qkv[1], d.KeyDim), UnitEpsilon); // [tokens·key heads, dk]
        Value v = Heads(qkv[2], d.ValueDim); // [tokens·value heads, dv]
        Value decay = Decay.Apply(m.Tape, a, m.Required($"{p}.A_log"), m.Required($"{p}.dt_bias")); // [tokens, value heads]
        Value y = m.Recurrent.Delta(m.Tape, layer, q, k, v, decay, Sigmoid.Apply(m.Tape, b)); // [tokens·value heads, dv]
        y = m.OutputOnly(layer, View.Apply(m.Tape, y, [-1, d.Values], [x.Shape[0], d.Values])); // [rows, values]
        Value z = m.Linear($"{p}.in_proj_z", m.OutputOnly(layer, x)); // [rows, values]
        Value normed = m.Norm($"{p}.norm", Heads(y, d.ValueDim)); // [rows·value heads, dv]
        normed = View.Apply(m.Tape, normed, [-1, d.Values], y.Shape); // [rows, values]
        return m.Linear($"{p}.out_proj", SwiGlu.Apply(m.Tape, z, normed)); // [rows, hidden]

        // [rows, heads·size] -> [rows·heads, size]
        Value Heads(Value all, int size) => View.Apply(m.Tape, all, [-1, size], [$"{all.Shape[0]}.{all.Shape[1].Size / size}", size]);
    }

    private Value Attention(ModelGraph m, int layer, Value x)
    {
        QwenConfig c = m.Config;
        string p = $"{root}.layers.{layer}.self_attn";
        (long heads, long d) = (c.NumAttentionHeads, c.HeadDim);
        Value both = m.Linear($"{p}.q_proj", x); // [tokens, hidden] -> [tokens, heads·2·d]: of each head the query, then its gate
        Value[] halves = Columns.Split(m.Tape, View.Apply(m.Tape, both, [-1, 2 * d], [$"tokens.{heads}", 2 * d]), 2); // 2 x [tokens·heads, d]
        Value gate = View.Apply(m.Tape, halves[1], [-1, heads * d], [x.Shape[0], heads * d]); // [tokens, heads·d]
        Value q = m.Norm($"{p}.q_norm", m.ToHeads(halves[0], c.NumAttentionHeads), onePlus: true); // [batch, heads, sequence, d]
        Value k = m.Norm($"{p}.k_norm", m.ToHeads(m.Linear($"{p}.k_proj", x), c.NumKeyValueHeads), onePlus: true); // [batch, kv, sequence, d]
        Value v = m.ToHeads(m.Linear($"{p}.v_proj", x), c.NumKeyValueHeads); // [batch, kv, sequence, d]
        Value y = m.FromHeads(m.Attend(layer, m.RopeQueries(q), m.RopeKeys(k), v)); // [tokens, heads·d]
        return m.Linear($"{p}.o_proj", OutputGate.Apply(m.Tape, m.OutputOnly(layer, y), m.OutputOnly(layer, gate))); // [rows, hidden]
    }

    private Value Mlp(ModelGraph m, int layer, Value x)
    {
        string p = $"{root}.layers.{layer}.mlp";
        Value gate = m.Linear($"{p}.gate_proj", x); // [rows, hidden] -> [rows, intermediate]
        Value up = m.Linear($"{p}.up_proj", x); // [rows, intermediate]
        return m.Linear($"{p}.down_proj", SwiGlu.Apply(m.Tape, gate, up)); // [rows, hidden]
    }
}
