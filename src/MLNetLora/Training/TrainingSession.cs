using MLNetLora.Artifacts;
using MLNetLora.Onnx;
using MLNetLora.Runtime;

namespace MLNetLora.Training;

/// <summary>The sessions of a run over one set of parameters: forward and backward of a micro-batch, the optimizer's step, evaluation.</summary>
internal sealed class TrainingSession : IDisposable
{
    private readonly TrainingTarget _target;
    private readonly TrainingOptions _options;
    private readonly GraphInputs _inputs;
    private readonly DropoutMasks? _dropout;
    private readonly Int8Weights? _rounded;
    private readonly OnnxSession _training;
    private readonly OnnxSession _optimizer;
    private readonly FloatBuffer _loss = new(1);
    private readonly FloatBuffer _norm = new(1);
    private readonly Dictionary<string, NativeTensor> _trainingInputs = [];
    private readonly Dictionary<string, NativeTensor> _trainingOutputs = [];
    private readonly Dictionary<string, NativeTensor> _optimizerInputs = [];
    private readonly Dictionary<string, NativeTensor> _optimizerOutputs = [];
    private OnnxSession? _evaluation;
    private int _step;
    private long _microBatch;

    /// <summary>Builds the graphs and creates the sessions; the parameters start at zero and are filled by the caller.</summary>
    public TrainingSession(TrainingTarget target, TrainingOptions options, ChunkPlan plan)
    {
        if (target.Checkpoint is not null)
        {
            _ = ReadAhead.Start(target.Checkpoint);
        }

        _target = target;
        _options = options;
        Plan = plan;
        _inputs = new GraphInputs(target.Config);
        _dropout = target.Dropout > 0 ? new DropoutMasks(target.Loras, target.Dropout, options.SeedOrDefault) : null;
        Parameters = new ParameterSet(target.Trainables);
        GraphBuilder graph = new("training");
        ModelArtifact training = TrainingModel.Training(target, options.ActivationCheckpointing, plan, graph, widenOnce: options.PrepackWeights);
        _rounded = target is { RoundedLayers.Count: > 0, Checkpoint: { } checkpoint } ? new Int8Weights(checkpoint, target.RoundedLayers, graph.UsedInitializers(), options.Threads) : null;
        _training = new OnnxSession(training, options.PrepackWeights ? SessionUse.PrepackedTraining : SessionUse.Training, options.Threads, _rounded?.Initializers);
        _optimizer = new OnnxSession(OptimizerModel.Build(Parameters.Groups.Count, options), SessionUse.Training, options.Threads);
        foreach (TrainableTensor tensor in Parameters.Tensors)
        {
            _trainingInputs[tensor.Name] = Parameters.View(Parameters.Values, tensor.Name);
            _trainingInputs[tensor.Name + ".gradient_buffer"] = _trainingOutputs[tensor.Name + ".gradient"] = Parameters.View(Parameters.Gradients, tensor.Name);
        }

        _trainingOutputs["loss"] = _loss.View(0, []);
        _optimizerOutputs["gradient_norm"] = _norm.View(0, []);
        for (int i = 0; i < Parameters.Groups.Count; i++)
        {
            (long start, long length, bool _) = Parameters.Groups[i];
            _optimizerInputs[$"gradients.{i}"] = Parameters.Gradients.View(start, [length]);
            _optimizerInputs[$"parameters.{i}"] = _optimizerOutputs[$"new_parameters.{i}"] = Parameters.Values.View(start, [length]);
            _optimizerInputs[$"first_moment.{i}"] = _optimizerOutputs[$"new_first_moment.{i}"] = Parameters.FirstMoment.View(start, [length]);
            _optimizerInputs[$"second_moment.{i}"] = _optimizerOutputs[$"new_second_moment.{i}"] = Parameters.SecondMoment.View(start, [length]);
        }
    }

    /// <summary>How the graphs are cut; the length of a batch must be a multiple of <see cref="ChunkPlan.Attention"/>.</summary>
    public ChunkPlan Plan { get; }

    /// <summary>The trainable tensors.</summary>
    public ParameterSet Parameters { get; }

    /// <summary>Runs forward and backward of a micro-batch and adds its gradients to the buffers.</summary>
    /// <param name="batch">Rows.</param>
    /// <param name="windowLabels">Label tokens of the whole accumulation window, by which losses are divided.</param>
    /// <returns>Sum of the batch's token losses over <paramref name="windowLabels"/>.</returns>
    public float Accumulate(Batch batch, long windowLabels)
    {
        Dictionary<string, NativeTensor> inputs = new(_trainingInputs);
        List<NativeTensor> owned = [];
        try
        {
            _inputs.Add(batch, 1f / Math.Max(1, windowLabels), Plan.Loss, inputs, owned);
            for (int i = 0; i < _target.Loras.Count && _dropout is not null; i++)
            {
                int tokens = batch.Rows * batch.Length;
                NativeTensor mask = Tensors.Of(_dropout.Draw(i, _microBatch, tokens), tokens, _target.Loras[i].Module.In);
                owned.Add(mask);
                inputs[_target.Loras[i].Module.Name + ".dropout_mask"] = mask;
            }

            _training.Run(inputs.Keys, inputs.Values, _trainingOutputs.Keys, _trainingOutputs.Values);
            _microBatch++;
            return _loss.Span(0, 1)[0];
        }
        finally
        {
            owned.ForEach(value => value.Dispose());
        }
    }

    /// <summary>Makes one AdamW step with the accumulated gradients and clears them.</summary>
    /// <returns>Global norm of the gradients before clipping.</returns>
    public float Step(double learningRate)
    {
        _step++;
        Dictionary<string, NativeTensor> inputs = new(_optimizerInputs);
        List<NativeTensor> owned = [];
        try
        {
            // Corrections in double: 1 − 0.999 has only four good digits in float32.
            Scalar("step_size", learningRate / (1 - Math.Pow(_options.AdamBeta1, _step)));
            Scalar("second_correction", Math.Sqrt(1 - Math.Pow(_options.AdamBeta2, _step)));
            Scalar("maximum_norm", _options.MaximumGradientNorm > 0 ? _options.MaximumGradientNorm : float.MaxValue);
            for (int i = 0; i < Parameters.Groups.Count; i++)
            {
                Scalar($"decay.{i}", Parameters.Groups[i].Decays ? 1 - (learningRate * _options.WeightDecay) : 1);
            }

            _optimizer.Run(inputs.Keys, inputs.Values, _optimizerOutputs.Keys, _optimizerOutputs.Values);
            Parameters.Gradients.Clear();
            return _norm.Span(0, 1)[0];
        }
        finally
        {
            owned.ForEach(value => value.Dispose());
        }

        void Scalar(string name, double value)
        {
            NativeTensor scalar = Tensors.Of([(float)value], []);
            owned.Add(scalar);
            inputs[name] = scalar;
        }
    }

    /// <summary>Sum of the token losses of a batch, without dropout; the evaluation session is made at the first call.</summary>
    public double Evaluate(Batch batch)
    {
        _evaluation ??= new OnnxSession(TrainingModel.Evaluation(_target, Plan), SessionUse.Training, _options.Threads);
        Dictionary<string, NativeTensor> inputs = Parameters.Tensors.ToDictionary(tensor => tensor.Name, tensor => _trainingInputs[tensor.Name]);
        List<NativeTensor> owned = [];
        try
        {
            _inputs.Add(batch, 1f, Plan.Loss, inputs, owned);
            _evaluation.Run(inputs.Keys, inputs.Values, ["loss"], [_trainingOutputs["loss"]]);
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
        _training.Dispose();
        _rounded?.Dispose();
        _optimizer.Dispose();
        _evaluation?.Dispose();
        _inputs.Dispose();
        _loss.Dispose();
        _norm.Dispose();
        Parameters.Dispose();
    }
}
