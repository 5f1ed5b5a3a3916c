using MLNetLora.Onnx;
using MLNetLora.Onnx.Differentiable;

namespace MLNetLora.Models;

/// <summary>How queries meet keys and values: over the whole sequence in training, through a cache in generation.</summary>
/// <param name="tape">Tape.</param>
/// <param name="layer">Number of the block.</param>
/// <param name="q">
/// [batch, heads, sequence, d], rotated; where <see cref="ModelGraph.Rotary"/> is null [batch, sequence, heads, d], for the core to rotate.
/// </param>
/// <param name="k">The same with kv heads.</param>
/// <param name="v">The same with kv heads, never rotated.</param>
/// <returns>The shape of q.</returns>
internal delegate Value AttentionCore(Tape tape, int layer, Value q, Value k, Value v);

/// <summary>What queries and keys are rotated with.</summary>
/// <param name="PositionIds">[batch, sequence], 64-bit, rows of the tables.</param>
/// <param name="Cos">[positions, d/2], d being what is rotated of a head.</param>
/// <param name="Sin">[positions, d/2].</param>
/// <param name="QueryCos">The same for queries: <paramref name="Cos"/> but where the model scales queries by position.</param>
/// <param name="QuerySin">The same for queries.</param>
internal sealed record RotaryTables(Value PositionIds, Value Cos, Value Sin, Value QueryCos, Value QuerySin)
{
    /// <summary>Declares the graph's inputs: rope_cos, rope_sin, and rope_query_cos and rope_query_sin where queries have their own.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="config">The model.</param>
    /// <param name="positionIds">[batch, sequence], 64-bit.</param>
    /// <param name="training">Whether it is a training graph, where they never have.</param>
    public static RotaryTables Inputs(GraphBuilder graph, QwenConfig config, Value positionIds, bool training)
    {
        (Value cos, Value sin) = (Table("rope_cos"), Table("rope_sin"));
        return config.Rope.LogN && !training
            ? new RotaryTables(positionIds, cos, sin, Table("rope_query_cos"), Table("rope_query_sin"))
            : new RotaryTables(positionIds, cos, sin, cos, sin);

        Value Table(string name) => graph.Input(name, ElementType.Float32, "positions", config.RotaryDim / 2);
    }
}

/// <summary>Convolves a layer's channels along the sequence, each token with those before it: in training the row's own, in generation those of the cache
/// too.</summary>
/// <param name="tape">Tape.</param>
/// <param name="layer">Number of the block.</param>
/// <param name="x">[tokens, channels].</param>
/// <param name="weight">[channels, 1, taps].</param>
/// <returns>[tokens, channels], SiLU applied.</returns>
internal delegate Value ConvolutionCore(Tape tape, int layer, Value x, Weight weight);

/// <summary>Applies the gated delta rule: over the whole sequence in training, to the cache's state in generation.</summary>
/// <param name="tape">Tape.</param>
/// <param name="layer">Number of the block.</param>
/// <param name="q">[tokens·key heads, dk], normed and scaled.</param>
/// <param name="k">[tokens·key heads, dk], normed.</param>
/// <param name="v">[tokens·value heads, dv].</param>
/// <param name="decay">[tokens, value heads], a logarithm.</param>
/// <param name="beta">[tokens, value heads].</param>
/// <returns>[tokens·value heads, dv].</returns>
internal delegate Value DeltaCore(Tape tape, int layer, Value q, Value k, Value v, Value decay, Value beta);

/// <summary>How a recurrent layer meets the tokens before.</summary>
/// <param name="Convolution">Its convolution.</param>
/// <param name="Delta">Its delta rule.</param>
internal sealed record RecurrentCores(ConvolutionCore Convolution, DeltaCore Delta);

/// <summary>Computes a linear layer that something is put on, such as an adapter: [tokens, in] → [tokens, out].</summary>
/// <param name="model">The model that the layer belongs to.</param>
/// <param name="x">[tokens, in].</param>
/// <param name="weight">The layer's own weight, [out, in].</param>
/// <param name="bias">[out]; null where the layer has none.</param>
internal delegate Value AdaptedLinear(ModelGraph model, Value x, Weight weight, Weight? bias);

/// <summary>Names of the tensors of a layer's experts.</summary>
/// <param name="Matrix">The number of an expert and its projection ("gate", "up" or "down") → name of the matrix.</param>
/// <param name="GateUp">Name of the stack of all gates and ups, which an adapter is put on.</param>
/// <param name="Down">Name of the stack of all downs.</param>
internal sealed record ExpertNames(Func<int, string, string> Matrix, string GateUp, string Down);

/// <summary>What a family's file builds a model from: weights by name, the inputs that all layers share, and the layers' common parts.</summary>
/// <param name="Tape">Tape.</param>
/// <param name="Config">The model.</param>
/// <param name="Architecture">Its family.</param>
/// <param name="Weights">A weight by name; null where the model has none.</param>
/// <param name="Adapted">Linear layers that are computed otherwise, by module name.</param>
/// <param name="Attention">How queries meet keys and values.</param>
internal sealed record ModelGraph(
    Tape Tape,
    QwenConfig Config,
    Architecture Architecture,
    Func<string, Weight?> Weights,
    IReadOnlyDictionary<string, AdaptedLinear> Adapted,
    AttentionCore Attention)
{
    private readonly Dictionary<int, Value> _headSizes = [];

    public GraphBuilder Graph => Tape.Graph;

    /// <summary>[batch, sequence], 64-bit.</summary>
    public required Value InputIds { get; init; }

    /// <summary>
    /// Rotary tables; null where the attention core rotates, which then gets heads as the linear layers leave them, behind the sequence.
    /// </summary>
    public RotaryTables? Rotary { get; init; }

    /// <summary>How recurrent layers are computed; null where the model has none.</summary>
    public RecurrentCores? Recurrent { get; init; }

    /// <summary>
    /// [rows], 64-bit: the tokens whose output is asked for. Only they leave the last block, and after its attention nothing is computed for others.
    /// </summary>
    public required Value OutputRows { get; init; }

    /// <summary>The frozen matrices of a layer's experts by their tensors' names, one for each expert; asked for by families that have some.</summary>
    public required Func<IReadOnlyList<string>, ExpertWeight> ExpertWeights { get; init; }

    /// <summary>Adapters on stacks of experts' matrices, by the stacks' names.</summary>
    public IReadOnlyDictionary<string, ExpertLora> AdaptedExperts { get; init; } = new Dictionary<string, ExpertLora>();

    /// <summary>Whether most runs have a few rows, as those of answers do, which come token by token.</summary>
    public bool FewRows { get; init; }

    /// <summary>Rows of the embedding that are trained in its place; null for none.</summary>
    public TrainedRows? Tokens { get; init; }

    /// <summary>The same where the embedding is the output layer too.</summary>
    public TrainedRows? HeadTokens => Config.TieWordEmbeddings ? Tokens : null;

    /// <summary>Told every linear layer and what it is fed; null for nobody.</summary>
    public Action<string, Value>? OnLinear { get; init; }

    /// <summary>Emits embedding and blocks: → [rows, hidden], before the last norm.</summary>
    /// <param name="checkpointing">
    /// Recomputes each block in the backward pass, but for the last, whose backward pass begins where its forward pass ends.
    /// </param>
    /// <param name="ownMemory">Whether each of them has memory of its own for that (<see cref="GraphBuilder.OwnMemory"/>).</param>
    public Value Body(bool checkpointing, bool ownMemory = false)
    {
        Value ids = Graph.Reshape(InputIds, [-1], ["tokens"]); // [tokens]
        Value x = Architecture.Embed(this, ids); // [tokens, hidden]
        for (int i = 0; i < Config.NumHiddenLayers; i++)
        {
            int layer = i;
            using IDisposable scope = Graph.Scope($"layer.{layer}");
            x = checkpointing && layer < Config.NumHiddenLayers - 1
                ? Tape.Checkpoint(x, (tape, input) => Architecture.Block(this with { Tape = tape }, layer, input), ownMemory)
                : Architecture.Block(this, layer, x);
        }

        return x;
    }

    /// <summary>The norm before the output layer: [rows, hidden] → [rows, hidden].</summary>
    public Value FinalNorm(Value x) => Architecture.FinalNorm(this, x);

    /// <summary>The output layer's weight: the embedding where the two are tied; [vocabulary, hidden].</summary>
    public Weight Head => Required(Architecture.HeadName(Config));

    /// <summary>A linear layer by module name, with its bias and its adapter where it has them: [tokens, in] → [tokens, out].</summary>
    public Value Linear(string module, Value x)
    {
        OnLinear?.Invoke(module, x);
        Weight weight = Required(module + ".weight");
        Weight? bias = Weights(module + ".bias");
        return Adapted.TryGetValue(module, out AdaptedLinear? adapted)
            ? adapted(this, x, weight, bias)
            : Onnx.Differentiable.Linear.Apply(Tape, x, weight, bias);
    }

    /// <summary>The scores of a router by module name, which is no linear layer to adapters and quantization: [rows, hidden] → [rows, experts].</summary>
    public Value Router(string module, Value x)
    {
        Weight weight = Required(module + ".weight");
        return Adapted.TryGetValue(module, out AdaptedLinear? adapted)
            ? adapted(this, x, weight, null)
            : Onnx.Differentiable.Linear.Apply(Tape, x, weight);
    }

    /// <summary>The experts of a layer on the rows that the router sends to them: [rows, hidden] → [rows, hidden].</summary>
    /// <param name="scores">[rows, experts].</param>
    /// <param name="x">[rows, hidden].</param>
    /// <param name="names">The experts' tensors.</param>
    public Value Experts(Value scores, Value x, ExpertNames names)
    {
        ExpertConfig experts = Config.Experts!;
        (Value weights, Value chosen) = Routing.Apply(Tape, scores, experts.PerToken, experts.NormalizeTopK); // [rows, k] each
        ExpertWeights matrices = new(Matrix("gate"), Matrix("up"), Matrix("down"),
            AdaptedExperts.GetValueOrDefault(names.GateUp), AdaptedExperts.GetValueOrDefault(names.Down))
        {
            FewRows = FewRows,
            MostRows = FewRows ? null : Graph.Max(Graph.Shape(Graph.Reshape(InputIds, [-1], ["tokens"])), Graph.Shape(OutputRows)), // labels may be padded
        };
        return Onnx.Differentiable.Experts.Apply(Tape, x, weights, chosen, matrices); // [rows, hidden]

        ExpertWeight Matrix(string projection) => ExpertWeights([.. Enumerable.Range(0, experts.Count).Select(expert => names.Matrix(expert, projection))]);
    }

    /// <summary>Rows of an embedding by module name: [tokens] 64-bit → [tokens, n].</summary>
    public Value Lookup(string module, Value ids) => Embedding.Apply(Tape, Required(module + ".weight"), ids, Tokens);

    /// <summary>In the last block the rows whose output is asked for, in others all: [tokens, n] → [rows, n] or [tokens, n].</summary>
    public Value OutputOnly(int layer, Value x) => layer == Config.NumHiddenLayers - 1 ? Rows.Apply(Tape, x, OutputRows) : x;

    /// <summary>A norm by module name, over the last axis.</summary>
    /// <param name="module">Its name.</param>
    /// <param name="x">[…, n].</param>
    /// <param name="onePlus">Whether its factors are stored less one.</param>
    public Value Norm(string module, Value x, bool onePlus = false)
    {
        Weight weight = Required(module + ".weight");
        return RmsNorm.Apply(Tape, x, onePlus ? new OnePlusWeight(weight) : weight, Config.RmsNormEps);
    }

    /// <summary>[tokens, heads·d] → [batch, heads, sequence, d], or [batch, sequence, heads, d] where the core rotates.</summary>
    public Value ToHeads(Value x, int heads)
    {
        if (!_headSizes.TryGetValue(heads, out Value? sizes))
        {
            sizes = _headSizes[heads] = Graph.Concat([Graph.Shape(InputIds), Graph.Int64s(heads, Config.HeadDim)], 0, 4); // (batch, sequence, heads, d)
        }

        Value split = Heads.Split(Tape, x, sizes, [InputIds.Shape[0], InputIds.Shape[1], heads, Config.HeadDim]);
        return Rotary is null ? split : Heads.Swap(Tape, split);
    }

    /// <summary>Back from <see cref="ToHeads"/>: → [tokens, heads·d].</summary>
    public Value FromHeads(Value x) => Heads.Merge(Tape, Rotary is null ? x : Heads.Swap(Tape, x), "tokens");

    /// <summary>Rotates the heads of keys by position, where the core does not.</summary>
    public Value RopeKeys(Value x) => Rotary is null ? x : Rope.Apply(Tape, x, Rotary.PositionIds, Rotary.Cos, Rotary.Sin);

    /// <summary>Rotates the heads of queries by position, where the core does not.</summary>
    public Value RopeQueries(Value x) => Rotary is null ? x : Rope.Apply(Tape, x, Rotary.PositionIds, Rotary.QueryCos, Rotary.QuerySin);

    /// <summary>Attention of one block.</summary>
    public Value Attend(int layer, Value q, Value k, Value v) => Attention(Tape, layer, q, k, v);

    /// <summary>A weight that the model must have.</summary>
    public Weight Required(string name) =>
        Weights(name) ?? throw new InvalidOperationException($"The graph asks for the tensor '{name}', which its architecture does not list.");
}
