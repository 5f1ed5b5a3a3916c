using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>Whole training runs of transformers' Trainer on PEFT, step by step; then the merge, the merged model's logits and greedy answers from
/// PEFT's final adapter.</summary>
[Trait("Category", "Golden")]
public sealed class TrainingGoldenTests(Xunit.Abstractions.ITestOutputHelper output)
{
    [Fact]
    public void Runs_equal_the_Trainer()
    {
        GoldenReport report = new("training", output);
        foreach (string folder in Golden.TrainingFolders())
        {
            string name = Path.GetFileName(folder);
            JsonElement description = GoldenFile.Json(Path.Combine(folder, "case.json"));
            string model = Golden.Beside(folder, description.GetProperty("model").GetString()!);
            string? reason = GoldenFile.Unsupported(model) ?? GoldenFile.UnsupportedAdapter(Path.Combine(folder, "adapter_initial"));
            if (reason is not null)
            {
                report.Skip(name, reason);
                continue;
            }

            Checkpoint checkpoint = Checkpoint.Open(model);
            Steps(report, name, folder, description, checkpoint);
            Generation(report, name, folder, checkpoint);
            Logits(report, name, folder, checkpoint);
            Merged(report, name, folder, checkpoint);
        }

        report.Finish();
    }

    /// <summary>Simulated: what a GPU rounds is rounded.</summary>
    [Theory]
    [InlineData(ComputeType.BFloat16)]
    [InlineData(ComputeType.Float16)]
    public void Losses_in_16_bits_follow_the_Trainer(ComputeType type)
    {
        GoldenReport report = new($"training in {type}", output);
        foreach (string folder in Golden.TrainingFolders())
        {
            string name = Path.GetFileName(folder);
            JsonElement description = GoldenFile.Json(Path.Combine(folder, "case.json"));
            string model = Golden.Beside(folder, description.GetProperty("model").GetString()!);
            if ((GoldenFile.Unsupported(model) ?? GoldenFile.UnsupportedAdapter(Path.Combine(folder, "adapter_initial"))) is { } reason)
            {
                report.Skip(name, reason);
                continue;
            }

            Checkpoint checkpoint = Checkpoint.Open(model);
            if (checkpoint.Config.Experts is not null)
            {
                report.Skip(name, "a mixture, which is trained on processors");
                continue;
            }

            LoraAdapter initial = LoraAdapter.LoadPeft(Path.Combine(folder, "adapter_initial"), checkpoint);
            TrainingOptions options = Options(description);
            (options.ComputeType, options.SimulatesComputeType) = (type, true);
            (LoraAdapter _, TrainingSummary summary) = LoraTraining.Train(checkpoint, initial.Options, Rows(folder), options, initial: initial);
            JsonElement[] steps = [.. description.GetProperty("steps").EnumerateArray()];
            double worst = summary.Steps.Zip(steps).Max(pair => Relative(pair.First.Loss, pair.Second.GetProperty("loss").GetDouble()));
            report.Compare($"{name} losses", worst, 0.01);
            report.Equal($"{name} skipped steps", [summary.Steps.Count(step => step.WasSkipped)], [0]);
        }

        report.Finish();
    }

    private static void Steps(GoldenReport report, string name, string folder, JsonElement description, Checkpoint checkpoint)
    {
        LoraAdapter initial = LoraAdapter.LoadPeft(Path.Combine(folder, "adapter_initial"), checkpoint);
        TrainingRow[] rows = Rows(folder);
        (LoraAdapter _, TrainingSummary summary) = LoraTraining.Train(checkpoint, initial.Options, rows, Options(description), initial: initial);
        JsonElement[] steps = [.. description.GetProperty("steps").EnumerateArray()];
        report.Equal($"{name} number of steps", [summary.Steps.Count], [steps.Length]);
        foreach ((TrainingProgress actual, JsonElement expected) in summary.Steps.Zip(steps))
        {
            report.Compare($"{name} step {actual.Step} learning rate", Math.Abs(actual.LearningRate - expected.GetProperty("learning_rate").GetDouble()), 1e-9);
            report.Compare($"{name} step {actual.Step} loss", Relative(actual.Loss, expected.GetProperty("loss").GetDouble()), 2e-5);
            report.Compare($"{name} step {actual.Step} gradient norm", Relative(actual.GradientNorm, expected.GetProperty("grad_norm").GetDouble()), 2e-4);
            report.Compare($"{name} step {actual.Step} epoch", Math.Abs(actual.Epoch - expected.GetProperty("epoch").GetDouble()), 1e-9);
        }
    }

    private static void Generation(GoldenReport report, string name, string folder, Checkpoint checkpoint)
    {
        LoraAdapter final = LoraAdapter.LoadPeft(Path.Combine(folder, "adapter_final"), checkpoint);
        using CausalLanguageModel lm = new(checkpoint, final, threads: 1);
        foreach (JsonElement item in GoldenFile.Json(Path.Combine(folder, "generate.json")).EnumerateArray())
        {
            int[] expected = Ids(item, "greedy_ids");
            report.Equal($"{name} answer to {item.GetProperty("instruction").GetString()}",
                lm.Generate([Ids(item, "prompt_ids")], new GenerationOptions { MaximumNewTokens = expected.Length })[0].Ids, expected);
        }
    }

    /// <summary>Logits of the first two rows with PEFT's final adapter attached, and after merging it ourselves.</summary>
    private static void Logits(GoldenReport report, string name, string folder, Checkpoint checkpoint)
    {
        GoldenFile expected = new(Path.Combine(folder, "expected.safetensors"));
        TrainingRow[] rows = [.. GoldenFile.Json(Path.Combine(folder, "tokens.json")).EnumerateArray().Take(2).Select(
            row => new TrainingRow(Ids(row, "input_ids"), Ids(row, "labels")))];
        LoraAdapter final = LoraAdapter.LoadPeft(Path.Combine(folder, "adapter_final"), checkpoint);
        report.Compare($"{name} logits with the adapter", LogitsRun.Worst(checkpoint, final, rows, expected, LogitsRun.Key(expected, "adapter")), 5e-5);
        using TemporaryFolder temporary = new();
        Merge.Save(checkpoint, final, temporary.Path);
        Checkpoint merged = Checkpoint.Open(temporary.Path);
        if (merged.Tensors.Values.All(tensor => tensor.Entry.Type == TensorType.Float32))
        {
            report.Compare($"{name} logits after merging", LogitsRun.Worst(merged, null, rows, expected, LogitsRun.Key(expected, "merged")), 5e-5);
        }
        else
        {
            report.Skip($"{name} logits after merging", "merged in 16 bits here, in 32 bits there");
        }
    }

    private static void Merged(GoldenReport report, string name, string folder, Checkpoint checkpoint)
    {
        string expectedFolder = Path.Combine(folder, "merged");
        if (!Directory.Exists(expectedFolder))
        {
            report.Skip($"{name} merged tensors", "the case has none");
            return;
        }

        using TemporaryFolder temporary = new();
        Merge.Save(checkpoint, LoraAdapter.LoadPeft(Path.Combine(folder, "adapter_final"), checkpoint), temporary.Path);
        Checkpoint merged = Checkpoint.Open(temporary.Path);
        Checkpoint expected = Checkpoint.Open(expectedFolder);
        foreach ((string tensor, CheckpointTensor want) in expected.Tensors)
        {
            float[] actual = merged.Tensors[tensor].ReadFloat32();
            float[] wanted = want.ReadFloat32();
            report.Compare($"{name} merged {tensor}", actual.Zip(wanted, (a, b) => Math.Abs((double)a - b)).Max(), 1e-6);
        }
    }

    /// <summary>
    /// The options of a case. LoRA+ of PEFT 0.20 gives the factors a weight decay of its own (loraplus_weight_decay, by default 0) and not the Trainer's.
    /// </summary>
    internal static TrainingOptions Options(JsonElement description)
    {
        TrainingOptions options = Arguments(description.GetProperty("training"));
        if (description.TryGetProperty("loraplus_lr_ratio", out JsonElement ratio))
        {
            options.LoraPlusRatio = ratio.GetDouble();
            options.WeightDecay = Number(description, "loraplus_weight_decay", 0);
        }

        return options;
    }

    private static TrainingOptions Arguments(JsonElement json) => new()
    {
        BatchSize = json.GetProperty("per_device_train_batch_size").GetInt32(),
        GradientAccumulationSteps = json.GetProperty("gradient_accumulation_steps").GetInt32(),
        LearningRate = json.GetProperty("learning_rate").GetDouble(),
        NumberOfEpochs = json.GetProperty("num_train_epochs").GetInt32(),
        Schedule = Text(json, "lr_scheduler_type", "linear") switch
        {
            "linear" => LearningRateSchedule.Linear,
            "cosine" => LearningRateSchedule.Cosine,
            "constant" or "constant_with_warmup" => LearningRateSchedule.Constant,
            string other => throw new NotSupportedException(other),
        },
        WarmupSteps = (int)Number(json, "warmup_steps", 0),
        WarmupRatio = Number(json, "warmup_ratio", 0),
        WeightDecay = Number(json, "weight_decay", 0),
        AdamBeta1 = Number(json, "adam_beta1", 0.9),
        AdamBeta2 = Number(json, "adam_beta2", 0.999),
        AdamEpsilon = Number(json, "adam_epsilon", 1e-8),
        MaximumGradientNorm = Number(json, "max_grad_norm", 1),
        Shuffle = false,
        Threads = 1,
    };

    private static double Number(JsonElement json, string key, double otherwise) =>
        json.TryGetProperty(key, out JsonElement value) ? value.GetDouble() : otherwise;

    private static string Text(JsonElement json, string key, string otherwise) =>
        json.TryGetProperty(key, out JsonElement value) ? value.GetString()! : otherwise;

    internal static TrainingRow[] Rows(string folder) => [.. GoldenFile.Json(Path.Combine(folder, "tokens.json")).EnumerateArray()
        .Select(row => new TrainingRow(Ids(row, "input_ids"), Ids(row, "labels")))];

    private static double Relative(double actual, double expected) => Math.Abs(actual - expected) / Math.Abs(expected);

    private static int[] Ids(JsonElement item, string name) => [.. item.GetProperty(name).EnumerateArray().Select(id => id.GetInt32())];
}
