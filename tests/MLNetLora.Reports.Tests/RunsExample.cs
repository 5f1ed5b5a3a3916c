using Microsoft.ML;
using MLNetLora.Reports;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Reports.Tests;

/// <summary>The C# of docs/runs.md, compiled and run. In(…) puts a name into the test's folder; without it the lines are those of the page.</summary>
internal static class RunsExample
{
    public static void Run(Func<string, string> In)
    {
        // DOCS begin
        var ml = new MLContext(seed: 42);
        IDataView rows = ml.Data.LoadFromInstructionFile(In("company_data.json"));
        var report = new RunReport(In("run"));
        using var stop = new CancellationTokenSource();
        var trainer = ml.TextGeneration.Trainers.QwenLora(new QwenLoraTrainer.Options
        {
            ModelPath = In("Qwen/Qwen2.5-0.5B-Instruct"),
            Callbacks =
            [
                new ProgressLine(), // on the console
                new JsonLinesLog(In("run/metrics.jsonl")),
                new TensorBoardLog(In("run/tensorboard")),
                report, // run/run.html
                new StopWhenLearned(0.05, stop), // see below
            ],
            CancellationToken = stop.Token,
        });
        using var model = trainer.Fit(rows);

        LossPicture.Save(In("run/loss.png"), model.TrainingSummary!.Steps); // or loss.svg
        string question = "How do I claim travel expenses?";
        report.AddSamples([new SampleAnswer(question, Expected: null, Before: null, After: model.Generate(question))]);
        // DOCS end
    }
}
