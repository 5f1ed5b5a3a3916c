using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Onnx;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.Training;

/// <summary>The sessions of a run over one set of parameters: forward and backward of a micro-batch, the optimizer's step, evaluation.</summary>
internal sealed class TrainingSession : IDisposable
{
    private readonly Stack<IDisposable> _owned = [];
    private readonly TrainingTarget _target;
    private readonly TrainingOptions _options;
    private readonly GraphInputs _inputs;
    private readonly GraphInputs _evaluationInputs;
    private readonly DropoutMasks? _dropout;
    private readonly OnnxSession _training;
    private readonly OptimizerStep _optimizer;
    private readonly FloatBuffer _loss;
    private readonly Dictionary<string, NativeTensor> _held = [];
    private OnnxSession? _evaluation;
    private Views _views;
    private Views _viewsAfterSwap;

    /// <summary>Builds the graphs and creates the sessions; the parameters start at zero and are filled by the caller.</summary>
    /// <param name="target">What is trained.</param>
    /// <param name="options">How.</param>
    /// <param name="plan">How the graphs are cut.</param>
    /// <param name="cancellation">Ends it on the way with an <see cref="OperationCanceledException"/>.</param>
    public TrainingSession(TrainingTarget target, TrainingOptions options, ChunkPlan plan, CancellationToken cancellation = default)
    {
        if (target.Checkpoint is not null)
        {
            _ = ReadAhead.Start(target.Checkpoint, cancellation);
        }

        _target = target;
        _options = options;
        Plan = plan;
        try
        {
            _inputs = Own(new GraphInputs(target.Config, training: true));
            _evaluationInputs = Own(new GraphInputs(target.Config, training: false));
            _loss = Own(new FloatBuffer(1));
            _dropout = target.Dropout > 0 ? new DropoutMasks(target.Loras, target.Dropout, options.SeedOrDefault) : null;
            Optimizer optimizer = Optimizers.Of(options);
            Parameters = Own(new ParameterSet(target.Trainables, optimizer, options.IsFast));
            GraphBuilder graph = new("training");
            ModelArtifact training = TrainingModel.Training(target, options.ActivationCheckpointing, plan, graph, upcastOnce: options.PrepackWeights);
            InitializerMemory? int8 = target.Int8 is null ? null : Quantized(target.Int8, graph.UsedInitializers(), cancellation);
            SessionUse use = options.PrepackWeights ? SessionUse.PrepackedTraining : SessionUse.Training;
            _training = Own(new OnnxSession(training, use, options.Threads, int8?.Tensors, cancellation));
            _optimizer = Own(new OptimizerStep(optimizer, Parameters, options));
            _views = View(Parameters.Values, Parameters.Gradients);
            _viewsAfterSwap = View(Parameters.Gradients, Parameters.Values);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>How the graphs are cut; the length of a batch must be a multiple of <see cref="ChunkPlan.Attention"/>.</summary>
    public ChunkPlan Plan { get; }

    /// <summary>The trainable tensors.</summary>
    public ParameterSet Parameters { get; }

    /// <summary>Keeps what the start of a run takes out of the base; called once, before the first micro-batch.</summary>
    public void Hold(LoraAdapter start)
    {
        foreach (LoraFactors factors in start.Factors)
        {
            if (factors.Initial is var (a, b))
            {
                (string nameA, string nameB) = TrainingTarget.InitialNames(factors.Module);
                Keep(nameA, a, [factors.Module.Rank, factors.Module.Module.In]);
                Keep(nameB, b, [factors.Module.Module.Out, factors.Module.Rank]);
            }
        }

        void Keep(string name, float[] values, long[] shape)
        {
            FloatBuffer buffer = Own(new FloatBuffer(values.Length, name));
            values.CopyTo(buffer.Span(0, values.Length));
            _held[name] = buffer.View(0, shape);
        }
    }

    /// <summary>Runs forward and backward of a micro-batch and adds its gradients to the buffers.</summary>
    /// <param name="batch">Rows.</param>
    /// <param name="windowLabels">Label tokens of the whole accumulation window, by which losses are divided.</param>
    /// <param name="microBatch">Number of the micro-batch since the run began, which decides its dropout masks.</param>
    /// <param name="cancellation">Ends it on the way; the gradients are then undefined.</param>
    /// <returns>Sum of the batch's token losses over <paramref name="windowLabels"/>.</returns>
    public float Accumulate(Batch batch, long windowLabels, long microBatch = 0, CancellationToken cancellation = default)
    {
        cancellation.ThrowIfCancellationRequested();
        _target.Checkpoint?.RequireUnchanged();
        Dictionary<string, NativeTensor> inputs = new(_views.TrainingInputs.Concat(_held));
        List<NativeTensor> owned = [];
        try
        {
            _inputs.Add(batch, 1f / Math.Max(1, windowLabels), Plan.Loss, inputs, owned);
            for (int i = 0; i < _target.Loras.Count && _dropout is not null; i++)
            {
                int tokens = batch.Rows * batch.Length;
                Memory<byte> bits = _dropout.Draw(i, microBatch, tokens);
                NativeTensor mask = Tensors.Of(bits, tokens, bits.Length / tokens); // [tokens, ⌈in / 8⌉]
                owned.Add(mask);
                inputs[_target.Loras[i].Module.Name + ".dropout_mask"] = mask;
            }

            _training.Run(inputs.Keys, inputs.Values, _views.TrainingOutputs.Keys, _views.TrainingOutputs.Values, cancellation);
            return _loss.Span(0, 1)[0];
        }
        finally
        {
            owned.ForEach(value => value.Dispose());
        }
    }

    /// <summary>
    /// Makes one step of the optimizer with the accumulated gradients and clears them. It is made whole or not at all: whatever it throws,
    /// <see cref="ParameterSet.Values"/> are then those of before (its states are not, so a run cannot go on from there). That is also why it takes no token.
    /// </summary>
    /// <param name="learningRate">The rate.</param>
    /// <param name="step">Number of the step, from 1.</param>
    /// <returns>Global norm of the gradients before clipping.</returns>
    public float Step(double learningRate, int step)
    {
        float norm = _optimizer.Run(learningRate, step);
        Parameters.Swap();
        (_views, _viewsAfterSwap) = (_viewsAfterSwap, _views);
        return norm;
    }

    /// <summary>Sum of the token losses of a batch, without dropout; the evaluation session is made at the first call.</summary>
    /// <param name="batch">Rows.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    public double Evaluate(Batch batch, CancellationToken cancellation = default)
    {
        cancellation.ThrowIfCancellationRequested();
        if (_evaluation is null)
        {
            _target.Checkpoint?.RequireUnchanged(areMapped: false);
            _evaluation = Own(new OnnxSession(TrainingModel.Evaluation(_target, Plan), SessionUse.Training, _options.Threads, cancellation: cancellation));
        }

        Dictionary<string, NativeTensor> inputs = new(_held);
        foreach (TrainableTensor tensor in Parameters.Tensors)
        {
            inputs[tensor.Name] = _views.TrainingInputs[tensor.Name];
        }

        List<NativeTensor> owned = [];
        try
        {
            _evaluationInputs.Add(batch, 1f, Plan.Loss, inputs, owned);
            _evaluation.Run(inputs.Keys, inputs.Values, ["loss"], [_views.TrainingOutputs["loss"]], cancellation);
            return _loss.Span(0, 1)[0];
        }
        finally
        {
            owned.ForEach(value => value.Dispose());
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        while (_owned.TryPop(out IDisposable? owned))
        {
            owned.Dispose();
        }
    }

    /// <summary>The 8-bit copies that the graph reads.</summary>
    private InitializerMemory Quantized(Int8Weights weights, IReadOnlySet<string> used, CancellationToken cancellation)
    {
        IEnumerable<QuantizedTensor> tensors = weights.Groups.SelectMany(group => group.Tensors).Where(tensor => used.Contains(tensor.Name));
        InitializerMemory memory = Own(new InitializerMemory(tensors, "the weights' 8-bit copies"));
        weights.Quantize(memory.Of, _options.Threads, cancellation);
        return memory;
    }

    private T Own<T>(T value)
        where T : IDisposable
    {
        _owned.Push(value);
        return value;
    }

    /// <summary>What the graphs read and write, by name, while one vector holds the parameters and another takes the gradients.</summary>
    private Views View(FloatBuffer values, FloatBuffer gradients)
    {
        Views views = new([], []);
        foreach (TrainableTensor tensor in Parameters.Tensors)
        {
            views.TrainingInputs[tensor.Name] = Parameters.View(values, tensor.Name);
            views.TrainingInputs[tensor.Name + ".gradient_buffer"] = views.TrainingOutputs[tensor.Name + ".gradient"] = Parameters.View(gradients, tensor.Name);
        }

        views.TrainingOutputs["loss"] = _loss.View(0, []);
        return views;
    }

    private sealed record Views(Dictionary<string, NativeTensor> TrainingInputs, Dictionary<string, NativeTensor> TrainingOutputs);
}
