using System.Text.Json;
using Microsoft.ML;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>What tests of runs with a folder have in common: a run of six steps, stopped where a test asks for it, and what it leaves.</summary>
public abstract class RunTests : IDisposable
{
    private protected const int Steps = 6;

    private protected Workbench Bench { get; } = new();

    public void Dispose()
    {
        Bench.Dispose();
        GC.SuppressFinalize(this);
    }

    private static void Short(QwenLoraTrainer.Options options)
    {
        (options.Rank, options.Dropout, options.LearningRate, options.Threads) = (4, 0.1, 1e-2, 1);
        (options.BatchSize, options.GradientAccumulationSteps, options.MaximumSteps, options.SaveSteps) = (1, 2, Steps, 1);
    }

    /// <summary>Every weight, in place of an adapter.</summary>
    private protected static void Full(QwenLoraTrainer.Options options)
    {
        QwenLoraTrainer.Options fresh = new();
        (options.Method, options.Rank, options.Dropout) = (FineTuningMethod.Full, fresh.Rank, fresh.Dropout);
    }

    /// <summary>Two evaluations in three steps.</summary>
    private protected void Validated(QwenLoraTrainer.Options options) => (options.ValidationSet, options.EvaluationSteps) = (Rows(("where", "there")), 2);

    private protected IDataView Rows(params (string Instruction, string Output)[] rows) =>
        Bench.Context.Data.LoadFromEnumerable(rows.Select(row => new Row(row.Instruction, "", row.Output)));

    private protected TrainingSummary Run(string name, Action<QwenLoraTrainer.Options>? change = null, int? stopAfter = null, bool resume = false,
        IDataView? rows = null, MLContext? context = null)
    {
        using CancellationTokenSource source = new();
        QwenLoraTrainer.Options options = Bench.TrainerOptions();
        Short(options);
        options.OutputFolder = Bench.PathOf(name);
        options.ResumeFrom = resume ? options.OutputFolder : null;
        options.CancellationToken = source.Token;
        change?.Invoke(options);
        Action<TrainingProgress>? callback = options.ProgressCallback;
        options.ProgressCallback = step =>
        {
            callback?.Invoke(step);
            if (step.Step == stopAfter)
            {
                source.Cancel();
            }
        };
        using QwenLoraTransformer model = (context ?? Bench.Context).TextGeneration.Trainers.QwenLora(options).Fit(rows ?? Bench.Rows);
        Assert.Equal(stopAfter is not null, model.TrainingSummary!.WasCancelled);
        return model.TrainingSummary;
    }

    /// <summary>What a run has written at its end.</summary>
    private protected byte[] Result(string name, TrainingSummary summary)
    {
        Assert.False(summary.WasCancelled);
        string adapter = Bench.PathOf($"{name}/adapter_model.safetensors");
        return File.ReadAllBytes(File.Exists(adapter) ? adapter : Bench.PathOf($"{name}/model.safetensors"));
    }

    private protected int[] Kept(string name) => [.. RunFolder.Checkpoints(Bench.PathOf(name)).Select(checkpoint => checkpoint.Step)];

    private protected JsonElement State(string name, int step) =>
        JsonDocument.Parse(File.ReadAllText(Bench.PathOf($"{name}/checkpoint-{step}/mlnetlora_state.json"))).RootElement;

    private protected void Refused<T>(string message, Action<QwenLoraTrainer.Options> change, string? output = null)
        where T : Exception => Assert.Contains(message, Assert.Throws<T>(() => Run("refused", options =>
        {
            options.OutputFolder = output is "" ? null : options.OutputFolder;
            change(options);
        })).Message, StringComparison.Ordinal);
}
