using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using MLNetLora.Checkpoints;
using MLNetLora.Training;

namespace MLNetLora.Reports;

/// <summary>
/// Reads a run from a log: metrics.jsonl of <see cref="JsonLinesLog"/>, an entry a line, or trainer_state.json of transformers or of a run's folder here,
/// whose entries are in log_history. They have the same names, but for what trainer_state.json here has beside those of transformers: elapsed_seconds,
/// was_skipped.
/// </summary>
internal static partial class LogReader
{
    /// <summary>Reads a log.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="DatasetException">It is none.</exception>
    public static RunRecord Read(string path)
    {
        string text = Text(path);
        RunRecord run = new();
        SortedDictionary<int, TrainingProgress> steps = [];
        if (Document(text) is { ValueKind: JsonValueKind.Object } state
            && state.TryGetProperty("log_history", out JsonElement history)
            && history.ValueKind == JsonValueKind.Array)
        {
            foreach ((int i, JsonElement entry) in history.EnumerateArray().Index())
            {
                Add(run, steps, entry, $"{path}, entry {i + 1} of log_history");
            }

            Finish(run, steps, Whole(state, "max_steps"));
        }
        else
        {
            ReadLines(run, steps, text, path);
            Finish(run, steps, run.Start?.TotalSteps);
        }

        if (run.Steps.Count == 0 && run.Start is null)
        {
            throw new DatasetException($"{path} has no step; give a metrics.jsonl or a trainer_state.json of a run.");
        }

        return run;
    }

    private static void ReadLines(RunRecord run, SortedDictionary<int, TrainingProgress> steps, string text, string path)
    {
        string[] lines = text.Split('\n', StringSplitOptions.TrimEntries);
        for (int i = 0; i < lines.Length; i++)
        {
            if (lines[i].Length == 0)
            {
                continue;
            }

            if (Document(lines[i]) is { ValueKind: JsonValueKind.Object } entry)
            {
                Add(run, steps, entry, $"{path}, line {i + 1}");
            }
            else if (i < lines.Length - 1 || i == 0)
            {
                throw new DatasetException($"{path}, line {i + 1} is no JSON object; give a metrics.jsonl or a trainer_state.json of a run.");
            }
            // Else it is a last line that a killed process has not finished.
        }
    }

    private static string Text(string path)
    {
        try
        {
            return BoundedFile.ReadText(path, JsonLinesFile.MostBytes)
                ?? throw new DatasetException($"{path} has more than {JsonLinesFile.MostBytes >> 20} MB; give the log of one run.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DatasetException($"{path} cannot be read: {e.Message} Give a metrics.jsonl or a trainer_state.json of a run.", e);
        }
    }

    /// <summary>The JSON of a text; null where it is none. Python writes NaN and Infinity, which JSON has not: they count as null.</summary>
    private static JsonElement? Document(string text)
    {
        foreach (Func<string> attempt in (Func<string>[])[() => text, () => NotANumber().Replace(text, "null")])
        {
            try
            {
                using JsonDocument document = JsonDocument.Parse(attempt());
                return document.RootElement.Clone();
            }
            catch (JsonException)
            {
            }
        }

        return null;
    }

    private static void Add(RunRecord run, SortedDictionary<int, TrainingProgress> steps, JsonElement entry, string where)
    {
        if (entry.ValueKind != JsonValueKind.Object || Whole(entry, "step") is not { } step)
        {
            throw new DatasetException($"{where} has no step; give a metrics.jsonl or a trainer_state.json of a run.");
        }

        if (entry.TryGetProperty("run", out JsonElement start) && start.ValueKind == JsonValueKind.Object)
        {
            run.Start = Start(start, step + 1);
            run.Warnings = run.Start.Warnings;
        }

        if (Words(entry, "checkpoint") is { } folder)
        {
            run.Checkpoints.Add((step, folder));
        }

        if (Number(entry, "train_runtime") is { } seconds)
        {
            run.Duration = TimeSpan.FromSeconds(Math.Clamp(seconds, 0, 1e9));
            run.Outcome = Words(entry, "outcome") ?? RunOutcome.Finished;
            run.Error = Words(entry, "error");
        }

        if (entry.TryGetProperty("loss", out _) || entry.TryGetProperty("eval_loss", out _))
        {
            steps[step] = Step(entry, step, steps.GetValueOrDefault(step));
        }
    }

    private static TrainingProgress Step(JsonElement entry, int step, TrainingProgress? known)
    {
        known ??= new TrainingProgress(step, 0, 0, double.NaN, double.NaN, double.NaN, 0, 0, double.NaN, TimeSpan.Zero, TimeSpan.Zero);
        double? elapsed = Number(entry, "elapsed") ?? Number(entry, "elapsed_seconds");
        return known with
        {
            Epoch = Number(entry, "epoch") ?? known.Epoch,
            Loss = Number(entry, "loss") ?? known.Loss,
            GradientNorm = Number(entry, "grad_norm") ?? known.GradientNorm,
            LearningRate = Number(entry, "learning_rate") ?? known.LearningRate,
            TokensPerSecond = Number(entry, "tokens_per_second") ?? known.TokensPerSecond,
            LabelTokens = Math.Max(known.LabelTokens, Long(entry, "label_tokens")),
            Tokens = Math.Max(known.Tokens, Long(entry, "tokens")),
            Elapsed = elapsed is { } seconds ? TimeSpan.FromSeconds(Math.Clamp(seconds, 0, 1e9)) : known.Elapsed,
            ValidationLoss = Number(entry, "eval_loss") ?? known.ValidationLoss,
            ValidationTokenAccuracy = Number(entry, "eval_mean_token_accuracy") ?? known.ValidationTokenAccuracy,
            WasSkipped = known.WasSkipped || Flag(entry, "skipped") || Flag(entry, "was_skipped"),
            LossScale = Number(entry, "loss_scale") ?? known.LossScale,
        };
    }

    private static TrainingStart Start(JsonElement run, int firstStep) => new()
    {
        ModelPath = Words(run, "model_name_or_path") ?? "",
        Method = Words(run, "finetuning_type") ?? "",
        TotalSteps = Whole(run, "max_steps") ?? 0,
        FirstStep = firstStep,
        Rows = Long(run, "num_train_samples"),
        ValidationRows = Long(run, "num_eval_samples"),
        Tokens = Long(run, "num_tokens"),
        LabelTokens = Long(run, "num_label_tokens"),
        DataStatistics = Words(run, "data_statistics") ?? "",
        TrainableParameters = Long(run, "trainable_params"),
        AllParameters = Long(run, "all_params"),
        Seed = Whole(run, "seed") ?? 0,
        Device = Words(run, "device") ?? "",
        StartTime = DateTimeOffset.TryParse(Words(run, "start_time"), CultureInfo.InvariantCulture, out DateTimeOffset time) ? time : default,
        Warnings = List(run, "warnings"),
        Options = Options(run),
    };

    private static TrainingOption[] Options(JsonElement run)
    {
        HashSet<string> changed = [.. List(run, "changed_options")];
        return run.TryGetProperty("options", out JsonElement options) && options.ValueKind == JsonValueKind.Object
            ? [.. options.EnumerateObject().Select(option => new TrainingOption(option.Name, option.Value.ToString(), !changed.Contains(option.Name)))]
            : [];
    }

    private static void Finish(RunRecord run, SortedDictionary<int, TrainingProgress> steps, int? total)
    {
        int all = total ?? (steps.Count == 0 ? 0 : steps.Keys.Last());
        run.Steps.AddRange(steps.Values.Select(step => step with { TotalSteps = all }));
        if (run.Duration == TimeSpan.Zero && run.Steps.Count > 0)
        {
            run.Duration = run.Steps[^1].Elapsed;
        }
    }

    private static double? Number(JsonElement entry, string name) =>
        entry.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double number)
            && double.IsFinite(number) ? number : null;

    private static int? Whole(JsonElement entry, string name) =>
        entry.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out int number) && number >= 0
            ? number : null;

    private static long Long(JsonElement entry, string name) =>
        entry.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out long number) ? number : 0;

    private static bool Flag(JsonElement entry, string name) => entry.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.True;

    private static string? Words(JsonElement entry, string name) =>
        entry.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    private static string[] List(JsonElement entry, string name) =>
        entry.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.Array
            ? [.. value.EnumerateArray().Where(item => item.ValueKind == JsonValueKind.String).Select(item => item.GetString()!)]
            : [];

    [GeneratedRegex(@"(?<=[:\[,]\s*)(?:NaN|-?Infinity)(?=\s*[,\]}])")]
    private static partial Regex NotANumber();
}
