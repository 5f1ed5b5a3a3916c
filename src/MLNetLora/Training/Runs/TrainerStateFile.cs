using System.Text.Json;
using MLNetLora.Checkpoints;

namespace MLNetLora.Training;

/// <summary>
/// trainer_state.json: every step of a run under the names of transformers' Trainer, whose tools draw its curves. log_history has an entry for each step, and
/// one for each evaluation behind it; the names that transformers has not are those of <see cref="TrainingProgress"/>.
/// </summary>
internal static class TrainerStateFile
{
    /// <summary>Its name.</summary>
    public const string FileName = "trainer_state.json";

    private const int MostBytes = 1 << 30; // some millions of steps

    /// <summary>The text of the file.</summary>
    /// <param name="steps">The steps made.</param>
    /// <param name="options">How.</param>
    /// <param name="best">Where the best checkpoint is; null for none.</param>
    public static byte[] Write(IReadOnlyList<TrainingProgress> steps, TrainingOptions options, string? best)
    {
        using MemoryStream text = new();
        using (Utf8JsonWriter json = new(text, new JsonWriterOptions { Indented = true }))
        {
            TrainingProgress? last = steps.Count > 0 ? steps[^1] : null;
            TrainingProgress? bestStep = EarlyStopping.Best(steps);
            json.WriteStartObject();
            Number(json, "best_global_step", bestStep?.Step);
            Number(json, "best_metric", bestStep?.ValidationLoss);
            json.WriteString("best_model_checkpoint", best);
            Number(json, "epoch", last?.Epoch ?? 0);
            Number(json, "eval_steps", options.EvaluationSteps);
            Number(json, "global_step", last?.Step ?? 0);
            json.WriteBoolean("is_hyper_param_search", false);
            json.WriteBoolean("is_local_process_zero", true);
            json.WriteBoolean("is_world_process_zero", true);
            json.WriteStartArray("log_history");
            foreach (TrainingProgress step in steps)
            {
                Step(json, step);
                if (step.ValidationLoss is { } loss)
                {
                    json.WriteStartObject();
                    Number(json, "epoch", step.Epoch);
                    Number(json, "eval_loss", loss);
                    Number(json, "eval_mean_token_accuracy", step.ValidationTokenAccuracy);
                    Number(json, "step", step.Step);
                    json.WriteEndObject();
                }
            }

            json.WriteEndArray();
            Number(json, "logging_steps", 1);
            Number(json, "max_steps", last?.TotalSteps ?? 0);
            Number(json, "num_input_tokens_seen", steps.Sum(step => step.Tokens));
            Number(json, "num_train_epochs", options.NumberOfEpochs);
            Number(json, "save_steps", options.SaveSteps ?? 0);
            json.WriteStartObject("stateful_callbacks");
            json.WriteEndObject();
            Number(json, "total_flos", 0);
            Number(json, "train_batch_size", options.BatchSize);
            json.WriteNull("trial_name");
            json.WriteNull("trial_params");
            json.WriteEndObject();
        }

        return text.ToArray();
    }

    /// <summary>Writes the file of a run that has ended into its folder.</summary>
    public static void Save(RunFolder folder, IReadOnlyList<TrainingProgress> steps, TrainingOptions options)
    {
        byte[] text = Write(steps, options, BestFolder(folder, steps));
        AtomicFile.Write(Path.Combine(folder.Path, FileName), stream => stream.Write(text));
    }

    /// <summary>Where the checkpoint of the best step is; null where there is none.</summary>
    public static string? BestFolder(RunFolder folder, IReadOnlyList<TrainingProgress> steps) =>
        EarlyStopping.Best(steps) is { } best ? folder.Of(best.Step) : null;

    /// <summary>The steps that a file tells of.</summary>
    /// <exception cref="CheckpointException">It is damaged.</exception>
    public static IReadOnlyList<TrainingProgress> Read(string path)
    {
        try
        {
            ReadOnlyMemory<byte> bytes = BoundedFile.Read(path, MostBytes) ?? throw new CheckpointException($"{path} has more than {MostBytes} bytes.");
            using JsonDocument json = JsonDocument.Parse(bytes);
            List<TrainingProgress> steps = [];
            int total = json.RootElement.GetProperty("max_steps").GetInt32();
            foreach (JsonElement entry in json.RootElement.GetProperty("log_history").EnumerateArray())
            {
                if (entry.TryGetProperty("eval_loss", out JsonElement loss))
                {
                    steps[^1] = steps[^1] with
                    {
                        ValidationLoss = Double(loss),
                        ValidationTokenAccuracy = entry.TryGetProperty("eval_mean_token_accuracy", out JsonElement accuracy) ? Double(accuracy) : null,
                    };
                }
                else
                {
                    steps.Add(Step(entry, total));
                }
            }

            return steps;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException or FormatException or ArgumentException
            or OverflowException)
        {
            throw new CheckpointException($"{path} is damaged: {e.Message}", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException($"{path} cannot be read: {e.Message}", e);
        }
    }

    private static void Step(Utf8JsonWriter json, TrainingProgress step)
    {
        json.WriteStartObject();
        Number(json, "epoch", step.Epoch);
        Number(json, "grad_norm", step.GradientNorm);
        Number(json, "learning_rate", step.LearningRate);
        Number(json, "loss", step.Loss);
        Number(json, "step", step.Step);
        Number(json, "label_tokens", step.LabelTokens);
        Number(json, "tokens", step.Tokens);
        Number(json, "tokens_per_second", step.TokensPerSecond);
        Number(json, "elapsed_seconds", step.Elapsed.TotalSeconds);
        Number(json, "loss_scale", step.LossScale);
        json.WriteBoolean("was_skipped", step.WasSkipped);
        json.WriteEndObject();
    }

    private static TrainingProgress Step(JsonElement entry, int total) => new(
        entry.GetProperty("step").GetInt32(),
        total,
        Double(entry.GetProperty("epoch")),
        Double(entry.GetProperty("loss")),
        Double(entry.GetProperty("grad_norm")),
        Double(entry.GetProperty("learning_rate")),
        entry.GetProperty("label_tokens").GetInt64(),
        entry.GetProperty("tokens").GetInt64(),
        Double(entry.GetProperty("tokens_per_second")),
        TimeSpan.FromSeconds(Double(entry.GetProperty("elapsed_seconds"))),
        TimeSpan.Zero)
    {
        WasSkipped = entry.GetProperty("was_skipped").GetBoolean(),
        LossScale = Double(entry.GetProperty("loss_scale")),
    };

    /// <summary>What is no finite number, such as the norm of a step that was skipped, is null: JSON has no other.</summary>
    private static void Number(Utf8JsonWriter json, string name, double? value)
    {
        if (value is { } number && double.IsFinite(number))
        {
            json.WriteNumber(name, number);
        }
        else
        {
            json.WriteNull(name);
        }
    }

    private static double Double(JsonElement value) => value.ValueKind == JsonValueKind.Null ? double.NaN : value.GetDouble();
}
