using MLNetLora.Artifacts;
using MLNetLora.Runtime;

namespace MLNetLora.Training;

/// <summary>The evaluation graph as a session; the parameters are the caller's.</summary>
internal sealed class EvaluationSession : IDisposable
{
    private readonly ChunkPlan _plan;
    private readonly GraphInputs _inputs;
    private readonly FloatBuffer? _sums;
    private readonly NativeTensor[] _views;
    private readonly OnnxSession? _session;

    /// <summary>Builds the graph and creates the session.</summary>
    /// <param name="target">The model.</param>
    /// <param name="options">Device, compute type and threads.</param>
    /// <param name="plan">How the graph is cut.</param>
    /// <param name="weights">The frozen weights on the device; null where the session maps them itself.</param>
    /// <param name="device">The memory of the device; null for the process's.</param>
    /// <param name="cancellation">Ends it on the way with an <see cref="OperationCanceledException"/>.</param>
    public EvaluationSession(TrainingTarget target, TrainingOptions options, ChunkPlan plan, DeviceWeights? weights, DeviceMemory? device,
        CancellationToken cancellation)
    {
        _plan = plan;
        _inputs = new GraphInputs(target.Config, training: false);
        try
        {
            _sums = new FloatBuffer(2, "the loss", device);
            _views = [_sums.View(0, []), _sums.View(1, [])];
            target.Checkpoint?.RequireUnchanged(areMapped: false);
            ModelArtifact model = TrainingModel.Evaluation(target, plan, graph: options.NewGraph("evaluation"));
            IReadOnlyDictionary<string, NativeTensor>? initializers = weights?.For(model, cancellation: cancellation);
            _session = new OnnxSession(model, SessionUse.Training, options.Threads, initializers, options.Device, cancellation: cancellation);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Looks at a batch, without dropout.</summary>
    /// <param name="batch">Rows, of a length that is a multiple of the plan's <see cref="ChunkPlan.Attention"/>.</param>
    /// <param name="parameters">The trained tensors by name; the inputs of the batch are added.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    public TokenSums Run(Batch batch, Dictionary<string, NativeTensor> parameters, CancellationToken cancellation)
    {
        List<NativeTensor> owned = [];
        try
        {
            _inputs.Add(batch, 1f, _plan, parameters, owned);
            _session!.Run(parameters.Keys, parameters.Values, ["loss", "correct"], _views, cancellation: cancellation);
            Span<float> sums = stackalloc float[2];
            _sums!.Read(0, sums);
            return new TokenSums(sums[0], sums[1], batch.LabelIds.Length);
        }
        finally
        {
            owned.ForEach(value => value.Dispose());
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _session?.Dispose();
        _sums?.Dispose();
        _inputs.Dispose();
    }
}

/// <summary>Sums over label tokens.</summary>
/// <param name="Loss">Of their losses, in nats.</param>
/// <param name="Correct">How many have the largest logit, of equal ones the first.</param>
/// <param name="Labels">How many there are.</param>
internal readonly record struct TokenSums(double Loss, double Correct, long Labels)
{
    /// <summary>Both together.</summary>
    public static TokenSums operator +(TokenSums a, TokenSums b) => new(a.Loss + b.Loss, a.Correct + b.Correct, a.Labels + b.Labels);

    /// <summary>Their means.</summary>
    public Evaluation Mean => new(Loss / Math.Max(1, Labels), Correct / Math.Max(1, Labels));
}

/// <summary>What rows say of a model that is not trained on them.</summary>
/// <param name="Loss">Mean loss of a label token, in nats.</param>
/// <param name="TokenAccuracy">Share of the label tokens that have the largest logit.</param>
internal sealed record Evaluation(double Loss, double TokenAccuracy);
