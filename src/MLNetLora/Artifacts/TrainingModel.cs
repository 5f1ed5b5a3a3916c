using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Onnx.Differentiable;

namespace MLNetLora.Artifacts;

/// <summary>
/// Builds training_model.onnx (forward, loss, backward, one gradient output per trainable tensor) and eval_model.onnx (forward and loss or logits).
/// </summary>
/// <remarks>
/// Inputs: input_ids, position_ids [batch, sequence]; rope_cos, rope_sin [positions, d/2]; attention_bias (and sliding_attention_bias)
/// [batch or 1, 1, sequence, sequence]; label_positions, label_ids, label_weights [labels]; every trainable tensor under its name;
/// in training also NAME.gradient_buffer for each and MODULE.dropout_mask [tokens, in].
/// Outputs: loss []; NAME.gradient = NAME.gradient_buffer + gradient, so that accumulating over micro-batches costs one addition and the two can share memory.
/// </remarks>
internal static class TrainingModel
{
    /// <summary>Chunks of the loss for large vocabularies: a quarter of the labelled rows' logits are alive at a time.</summary>
    public static int LossChunks(QwenConfig config) => config.VocabSize > 32_768 ? 4 : 1;

    /// <summary>The training graph.</summary>
    public static ModelArtifact Training(TrainingTarget target, bool checkpointing) => Training(target, checkpointing, new GraphBuilder("training"));

    /// <summary>The training graph, built in a graph of the caller's.</summary>
    public static ModelArtifact Training(TrainingTarget target, bool checkpointing, GraphBuilder graph)
    {
        Tape tape = new(graph);
        GraphWeights weights = new(graph, target.Checkpoint);
        ModelGraph model = Assemble(target, tape, weights, training: true);
        Value loss = Loss(model, model.Body(checkpointing));
        foreach ((Value parameter, Value gradient) in tape.Backward(loss))
        {
            using (graph.AtEndOf(gradient))
            {
                Value buffer = graph.Input(parameter.Name + ".gradient_buffer", ElementType.Float32, [.. parameter.Shape]);
                graph.Output(graph.Add(buffer, gradient, parameter.Name + ".gradient"));
            }
        }

        graph.Output("loss", loss);
        return new ModelArtifact("training_model.onnx", graph.ToBytes(), weights.Folder);
    }

    /// <summary>The evaluation graph: the same forward pass without dropout.</summary>
    /// <param name="target">The model.</param>
    /// <param name="logits">Outputs logits [labels, vocabulary] at label_positions beside the loss.</param>
    public static ModelArtifact Evaluation(TrainingTarget target, bool logits = false)
    {
        GraphBuilder graph = new("evaluation");
        Tape tape = new(graph);
        GraphWeights weights = new(graph, target.Checkpoint);
        ModelGraph model = Assemble(target, tape, weights, training: false);
        Value x = model.Body(checkpointing: false);
        graph.Output("loss", Loss(model, x, out Value chosen));
        if (logits)
        {
            graph.Output("logits", graph.Gemm(chosen, model.Head.Read(graph), transB: true)); // [labels, vocabulary]
        }

        return new ModelArtifact("eval_model.onnx", graph.ToBytes(), weights.Folder);
    }

    private static ModelGraph Assemble(TrainingTarget target, Tape tape, GraphWeights weights, bool training)
    {
        GraphBuilder graph = tape.Graph;
        QwenConfig config = target.Config;
        Value ids = graph.Input("input_ids", ElementType.Int64, "batch", "sequence");
        Value positions = graph.Input("position_ids", ElementType.Int64, "batch", "sequence");
        Value cos = graph.Input("rope_cos", ElementType.Float32, "positions", config.HeadDim / 2);
        Value sin = graph.Input("rope_sin", ElementType.Float32, "positions", config.HeadDim / 2);
        Value? full = config.SlidingWindows.Any(window => window is null) ? Bias("attention_bias") : null;
        Value? sliding = config.SlidingWindows.Any(window => window is not null) ? Bias("sliding_attention_bias") : null;
        Dictionary<string, Weight> trainable = [];
        foreach (TrainableTensor tensor in target.Trainables)
        {
            trainable[tensor.Name] = Trainable(tensor);
            weights.Set(tensor.Name, trainable[tensor.Name]);
        }

        Dictionary<string, AttachedLora> loras = target.Loras.ToDictionary(lora => lora.Module.Name, lora => new AttachedLora(lora, trainable[lora.KeyA], trainable[lora.KeyB],
            training && target.Dropout > 0 ? graph.Input(lora.Module.Name + ".dropout_mask", ElementType.Bool, "tokens", lora.Module.In) : null, (float)(1 / (1 - target.Dropout))));
        return new ModelGraph(tape, config, target.Architecture, weights.Get, loras,
            (layerTape, layer, q, k, v) => Attention.Apply(layerTape, q, k, v, config.SlidingWindows[layer] is null ? full! : sliding!))
        {
            InputIds = ids,
            Rotary = new RotaryTables(positions, cos, sin),
        };

        Value Bias(string name) => graph.Input(name, ElementType.Float32, "bias_batch", 1, "sequence", "sequence");

        Weight Trainable(TrainableTensor tensor)
        {
            Value value = graph.Input(tensor.Name, ElementType.Float32, [.. tensor.Shape.Select(size => (Dimension)size)]);
            return training ? tape.Parameter(value) : new Weight(value);
        }
    }

    private static Value Loss(ModelGraph model, Value x) => Loss(model, x, out _);

    private static Value Loss(ModelGraph model, Value x, out Value chosen)
    {
        GraphBuilder graph = model.Graph;
        Value positions = graph.Input("label_positions", ElementType.Int64, "labels");
        Value labels = graph.Input("label_ids", ElementType.Int64, "labels");
        Value weights = graph.Input("label_weights", ElementType.Float32, "labels");
        chosen = model.Norm("model.norm", Rows.Apply(model.Tape, x, positions)); // [labels, hidden]
        return CrossEntropy.Apply(model.Tape, chosen, model.Head, labels, weights, LossChunks(model.Config)); // []
    }
}
