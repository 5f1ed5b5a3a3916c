using MLNetLora.Adapters;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Onnx.Differentiable;
using MLNetLora.Quantization;

namespace MLNetLora.Artifacts;

/// <summary>
/// Builds training_model.onnx (forward, loss, backward, one gradient output per trainable tensor) and eval_model.onnx (forward and loss or logits).
/// </summary>
/// <remarks>
/// Inputs: input_ids, position_ids [batch, sequence]; the tables of <see cref="RotaryTables"/>; first_keys (and sliding_first_keys)
/// [batch or 1, sequence], the first key that each query sees, and where its chunks begin (<see cref="CausalMask.Bounds"/>); label_positions, label_ids,
/// label_weights [labels]; every trainable tensor under its name; in training also NAME.gradient_buffer for each and
/// MODULE.dropout_mask [tokens, ⌈in / 8⌉], the bits of <see cref="DropoutMask"/>, or on a device in their place for all of them dropout_rows [tokens, 1] and
/// dropout_columns [1, ⌈widest in / 8⌉], of which it makes the masks itself.
/// With 8-bit integers the initializers of linear layers are those of <see cref="Int8Weights"/>, whose numbers the session is given beside the model.
/// Outputs: loss []; in evaluation correct []; in training NAME.gradient = NAME.gradient_buffer + gradient, so that accumulating over micro-batches costs one
/// addition and the two can share memory.
/// </remarks>
internal static class TrainingModel
{
    /// <summary>The training graph.</summary>
    public static ModelArtifact Training(TrainingTarget target, bool checkpointing, ChunkPlan plan) =>
        Training(target, checkpointing, plan, new GraphBuilder("training"));

    /// <summary>The training graph, built in a graph of the caller's.</summary>
    /// <param name="target">What is trained.</param>
    /// <param name="checkpointing">Whether blocks are recomputed.</param>
    /// <param name="plan">How the graph is cut.</param>
    /// <param name="graph">The graph.</param>
    /// <param name="upcastOnce">All uses of a 16-bit weight share one cast, which the session is to make when it loads; else it is cast at each use.</param>
    public static ModelArtifact Training(TrainingTarget target, bool checkpointing, ChunkPlan plan, GraphBuilder graph, bool upcastOnce = false)
    {
        Tape tape = new(graph);
        GraphWeights weights = new(graph, target.Checkpoint, upcastOnce);
        ModelGraph model = Assemble(target, tape, weights, plan, training: true);
        Value normed = model.FinalNorm(model.Body(checkpointing, plan.OwnMemory)); // [labels, hidden]
        Value loss = CrossEntropy.Apply(tape, normed, model.Head, Labels(graph), LabelWeights(graph), plan.Loss, HeadParts(model, weights, plan),
            model.HeadTokens); // []
        foreach ((Value parameter, Value gradient) in tape.Backward(loss))
        {
            using (graph.AtEndOf(gradient))
            {
                Value buffer = graph.Input(parameter.Name + ".gradient_buffer", ElementType.Float32, [.. parameter.Shape]);
                graph.Output(graph.Add(buffer, gradient, parameter.Name + ".gradient"));
            }
        }

        graph.Output("loss", loss);
        return new ModelArtifact("training_model.onnx", graph.ToBytes(), weights.Folder) { Stacks = weights.Stacks };
    }

    /// <summary>The evaluation graph: the same forward pass without dropout, with the outputs loss and correct, the sum of the label_weights of the labels
    /// that the model would have said itself.</summary>
    /// <param name="target">The model.</param>
    /// <param name="plan">How it is cut.</param>
    /// <param name="logits">Outputs logits [labels, vocabulary] at label_positions beside the loss.</param>
    /// <param name="graph">An empty graph; null makes one.</param>
    public static ModelArtifact Evaluation(TrainingTarget target, ChunkPlan plan, bool logits = false, GraphBuilder? graph = null)
    {
        graph ??= new GraphBuilder("evaluation");
        Tape tape = new(graph);
        GraphWeights weights = new(graph, target.Checkpoint);
        ModelGraph model = Assemble(target, tape, weights, plan, training: false);
        Value normed = model.FinalNorm(model.Body(checkpointing: false)); // [labels, hidden]
        (Value loss, Value correct) = CrossEntropy.Evaluate(
            graph, normed, model.Head, Labels(graph), LabelWeights(graph), plan.Loss, HeadParts(model, weights, plan), model.HeadTokens); // []
        graph.Output("loss", loss);
        graph.Output("correct", correct);
        if (logits)
        {
            graph.Output("logits", Scores(model, normed)); // [labels, vocabulary]
        }

        return new ModelArtifact("eval_model.onnx", graph.ToBytes(), weights.Folder) { Stacks = weights.Stacks };
    }

    /// <summary>The forward pass of the frozen base, to see what its linear layers are fed: one output [in] for each set of layers with the same
    /// input, the absmax of every value.</summary>
    /// <param name="target">The model; its adapters are left out.</param>
    /// <param name="plan">How it is cut.</param>
    /// <param name="layers">The modules behind each output.</param>
    public static ModelArtifact Calibration(TrainingTarget target, ChunkPlan plan, out IReadOnlyDictionary<string, IReadOnlyList<string>> layers)
    {
        GraphBuilder graph = new("layer_inputs");
        GraphWeights weights = new(graph, target.Checkpoint);
        Dictionary<Value, List<string>> modules = [];
        TrainingTarget frozen = target with { Loras = [], Saved = [], Tokens = null, Int8 = null, Dropout = 0 };
        ModelGraph model = Assemble(frozen, new Tape(graph), weights, plan, training: true) with { OnLinear = Note };
        model.Body(checkpointing: false);
        foreach ((Value x, List<string> names) in modules)
        {
            graph.Output(names[0], graph.ReduceMax(graph.Abs(x), [0], keepAxes: false)); // [tokens, in] -> [in]
        }

        layers = modules.Values.ToDictionary(names => names[0], names => (IReadOnlyList<string>)names);
        return new ModelArtifact("layer_inputs.onnx", graph.ToBytes(), weights.Folder);

        void Note(string module, Value x)
        {
            if (!modules.TryAdd(x, [module]))
            {
                modules[x].Add(module);
            }
        }
    }

    private static ModelGraph Assemble(TrainingTarget target, Tape tape, GraphWeights weights, ChunkPlan plan, bool training)
    {
        GraphBuilder graph = tape.Graph;
        QwenConfig config = target.Config;
        Value ids = graph.Input("input_ids", ElementType.Int64, "batch", "sequence");
        Value positions = graph.Input("position_ids", ElementType.Int64, "batch", "sequence");
        RotaryTables rotary = RotaryTables.Inputs(graph, config, positions, training);
        Value outputs = graph.Input("label_positions", ElementType.Int64, "labels");
        Value? firstKeys = config.SlidingWindows.Any(window => window is null) ? FirstKeys("first_keys") : null;
        CausalMask? full = firstKeys is null ? null : CausalMask.Build(graph, firstKeys, plan.Attention, plan.Flash);
        CausalMask? sliding = config.SlidingWindows.Any(window => window is not null)
            ? CausalMask.Build(graph, FirstKeys("sliding_first_keys"), plan.Attention)
            : null;
        RecurrentCores? recurrent = config.DeltaNet is null ? null : Recurrent(graph, config.DeltaNet, ids, firstKeys!);
        Dictionary<string, Weight> trainable = [];
        foreach (TrainableTensor tensor in target.Trainables)
        {
            trainable[tensor.Name] = Trainable(tensor);
            weights.Set(tensor.Name, trainable[tensor.Name]);
        }

        foreach (SavedTensor saved in target.Saved)
        {
            weights.Set(saved.Base.Name, trainable[saved.Key]);
        }

        if (training && target.Int8 is { } int8)
        {
            weights.Quantize(int8);
        }

        double dropout = training ? target.Dropout : 0;
        (Value Rows, Value Columns)? counters = dropout > 0 && graph.ForCuda
            ? (graph.Input("dropout_rows", ElementType.Int64, "tokens", 1),
                graph.Input("dropout_columns", ElementType.Int64, 1, target.Loras.Max(lora => DropoutMask.RowBytes(lora.Module.In))))
            : null;
        Dictionary<LoraModule, int> numbers = target.Loras.Index().ToDictionary(item => item.Item, item => item.Index);
        Dictionary<string, AdaptedLinear> adapted = target.Loras.Where(lora => lora.Parameter is not { IsStack: true })
            .ToDictionary(lora => lora.Module.Name, Attached);
        return new ModelGraph(tape, config, target.Architecture, weights.Get, adapted,
            (layerTape, layer, q, k, v) => Attention.Apply(layerTape, q, k, v, config.SlidingWindows[layer] is null ? full! : sliding!,
            plan.RecomputeAttention))
        {
            InputIds = ids,
            Rotary = rotary,
            Recurrent = recurrent,
            OutputRows = outputs,
            ExpertWeights = weights.Experts,
            AdaptedExperts = target.Loras.Where(lora => lora.Parameter is { IsStack: true }).ToDictionary(
                lora => lora.Module.Name, lora => new ExpertLora(trainable[lora.KeyA], trainable[lora.KeyB], lora.Rank, (float)lora.Scaling)),
            Tokens = target.Tokens is { } tokens ? new TrainedRows(trainable[tokens.Tensor.Key], [.. tokens.Ids.Select(id => (long)id)]) : null,
        };

        AdaptedLinear Attached(LoraModule lora)
        {
            return new AttachedLora(lora, trainable[lora.KeyA], trainable[lora.KeyB], dropout > 0 ? Mask(lora) : null, (float)(1 / (1 - dropout)))
            {
                Magnitude = lora.UseDora ? trainable[lora.KeyMagnitude] : null,
                Initial = target.Initial.Contains(lora) ? Initial(lora) : null,
            }.Apply;
        }

        DropoutMask Mask(LoraModule lora) => counters is var (rows, columns)
            ? new DropoutMask(rows, new DropoutColumns(columns, numbers[lora], dropout))
            : new DropoutMask(graph.Input(lora.Module.Name + ".dropout_mask", ElementType.UInt8, "tokens", DropoutMask.RowBytes(lora.Module.In)));

        (Value A, Value B) Initial(LoraModule lora)
        {
            (string a, string b) = TrainingTarget.InitialNames(lora);
            return (graph.Input(a, ElementType.Float32, lora.Rank, lora.Module.In), graph.Input(b, ElementType.Float32, lora.Module.Out, lora.Rank));
        }

        Value FirstKeys(string name) => graph.Input(name, ElementType.Int64, "mask_batch", "sequence");

        Weight Trainable(TrainableTensor tensor)
        {
            Value value = graph.Input(tensor.Name, ElementType.Float32, [.. tensor.Shape.Select(size => (Dimension)size)]);
            return training ? tape.Parameter(value) : new FloatWeight(value);
        }
    }

    private static Value Scores(ModelGraph model, Value normed)
    {
        Value scores = model.Graph.Gemm(normed, model.Head.Read(model.Graph), transB: true); // [labels, vocabulary]
        return model.HeadTokens?.Scores(model.Graph, scores, normed) ?? scores;
    }

    /// <summary>Over whole sequences, each packed row for itself.</summary>
    private static RecurrentCores Recurrent(GraphBuilder graph, GatedDeltaNet sizes, Value ids, Value firstKeys)
    {
        ConvolutionTaps taps = ConvolutionTaps.Build(graph, ids, firstKeys, sizes.Taps);
        DeltaChunks chunks = DeltaChunks.Build(graph, ids, firstKeys, sizes.KeyHeads, sizes.ValueHeads);
        return new RecurrentCores(
            (tape, _, x, weight) => CausalConvolution.Apply(tape, x, weight, taps),
            (tape, _, q, k, v, decay, beta) => DeltaRule.Apply(tape, q, k, v, decay, beta, chunks));
    }

    private static Value Labels(GraphBuilder graph) => graph.Input("label_ids", ElementType.Int64, "labels");

    private static Value LabelWeights(GraphBuilder graph) => graph.Input("label_weights", ElementType.Float32, "labels");

    private static IReadOnlyList<Weight>? HeadParts(ModelGraph model, GraphWeights tensors, ChunkPlan plan) =>
        tensors.Parts(model.Architecture.HeadName(model.Config), plan.Vocabulary);
}
