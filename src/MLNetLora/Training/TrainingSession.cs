using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Onnx;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.Training;

/// <summary>The sessions of a run over one set of parameters: forward and backward of a micro-batch, the optimizer's step, evaluation.</summary>
internal sealed class TrainingSession : IDisposable
{
    private const int Losses = 64; // that stay where they are computed

    private readonly Stack<IDisposable> _owned = [];
    private readonly TrainingTarget _target;
    private readonly TrainingOptions _options;
    private readonly GraphInputs _inputs;
    private readonly DropoutMasks? _dropout;
    private readonly OnnxSession _training;
    private readonly CapturedRuns? _captured; // where its kernels are started as CUDA graphs
    private readonly OptimizerStep _optimizer;
    private readonly DeviceMemory? _device;
    private readonly DeviceWeights? _weights; // on the device, for training and evaluation
    private readonly FloatBuffer _losses; // of the last micro-batches
    private readonly NativeTensor[] _lossViews;
    private double _lossBefore; // of the window's micro-batches before those
    private int _pending; // losses that nobody has asked for yet
    private readonly Dictionary<string, NativeTensor> _held = [];
    private EvaluationSession? _evaluation;
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
            _device = options.Device is CudaDevice cuda ? Own(new DeviceMemory(cuda)) : null;
            bool captures = options.Device is CudaDevice { Graphs: true };
            _inputs = Own(new GraphInputs(target.Config, training: true, captures ? _device : null));
            _losses = Own(new FloatBuffer(Losses, "losses", _device));
            _lossViews = [.. Enumerable.Range(0, Losses).Select(i => _losses.View(i, []))];
            _dropout = target.Dropout > 0 ? new DropoutMasks(target.Loras, target.Dropout, options.SeedOrDefault) : null;
            Optimizer optimizer = Optimizers.Of(options);
            Parameters = Own(new ParameterSet(target.Trainables, optimizer, options.IsFast, _device));
            GraphBuilder graph = options.NewGraph("training");
            ModelArtifact training = TrainingModel.Training(target, options.ActivationCheckpointing, plan, graph, upcastOnce: options.PrepackWeights);
            InitializerMemory? int8 = target.Int8 is null ? null : Quantized(target.Int8, graph.UsedInitializers(), cancellation);
            SessionUse use = options.PrepackWeights ? SessionUse.PrepackedTraining : SessionUse.Training;
            _weights = _device is null || target.Checkpoint is null ? null : Own(new DeviceWeights(target.Checkpoint, _device));
            IReadOnlyDictionary<string, NativeTensor>? initializers = _weights?.For(training, cancellation: cancellation) ?? int8?.Tensors;
            _training = Own(new OnnxSession(training, use, options.Threads, initializers, options.Device, captures, cancellation));
            _captured = captures ? Own(new CapturedRuns(_training, _device!)) : null;
            _optimizer = Own(new OptimizerStep(optimizer, Parameters, options, _device));
            _views = View(Parameters.Values, Parameters.Gradients);
            _viewsAfterSwap = View(Parameters.Gradients, Parameters.Values);
        }
        catch (Exception e)
        {
            Dispose();
            if (e is MLNetLoraException and not (OptionException or NativeMemoryException))
            {
                target.Checkpoint?.RequireUnchanged(areMapped: false); // what the runtime says of a file that became shorter names none
            }

            throw;
        }
    }

    /// <summary>How the graphs are cut; the length of a batch must be a multiple of <see cref="ChunkPlan.Attention"/>.</summary>
    public ChunkPlan Plan { get; }

    /// <summary>The run that it is for, which says what helps where memory runs out; null for none.</summary>
    public RunMemory? Memory { get; init; }

    /// <summary>The trainable tensors.</summary>
    public ParameterSet Parameters { get; }

    /// <summary>What losses are multiplied with on the way to the gradients, to be set between steps; 1 but in float16.</summary>
    public float LossScale { get; set; } = 1f;

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
            FloatBuffer buffer = Own(new FloatBuffer(values.Length, name, _device));
            buffer.Write(0, values);
            _held[name] = buffer.View(0, shape);
        }
    }

    /// <summary>Prepares for rows of up to a length: graphs that are captured read tables at one address.</summary>
    public void Reserve(int length) => _inputs.Reserve(_options.Device is CudaDevice { Graphs: true } ? CapturedRuns.Length(length, Plan) : length);

    /// <summary>Runs forward and backward of a micro-batch and adds its gradients to the buffers.</summary>
    /// <param name="batch">Rows.</param>
    /// <param name="windowLabels">Label tokens of the whole accumulation window, by which losses are divided.</param>
    /// <param name="microBatch">Number of the micro-batch since the run began, which decides its dropout masks.</param>
    /// <param name="cancellation">Ends it on the way; the gradients are then undefined.</param>
    /// <returns>Sum of the batch's token losses over <paramref name="windowLabels"/>.</returns>
    public float Accumulate(Batch batch, long windowLabels, long microBatch = 0, CancellationToken cancellation = default)
    {
        Add(batch, windowLabels, microBatch, cancellation);
        return (float)TakeLoss();
    }

    /// <summary>The same, with the loss left where it is computed until <see cref="TakeLoss"/> asks for it.</summary>
    /// <param name="batch">Rows.</param>
    /// <param name="windowLabels">Label tokens of the whole accumulation window, by which losses are divided.</param>
    /// <param name="microBatch">Number of the micro-batch since the run began, which decides its dropout masks.</param>
    /// <param name="cancellation">Ends it on the way; the gradients are then undefined.</param>
    public void Add(Batch batch, long windowLabels, long microBatch, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        RequireWhole(batch);
        _target.Checkpoint?.RequireUnchanged();
        Dictionary<string, NativeTensor> inputs = new(_views.TrainingInputs.Concat(_held));
        List<NativeTensor> owned = [];
        try
        {
            Batch padded = _captured is null ? batch : batch.PaddedTo(CapturedRuns.Length(batch.Length, Plan));
            _inputs.Add(padded, LossScale / Math.Max(1, windowLabels), Plan, inputs, owned);
            if (_dropout is not null)
            {
                AddMasks(_dropout, microBatch, batch, padded.Length, inputs, owned);
            }

            NativeTensor loss = NextLoss();
            if (_captured is null)
            {
                _training.Run(inputs.Keys, inputs.Values, [.. _views.TrainingOutputs.Keys, "loss"], [.. _views.TrainingOutputs.Values, loss],
                    cancellation: cancellation);
            }
            else
            {
                _captured.Run(inputs, _views.TrainingOutputs, Parameters.Gradients, new LossSlot(_losses, _pending, loss), cancellation);
            }

            _pending++;
        }
        finally
        {
            owned.ForEach(value => value.Dispose());
        }
    }

    /// <summary>Sum of the losses since it was last asked for.</summary>
    public double TakeLoss()
    {
        float[] losses = new float[_pending];
        _losses.Read(0, losses);
        double sum = _lossBefore + losses.Sum(loss => (double)loss);
        (_lossBefore, _pending) = (0, 0);
        return sum / LossScale;
    }

    /// <summary>Global norm of the accumulated gradients, to which <see cref="Update"/> clips them.</summary>
    public float GradientNorm() => _optimizer.Norm(LossScale);

    /// <summary>Ends a step without one, and clears the gradients.</summary>
    public void Skip() => Parameters.Gradients.Clear();

    /// <summary><see cref="GradientNorm"/> and <see cref="Update"/>.</summary>
    /// <returns>The norm.</returns>
    public float Step(double learningRate, int step)
    {
        float norm = GradientNorm();
        Update(learningRate, step);
        return norm;
    }

    /// <summary>
    /// Makes one step of the optimizer with the accumulated gradients, after <see cref="GradientNorm"/>, and clears them. It is made whole or not at all:
    /// whatever it throws, <see cref="ParameterSet.Values"/> are then those of before (its states are not, so a run cannot go on from there). That is also why
    /// it takes no token.
    /// </summary>
    /// <param name="learningRate">The rate.</param>
    /// <param name="step">Number of the step, from 1.</param>
    public void Update(double learningRate, int step)
    {
        _optimizer.Run(learningRate, step);
        Parameters.Swap();
        (_views, _viewsAfterSwap) = (_viewsAfterSwap, _views);
    }

    /// <summary>Losses and hits of a batch, without dropout; the evaluation session is made at the first call.</summary>
    /// <param name="batch">Rows.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    public TokenSums Evaluate(Batch batch, CancellationToken cancellation = default)
    {
        cancellation.ThrowIfCancellationRequested();
        RequireWhole(batch);
        _evaluation ??= Own(new EvaluationSession(_target, _options, Plan, _weights, _device, cancellation));
        Dictionary<string, NativeTensor> inputs = new(_held);
        foreach (TrainableTensor tensor in Parameters.Tensors)
        {
            inputs[tensor.Name] = _views.TrainingInputs[tensor.Name];
        }

        return _evaluation.Run(batch, inputs, cancellation);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        while (_owned.TryPop(out IDisposable? owned))
        {
            owned.Dispose();
        }
    }

    /// <summary>Adds the masks of a batch, or what they are made from: the same whatever length it is then padded to.</summary>
    private void AddMasks(DropoutMasks masks, long microBatch, Batch batch, int length, Dictionary<string, NativeTensor> inputs, List<NativeTensor> owned)
    {
        int tokens = batch.Rows * batch.Length;
        if (_device is not null)
        {
            (long[] rows, long[] columns) = masks.Counters(microBatch, tokens);
            Add("dropout_rows", Tensors.Of(Batch.Padded(rows, batch.Rows, length), batch.Rows * length, 1));
            Add("dropout_columns", Tensors.Of(columns, 1, columns.Length));
            return;
        }

        for (int i = 0; i < _target.Loras.Count; i++)
        {
            Memory<byte> bits = masks.Draw(i, microBatch, tokens);
            Add(_target.Loras[i].Module.Name + ".dropout_mask", Tensors.Of(bits, tokens, bits.Length / tokens)); // [tokens, ⌈in / 8⌉]
        }

        void Add(string name, NativeTensor value)
        {
            owned.Add(value);
            inputs[name] = value;
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

    /// <summary>Packed rows would see each other where attention is one operator.</summary>
    private void RequireWhole(Batch batch)
    {
        if (Plan.Flash && batch.Segments is not null)
        {
            throw new InvalidOperationException("The graphs of this session were made for rows that are not packed.");
        }
    }

    /// <summary>Where the next loss is written.</summary>
    private NativeTensor NextLoss()
    {
        if (_pending == Losses)
        {
            _lossBefore = TakeLoss() * LossScale;
        }

        return _lossViews[_pending];
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

        return views;
    }

    private sealed record Views(Dictionary<string, NativeTensor> TrainingInputs, Dictionary<string, NativeTensor> TrainingOutputs);
}
