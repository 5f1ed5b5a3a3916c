using Microsoft.ML;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.Evaluation;

/// <summary>The C# of docs/evaluation.md, compiled and run. In(…) puts a name into the test's folder; without it the lines are the page's.</summary>
internal static class EvaluationExample
{
    public static void Run(Func<string, string> In)
    {
        // README begin
        var ml = new MLContext(seed: 42);
        IDataView rows = ml.Data.LoadFromInstructionFile(In("company_data.json"));
        var split = ml.Data.TrainTestSplit(rows, testFraction: 0.2, seed: 42);
        var trainer = ml.TextGeneration.Trainers.QwenLora(In("Qwen/Qwen2.5-0.5B-Instruct"), validationSet: split.TestSet);
        using var model = trainer.Fit(split.TrainSet);

        // Generated answers: two lines.
        IDataView answered = model.Transform(split.TestSet);
        var metrics = ml.TextGeneration.Evaluate(answered);
        Console.WriteLine($"exact {metrics.ExactMatch:P1}, ROUGE-L {metrics.RougeL:F3}, chrF {metrics.ChrF:F1}, BLEU-4 {metrics.Bleu4:F3}");

        // Given answers: nothing is generated.
        var loss = model.EvaluateLoss(split.TestSet);
        Console.WriteLine($"loss {loss.Loss:F4}, perplexity {loss.Perplexity:F2}, token accuracy {loss.TokenAccuracy:P1}");

        // Five trainings, each scored on the fifth of the rows that it did not see.
        var results = ml.TextGeneration.CrossValidate(rows, trainer, numberOfFolds: 5);
        Console.WriteLine($"ROUGE-L {results.Average(result => result.Metrics.RougeL):F3}");
        foreach (var result in results)
        {
            ((IDisposable)result.Model).Dispose();
        }

        // README end
    }
}
