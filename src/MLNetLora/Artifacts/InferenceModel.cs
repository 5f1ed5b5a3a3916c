using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Onnx.Differentiable;
using MLNetLora.Quantization;

namespace MLNetLora.Artifacts;

/// <summary>Builds inference_model.onnx: prefill and decode with a cache of the tokens so far, one graph for both.</summary>
/// <remarks>
/// Inputs: input_ids, position_ids [batch, sequence]; last_positions [batch], row·sequence + the last token of each row; past_lengths [batch] 32-bit, tokens in
/// the cache after this run less one; total_length [] 32-bit, the longest of them plus one; the tables of <see cref="RotaryTables"/>;
/// past.NAME for each <see cref="CacheState"/> of the family: past.LAYER.key, past.LAYER.value [batch, kv, capacity, d], of a recurrent layer
/// past.LAYER.convolution [batch, taps − 1, channels], past.LAYER.recurrence [batch, value heads, dk, dv], and with such layers the inputs of
/// <see cref="RecurrentState.Inputs"/>; the adapter's tensors under their PEFT keys,
/// and with DoRA the outputs of <see cref="DoraNorms"/>, which are the same for every token.
/// Outputs: logits [batch, vocabulary] of each row's last token; present.NAME, which are meant to be the same memory as the past.
/// </remarks>
internal static class InferenceModel
{
    /// <summary>The graph for a checkpoint and the layers that an adapter is put on.</summary>
    /// <param name="checkpoint">The base.</param>
    /// <param name="adapter">What the adapter consists of; its tensors are inputs under their PEFT keys.</param>
    /// <param name="quantized">Weights that are used in blocks, given to the session beside the graph; null for none.</param>
    /// <param name="graph">An empty graph; null makes one. Keys and values have its compute type.</param>
    /// <param name="shared">Layers whose tokens have each an adapter of their own: see <see cref="AdapterGroups"/>, whose inputs the graph then has; not with
    /// <paramref name="adapter"/>. Null or empty for none.</param>
    public static ModelArtifact Build(
        Checkpoint checkpoint, AdapterParts adapter, BlockWeights? quantized = null, GraphBuilder? graph = null, IReadOnlyList<LinearModule>? shared = null)
    {
        QwenConfig config = checkpoint.Config;
        string headName = checkpoint.Architecture.HeadName(config);
        graph ??= new GraphBuilder("inference");
        Tape tape = new(graph);
        GraphWeights weights = new(graph, checkpoint) { Streams = graph.ForCuda ? null : new RowStreams(graph) };
        Value ids = graph.Input("input_ids", ElementType.Int64, "batch", "sequence");
        Value positions = graph.Input("position_ids", ElementType.Int64, "batch", "sequence");
        Value last = graph.Input("last_positions", ElementType.Int64, "batch");
        Value lengths = graph.Input("past_lengths", ElementType.Int32, "batch");
        Value total = graph.Input("total_length", ElementType.Int32);
        RotaryTables rotary = RotaryTables.Inputs(graph, config, positions, training: false);
        foreach (SavedTensor tensor in adapter.Saved)
        {
            Value value = graph.Input(tensor.Key, ElementType.Float32, [.. tensor.Base.Shape.Select(size => (Dimension)size)]);
            weights.Set(tensor.Base.Name, new FloatWeight(value) { Streams = tensor.Base.Kind == TensorKind.Head ? weights.Streams : null });
        }

        HashSet<string> replaced = [.. adapter.Saved.Select(tensor => tensor.Base.Name)];
        Dictionary<string, AdaptedLinear> adapted = adapter.Modules.Where(lora => lora.Parameter is not { IsStack: true })
            .ToDictionary(lora => lora.Module.Name, Attached);
        if (shared is { Count: > 0 })
        {
            AdapterGroups groups = AdapterGroups.Inputs(graph);
            adapted = shared.ToDictionary(module => module.Name, groups.Of);
        }

        ModelGraph model = new(tape, config, checkpoint.Architecture, Linear, adapted, Cached)
        {
            InputIds = ids,
            OutputRows = last,
            FewRows = true,
            ExpertWeights = weights.Experts,
            AdaptedExperts = adapter.Modules.Where(lora => lora.Parameter is { IsStack: true }).ToDictionary(
                lora => lora.Module.Name, lora => new ExpertLora(FactorA(lora), FactorB(lora), lora.Rank, (float)lora.Scaling)),
            Tokens = adapter.Tokens is { } tokens ? Trained(tokens) : null,
            Recurrent = config.DeltaNet is null ? null : new RecurrentState(graph, config.DeltaNet, ids).Cores,
        };
        Weight head = !replaced.Contains(headName) && quantized?.Get(headName) is { } packedHead ? weights.Quantized(packedHead) : model.Head;
        Value x = model.Body(checkpointing: false); // [batch, hidden]
        Value normed = model.FinalNorm(x); // [batch, hidden]
        Value logits = head.Product(graph, normed); // [batch, vocabulary]
        graph.Output("logits", model.HeadTokens?.Scores(graph, logits, normed) ?? logits);
        return new ModelArtifact("inference_model.onnx", graph.ToBytes(), weights.Folder) { Stacks = weights.Stacks };

        TrainedRows Trained(TrainedTokens tokens) => new(
            new FloatWeight(graph.Input(tokens.Tensor.Key, ElementType.Float32, [.. tokens.Tensor.Shape.Select(size => (Dimension)size)])),
            [.. tokens.Ids.Select(id => (long)id)]);

        FloatWeight FactorA(LoraModule lora) => new(graph.Input(lora.KeyA, ElementType.Float32, lora.Ranks, lora.Module.In));

        FloatWeight FactorB(LoraModule lora) => new(graph.Input(lora.KeyB, ElementType.Float32, lora.Module.Out, lora.Ranks));

        AdaptedLinear Attached(LoraModule lora)
        {
            return new AttachedLora(lora, FactorA(lora), FactorB(lora))
            {
                Magnitude = lora.UseDora ? new FloatWeight(graph.Input(lora.KeyMagnitude, ElementType.Float32, lora.Module.Out)) : null,
                Norm = lora.UseDora ? graph.Input(DoraNorms.Name(lora), ElementType.Float32, lora.Module.Out) : null,
            }.Apply;
        }

        // The embedding is looked up in the checkpoint, even where it is the output layer too.
        Weight? Linear(string name) => name != headName && quantized?.Get(name) is { } packed ? weights.Quantized(packed) : weights.Get(name);

        Value Cached(Tape layerTape, int layer, Value q, Value k, Value v)
        {
            (Dimension kv, Dimension d) = (config.NumKeyValueHeads, config.HeadDim);
            Dimension[] cache = ["batch", kv, "capacity", d];
            Value pastKey = graph.Input($"past.{layer}.key", graph.ComputeType, cache);
            Value pastValue = graph.Input($"past.{layer}.value", graph.ComputeType, cache);
            (q, k) = (Rotated(q, rotary.QueryCos, rotary.QuerySin), Rotated(k, rotary.Cos, rotary.Sin));
            Value[] outputs = graph.Nodes("GroupQueryAttention", [q, k, Flat(v), pastKey, pastValue, lengths, total],
                [(ElementType.Float32, ["batch", "sequence", config.NumAttentionHeads * config.HeadDim], null),
                    (graph.ComputeType, cache, $"present.{layer}.key"), (graph.ComputeType, cache, $"present.{layer}.value")],
                "com.microsoft", ("num_heads", (long)config.NumAttentionHeads), ("kv_num_heads", (long)config.NumKeyValueHeads),
                ("local_window_size", (long)(config.SlidingWindows[layer] ?? -1)), ("do_rotary", 0L));
            graph.Output(outputs[1]);
            graph.Output(outputs[2]);
            return graph.Reshape(outputs[0], [0, 0, config.NumAttentionHeads, config.HeadDim], ["batch", "sequence", config.NumAttentionHeads, d]);
        }

        // Rotated as the linear layers leave them, nothing is transposed. GroupQueryAttention's own rotation wants head sizes that 16 divides.
        Value Rotated(Value x, Value cos, Value sin) =>
            graph.RotaryEmbedding(Flat(x), positions, cos, sin, config.RotaryDim < config.HeadDim ? (int)x.Shape[2].Size : 0);

        // [batch, sequence, heads, d] -> [batch, sequence, heads·d]
        Value Flat(Value x) => graph.Reshape(x, [0, 0, -1], ["batch", "sequence", x.Shape[2].Size * config.HeadDim]);
    }
}
