using System.Diagnostics;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.Training.Planning;

/// <summary>Trains some micro-batches on a part of a model as a run would, and measures memory and time. For a process of its own: memory that was freed before
/// would be taken again unseen.</summary>
internal static class RunProbe
{
    private const int MostRounds = 20;
    private const double Enough = 1; // second: until then the runtime still compiles the code around the kernels

    /// <summary>Measures in this process.</summary>
    /// <param name="request">What.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    /// <exception cref="MLNetLoraException">The run would fail, or memory ran out.</exception>
    public static ProbeFigures Measure(ProbeRequest request, CancellationToken cancellation = default)
    {
        double before = PeakMemory.Settle();
        using PeakMemory memory = new();
        TrainingOptions options = request.Training;
        options.Device = Device.Cpu;
        Checkpoint whole = Checkpoint.Open(request.Model);
        Checkpoint part = (FourBitCache.Find(whole, options.Precision) ?? whole).FirstLayers(request.Layers);
        LoraAdapter? start = request.Lora is null ? null
            : request.HasInitial ? LoraTraining.FreshShape(request.Lora, part)
            : LoraTraining.Fresh(request.Lora, part, options, cancellation);
        TrainingTarget target = request.Lora is null ? TrainingTarget.Full(part.Config) : TrainingTarget.Lora(part, request.Lora);
        target = target with { Initial = [.. (start?.Factors ?? []).Where(factors => factors.Initial is not null).Select(factors => factors.Module)] };
        using TrainingSession session = new(
            Calibration.Prepare(target, options, request.Plan, request.First, cancellation), options, request.Plan, cancellation);
        if (start is null)
        {
            FullTraining.Initialize(session.Parameters, target, options.SeedOrDefault, part);
        }
        else
        {
            session.Hold(start);
            LoraParameters.Load(session.Parameters, start);
        }

        session.Reserve(request.Longest);
        double ready = (DateTime.Now - Process.GetCurrentProcess().StartTime).TotalSeconds;
        double startBytes = memory.Take() - before;
        PeakMemory.Settle(); // a small model leaves garbage that a large one has collected on the way
        _ = memory.Take();

        Batch[] batches = [.. request.Batches.Select(rows => Batch.Of(rows, request.Plan.Attention))];
        long labels = batches.Sum(batch => (long)batch.LabelIds.Length);
        List<double>[] times = [.. batches.Select(_ => new List<double>())];
        List<double> optimizer = [];
        int micro = 0;
        long begun = Stopwatch.GetTimestamp();
        for (int round = 0; round <= request.Rounds || (round < MostRounds && Stopwatch.GetElapsedTime(begun).TotalSeconds < Enough); round++)
        {
            for (int i = 0; i < batches.Length; i++)
            {
                Batch batch = batches[i];
                times[i].Add(Seconds(() =>
                {
                    session.Add(batch, labels, micro++, cancellation);
                    _ = session.TakeLoss();
                }));
            }

            optimizer.Add(Seconds(() => session.Step(options.LearningRate, round + 1)));
        }

        double trainingBytes = memory.Take() - before;
        (double evaluationBytes, double evaluationSeconds) = (0, 0);
        if (request.Validation.Count > 0)
        {
            Batch batch = Batch.Of(request.Validation, request.Plan.Attention);
            _ = session.Evaluate(batch, cancellation); // makes its session
            evaluationSeconds = Seconds(() => session.Evaluate(batch, cancellation));
            evaluationBytes = memory.Take() - before;
        }

        GC.KeepAlive(start); // a run has it until its end
        double[] seconds = [.. times.Select(Median)];
        return new ProbeFigures(request.Layers, startBytes, trainingBytes, evaluationBytes, ready, seconds, Math.Max(0, times[0][0] - seconds[0]),
            Median(optimizer), evaluationSeconds, session.Parameters.Tensors.Sum(tensor => (double)tensor.Count))
        {
            AreFirst = times[0].Count == 1,
        };
    }

    private static double Seconds(Action action)
    {
        long begun = Stopwatch.GetTimestamp();
        action();
        return Stopwatch.GetElapsedTime(begun).TotalSeconds;
    }

    /// <summary>The median of all but the first, which takes memory that the others find.</summary>
    private static double Median(List<double> times)
    {
        double[] sorted = [.. times.Skip(times.Count > 1 ? 1 : 0).Order()];
        return (sorted[sorted.Length / 2] + sorted[(sorted.Length - 1) / 2]) / 2;
    }
}
