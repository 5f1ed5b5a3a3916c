using System.Globalization;
using MLNetLora.Checkpoints;
using MLNetLora.Text;
using MLNetLora.Tools.NanoQwen.Corpus;
using MLNetLora.Tools.NanoQwen.Model;
using MLNetLora.Tools.NanoQwen.Tokenization;
using MLNetLora.Training;
using ByteLevelBpe = MLNetLora.Tools.NanoQwen.Tokenization.ByteLevelBpe;

namespace MLNetLora.Tools.NanoQwen;

/// <summary>Trains the nano model from random weights with the library's own loop, every parameter trainable, and completes its model card.</summary>
internal static class NanoTraining
{
    public static void Run(Preparation preparation, string folder, int epochs, double learningRate, string command, CancellationToken cancellation)
    {
        ByteLevelBpe codec = new(preparation.Vocabulary);
        TrainingRow[] rows = [.. preparation.Corpus.Training.Select(row => RowEncoder.Encode(row, codec, labelPrompt: true))];
        TrainingRow[] validation = [.. preparation.Corpus.Validation.Select(row => RowEncoder.Encode(row, codec, labelPrompt: true))];
        TrainingOptions options = new()
        {
            BatchSize = 4,
            GradientAccumulationSteps = 1,
            PackingLength = preparation.Options.SequenceLength,
            NumberOfEpochs = epochs,
            LearningRate = learningRate,
            Schedule = LearningRateSchedule.Cosine,
            WarmupRatio = 0.04,
            WeightDecay = 0.1,
            AdamBeta2 = 0.95,
            Seed = preparation.Options.Seed,
        };
        preparation.WriteFolder(folder);
        string weights = Path.Combine(folder, "model.safetensors");
        TrainingSummary summary = FullTraining.Train(folder, rows, options, weights, TensorType.BFloat16, validation: validation, progress: Print,
            cancellation: cancellation);
        if (summary.WasCancelled)
        {
            Console.WriteLine(string.Join(Environment.NewLine, summary.Warnings)); // no card for half a model
            return;
        }

        Dictionary<string, string> figures = preparation.Figures();
        figures["dtype"] = "bf16";
        figures["weight_bytes"] = Text($"{new FileInfo(weights).Length:N0}");
        figures["steps"] = Text($"{summary.Steps.Count:N0}");
        figures["tokens_per_step"] = Text($"{summary.Steps.Average(step => step.Tokens):N0}");
        figures["trained_tokens"] = Text($"{summary.Steps.Sum(step => step.Tokens):N0}");
        figures["learning_rate"] = Text($"{learningRate:g}");
        figures["training_loss"] = Text($"{summary.Steps.TakeLast(100).Average(step => step.Loss):F3}");
        figures["validation_loss"] = Text($"{summary.Steps.Last(step => step.ValidationLoss is not null || step == summary.Steps[^1]).ValidationLoss:F3}");
        figures["minutes"] = Text($"{summary.Duration.TotalMinutes:F0}");
        figures["machine"] = Text($"{Environment.ProcessorCount} CPU cores");
        figures["command"] = command;
        OutputFile.WriteText(Path.Combine(folder, "README.md"), ModelCard.Fill(figures));
    }

    private static void Print(TrainingProgress step)
    {
        if (step.Step % 20 == 0 || step.ValidationLoss is not null)
        {
            Console.WriteLine(Text($"step {step.Step}/{step.TotalSteps}  loss {step.Loss:F3}  norm {step.GradientNorm:F2}  ")
                + Text($"{step.TokensPerSecond:N0} tokens/s  left {step.Remaining:hh\\:mm\\:ss}")
                + (step.ValidationLoss is double loss ? Text($"  validation {loss:F3}") : ""));
        }
    }

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
