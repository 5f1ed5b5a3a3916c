using MLNetLora.Adapters;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;
using MLNetLora.Models;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Cli.Running;

/// <summary>What answers: what was named, else what a training left in its output folder.</summary>
/// <param name="Model">The base, or a model zip; null: nothing names one.</param>
/// <param name="Adapter">The adapter, or a model zip; null for none.</param>
internal sealed record AnswerSource(string? Model, string? Adapter)
{
    /// <summary>Whether the base is only named by the adapter's file, which is no reason to download it.</summary>
    public bool IsBaseOfAdapter { get; private init; }

    /// <summary>What is to be known of it, where it is not the result of the training; null for nothing.</summary>
    public string? Note { get; private init; }

    /// <summary>Finds it, and says what is to be known of it.</summary>
    /// <param name="screen">Where that is said.</param>
    /// <param name="settings">The settings.</param>
    public static AnswerSource Find(Screen screen, RunSettings settings)
    {
        AnswerSource found = Find(settings);
        if (found.Note is { } note)
        {
            screen.WriteNote(note);
        }

        return found;
    }

    /// <summary>Finds it.</summary>
    public static AnswerSource Find(RunSettings settings)
    {
        string? model = settings.Training.ModelPath is { Length: > 0 } path ? path : null;
        string? adapter = settings.Adapter;
        string? note = null;
        if (adapter is null && settings.Output is { } output)
        {
            bool isFull = settings.Training.Method == FineTuningMethod.Full;
            (string? left, note) = Left(output, isFull, model);
            (model, adapter) = isFull ? (left ?? model, null) : (model, left);
        }

        if (model is not null && adapter is null && IsAdapter(model))
        {
            (model, adapter) = (null, model);
        }

        bool isNamed = model is null && adapter is not null && !AnsweringModel.IsZip(adapter);
        return new AnswerSource(isNamed ? AdapterBase.Of(adapter!) : model, adapter) { IsBaseOfAdapter = isNamed, Note = note };
    }

    /// <summary>What a training left: its result, else the newest checkpoint of a run that has not ended.</summary>
    private static (string? Folder, string? Note) Left(string output, bool isFull, string? model)
    {
        string folder = isFull ? TrainingRun.ModelIn(output) : TrainingRun.AdapterIn(output);
        if (File.Exists(Path.Combine(folder, isFull ? QwenConfig.FileName : LoraAdapter.ConfigName)))
        {
            return (folder, null);
        }

        if (RunFolder.Checkpoints(folder).FirstOrDefault() is { Folder: { } checkpoint } newest)
        {
            return (checkpoint,
                FormattableString.Invariant($"The training in {output} has not ended: what it was after step {newest.Step} answers ({checkpoint})."));
        }

        return (null, model is null ? null : $"There is nothing of a training in {output}: {model} answers as it is.");
    }

    private static bool IsAdapter(string folder) =>
        File.Exists(Path.Combine(folder, LoraAdapter.ConfigName)) && !File.Exists(Path.Combine(folder, QwenConfig.FileName));
}
