using System.Collections;
using System.Globalization;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using MLNetLora.Adapters;
using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.TextGeneration;

/// <summary>What a run is known by when it is resumed: every option by its name, so that a new one counts without being listed here; only those that are in
/// other places or decide nothing of the result are.</summary>
internal static class RunOptions
{
    /// <summary>What the saved numbers have a place for, beside the options of the adapter.</summary>
    private static readonly string[] s_shape = [nameof(QwenLoraTrainer.Options.Method), nameof(TrainingOptions.Optimizer),
        nameof(TrainingOptions.LoraPlusRatio)];

    /// <summary>What changes the last digits, or when something is done.</summary>
    private static readonly string[] s_conditions =
    [
        nameof(TrainingOptions.Device),
        nameof(TrainingOptions.EvaluationSteps),
        nameof(TrainingOptions.EarlyStoppingPatience),
        nameof(TrainingOptions.EarlyStoppingThreshold),
        nameof(TrainingOptions.LoadBestModelAtEnd),
    ];

    /// <summary>What does not decide the result, or is known by more than its name: the base, the rows, the adapter that a run began with.</summary>
    private static readonly string[] s_elsewhere =
    [
        nameof(QwenLoraTrainer.Options.ModelPath),
        nameof(QwenLoraTrainer.Options.InitialAdapter),
        nameof(QwenLoraTrainer.Options.OutputFolder),
        nameof(QwenLoraTrainer.Options.ResumeFrom),
        nameof(QwenLoraTrainer.Options.ResumeWithChanges),
        nameof(QwenLoraTrainer.Options.ValidationSet),
        nameof(QwenLoraTrainer.Options.ProgressCallback),
        nameof(QwenLoraTrainer.Options.Callbacks),
        nameof(QwenLoraTrainer.Options.DownloadModel),
        nameof(QwenLoraTrainer.Options.CancellationToken),
        nameof(QwenLoraTrainer.Options.Generation),
        nameof(QwenLoraTrainer.Options.WeightPrecision),
        nameof(TrainingOptions.WarningsAsErrors),
        nameof(TrainingOptions.SaveSteps),
        nameof(TrainingOptions.SaveEveryEpoch),
        nameof(TrainingOptions.SaveTotalLimit),
        nameof(TrainingOptions.Threads), // below, as the number that is used
    ];

    /// <summary>What a run is.</summary>
    /// <param name="options">Its options.</param>
    /// <param name="lora">The shape of its adapter, which may be that of a file.</param>
    /// <param name="baseModel">Its base.</param>
    /// <param name="rows">Its rows.</param>
    /// <param name="validation">Its validation rows.</param>
    public static RunIdentity Identity(QwenLoraTrainer.Options options, LoraOptions lora, BaseModelRecord baseModel, IReadOnlyList<TrainingRow> rows,
        IReadOnlyList<TrainingRow> validation)
    {
        string[] adapter = [.. typeof(LoraOptions).GetProperties().Select(property => property.Name).Where(name => name != nameof(LoraOptions.Dropout))];
        Dictionary<string, string> shape = [];
        Dictionary<string, string> others = [];
        Dictionary<string, string> machine = [];
        foreach (PropertyInfo property in typeof(QwenLoraTrainer.Options).GetProperties().OrderBy(property => property.Name, StringComparer.Ordinal))
        {
            string name = property.Name;
            if (!s_elsewhere.Contains(name) && !name.EndsWith("ColumnName", StringComparison.Ordinal))
            {
                (s_shape.Contains(name) || adapter.Contains(name) ? shape : s_conditions.Contains(name) ? machine : others)[name] =
                    Text(adapter.Contains(name) ? typeof(LoraOptions).GetProperty(name)!.GetValue(lora) : property.GetValue(options));
            }
        }

        others[nameof(TrainingOptions.ComputeType)] = Text(options.UsedComputeType);

        machine[nameof(TrainingOptions.Threads)] = Text(options.Threads == 0 ? Environment.ProcessorCount : options.Threads);
        machine["the processor's architecture"] = RuntimeInformation.ProcessArchitecture.ToString();
        machine["MLNetLora's version"] = typeof(RunOptions).Assembly.GetName().Version?.ToString(3) ?? "unknown";
        return new RunIdentity(Base(baseModel), shape, others, machine, RowsMark.Of(rows), RowsMark.Of(validation));
    }

    /// <summary>By what a base is known: the sizes and hashes of its weights, and what its configuration says of the model.</summary>
    private static Dictionary<string, string> Base(BaseModelRecord record)
    {
        Dictionary<string, string> known = [];
        foreach (BaseModelFile file in record.Files)
        {
            string all = file.HeaderSha256 + string.Concat(file.Tensors!.OrderBy(tensor => tensor.Key, StringComparer.Ordinal).Select(tensor => tensor.Value));
            string hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(all)))[..16];
            known[file.Name] = FormattableString.Invariant($"{file.Size} bytes with hash {hash}");
        }

        foreach ((string field, string value) in record.Fingerprint!.Config.Where(field => !CheckpointFingerprint.OfGeneration.Contains(field.Key)))
        {
            known[$"{field} ({QwenConfig.FileName})"] = value;
        }

        return known;
    }

    private static string Text(object? value) => value switch
    {
        null => "null",
        string text => text,
        TargetModules targets => targets.Pattern is { } pattern ? $"'{pattern}'" : $"[{targets}]",
        IDictionary map => $"{{{string.Join(", ", map.Keys.Cast<object>().Select(key => $"{Text(key)}: {Text(map[key])}").Order(StringComparer.Ordinal))}}}",
        IEnumerable list => $"[{string.Join(", ", list.Cast<object?>().Select(Text))}]",
        IFormattable number => number.ToString(null, CultureInfo.InvariantCulture),
        _ => value.ToString() ?? "",
    };
}
