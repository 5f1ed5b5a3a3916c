using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>A run that nobody has to wait for: its beginning and its steps.</summary>
internal static class SampleRun
{
    /// <summary>What a run of some steps begins with.</summary>
    public static TrainingStart Start(int steps = 20, int firstStep = 1, string method = "Lora") => new()
    {
        ModelPath = "Qwen/Qwen3-0.6B",
        Method = method,
        TotalSteps = steps,
        FirstStep = firstStep,
        Rows = 8,
        ValidationRows = 2,
        Tokens = 400,
        LabelTokens = 150,
        DataStatistics = "8 rows, 400 tokens",
        TrainableParameters = 1000,
        AllParameters = 50_000,
        Options = [new("LearningRate", "0.001", IsDefault: false), new("SystemPrompt", "a | b\nc", IsDefault: false), new("BatchSize", "1", IsDefault: true)],
        Seed = 42,
        Device = "cpu",
        StartTime = new DateTimeOffset(2026, 5, 4, 3, 2, 1, TimeSpan.FromHours(8)),
        Warnings = ["2 of 8 training rows were cut off."],
    };

    /// <summary>What a run begins with that goes on after some steps, as its checkpoint knows them.</summary>
    public static TrainingStart Resumed(int firstStep) =>
        Start(firstStep: firstStep) with { EarlierSteps = [.. Enumerable.Range(1, firstStep - 1).Select(step => Step(step))] };

    /// <summary>A step; each fifth is validated.</summary>
    public static TrainingProgress Step(int step, int steps = 20) => new(
        step, steps, step / 5.0, 3.0 / step, 0.5 + step, 1e-3 * (1 - ((step - 1.0) / steps)), LabelTokens: 30, Tokens: 80, TokensPerSecond: 160,
        TimeSpan.FromSeconds(step * 0.5), TimeSpan.FromSeconds((steps - step) * 0.5), step % 5 == 0 ? 4.0 / step : null);

    /// <summary>A step whose gradients overflowed.</summary>
    public static TrainingProgress Skipped(int step, int steps = 20) =>
        Step(step, steps) with { WasSkipped = true, LossScale = 32768, GradientNorm = double.PositiveInfinity };

    /// <summary>All of them.</summary>
    public static TrainingSummary Summary(int steps = 20) => new([.. Enumerable.Range(1, steps).Select(step => Step(step, steps))], false,
        TimeSpan.FromSeconds(steps * 0.5));

    /// <summary>Plays steps to a callback.</summary>
    public static void Play(TrainingCallback callback, int steps = 20)
    {
        callback.OnTrainBegin(Start(steps));
        for (int step = 1; step <= steps; step++)
        {
            callback.OnStep(Step(step, steps));
        }

        callback.OnTrainEnd(Summary(steps), null);
    }
}
