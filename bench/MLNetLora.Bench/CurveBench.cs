using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Text;
using MLNetLora.Training;
using ScottPlot;

namespace MLNetLora.Bench;

/// <summary>The same run twice, with the frozen products in float32 and in 8-bit integers: do the losses fall alike?</summary>
internal static class CurveBench
{
    private const double Held = 0.1; // share of the rows that is held back for validation

    /// <summary>Trains, prints the figures, draws the curves.</summary>
    /// <param name="model">Checkpoint folder with tokenizer and template.</param>
    /// <param name="files">Data files.</param>
    /// <param name="steps">Optimizer steps of each run.</param>
    /// <param name="rate">Peak learning rate.</param>
    /// <param name="picture">PNG file to draw; null for none.</param>
    public static void Run(string model, string[] files, int steps, double rate, string? picture)
    {
        Checkpoint checkpoint = Checkpoint.Open(ModelFolder.Find(model));
        ConversationFormatter formatter = new(QwenTokenizer.Load(checkpoint.Folder), ChatTemplate.Load(checkpoint.Folder));
        TrainingRow[] rows = [.. formatter.TokenizeRows(Dataset.Read(files), LabelScope.Answer, 512).Select(row => row.Row)];
        new Random(1).Shuffle(rows);
        int held = Math.Max(1, (int)(rows.Length * Held));
        Dictionary<WeightPrecision, TrainingSummary> runs = [];
        foreach (WeightPrecision precision in (WeightPrecision[])[WeightPrecision.Checkpoint, WeightPrecision.Int8])
        {
            runs[precision] = Train(precision);
            TrainingProgress[] evaluated = Evaluated(runs[precision]);
            Console.WriteLine($"{precision,-8} {steps} steps in {runs[precision].Duration.TotalSeconds:F0} s, loss {runs[precision].Steps[0].Loss:F4} -> "
                + $"{runs[precision].Steps[^1].Loss:F4}, validation {evaluated[0].ValidationLoss:F4} -> {evaluated[^1].ValidationLoss:F4}");
        }

        (TrainingSummary exact, TrainingSummary quantized) = (runs[WeightPrecision.Checkpoint], runs[WeightPrecision.Int8]);
        double[] differences = [.. exact.Steps.Zip(quantized.Steps, (e, r) => Math.Abs(r.Loss - e.Loss) / e.Loss)];
        Console.WriteLine(
            $"losses of the same step differ by {differences.Average():P2} on average, {differences.Max():P2} at most; the last validation losses by "
            + $"{(Evaluated(quantized)[^1].ValidationLoss / Evaluated(exact)[^1].ValidationLoss) - 1:P2}");
        if (picture is not null)
        {
            Draw(runs, picture);
            Console.WriteLine(picture);
        }

        TrainingSummary Train(WeightPrecision precision) =>
            LoraTraining.Train(checkpoint, new LoraOptions { Rank = 16, Alpha = 16, Dropout = 0.05, TargetModules = "all-linear" }, rows[held..],
                new TrainingOptions
                {
                    Precision = precision,
                    LearningRate = rate,
                    BatchSize = 1,
                    PackingLength = 512,
                    GradientAccumulationSteps = 4,
                    MaximumSteps = steps,
                    EvaluationSteps = Math.Max(1, steps / 12),
                    WarmupRatio = 0.03,
                }, rows[..held]).Summary;
    }

    private static TrainingProgress[] Evaluated(TrainingSummary run) => [.. run.Steps.Where(step => step.ValidationLoss is not null)];

    private static void Draw(Dictionary<WeightPrecision, TrainingSummary> runs, string picture)
    {
        Plot plot = new();
        (Color Line, LinePattern Pattern)[] looks = [(Color.FromHex("#1f77b4"), LinePattern.Solid), (Color.FromHex("#d62728"), LinePattern.Dashed)];
        foreach (((WeightPrecision precision, TrainingSummary run), (Color color, LinePattern pattern)) in runs.Zip(looks))
        {
            ScottPlot.Plottables.Scatter losses = plot.Add.ScatterLine(run.Steps.Select(step => (double)step.Step).ToArray(),
                run.Steps.Select(step => step.Loss).ToArray(), color.WithAlpha(0.7));
            losses.LegendText = $"{precision}: loss of each step";
            losses.LinePattern = pattern;
            ScottPlot.Plottables.Scatter validation = plot.Add.Scatter(Evaluated(run).Select(step => (double)step.Step).ToArray(),
                Evaluated(run).Select(step => step.ValidationLoss!.Value).ToArray(), color);
            validation.LegendText = $"{precision}: validation loss";
            validation.LinePattern = pattern;
            validation.LineWidth = 2;
        }

        plot.XLabel("optimizer step");
        plot.YLabel("loss (nats per label token)");
        plot.Title("Training with frozen products in float32 and in 8-bit integers");
        plot.ShowLegend(Alignment.UpperRight);
        plot.SavePng(picture, 900, 500);
    }
}
