using Microsoft.ML;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;

namespace MLNetLora.Cli.Running;

/// <summary>Shows what a command would do with: every setting, and where it comes from.</summary>
internal static class DryRun
{
    /// <summary>Writes it; what makes no sense is an error as it would be in the run.</summary>
    public static void Write(Screen screen, SettingsReader reader, RunSettings settings, CommandKinds command)
    {
        TrainingRun.Prepare(settings);
        if (settings.ValidationSize > 0 || settings.Validation.Count > 0)
        {
            settings.Training.ValidationSet ??= new MLContext().Data.LoadFromEnumerable([new { Text = "" }]); // there will be some
        }

        settings.Training.Validate();
        screen.WriteTable(["setting", "value", "from"], SettingsTable.Of(command).Select(setting =>
            (IReadOnlyList<string>)[setting.Key, Values.Show(setting.Get(settings)), From(reader, settings, setting)]));
        TrainingRun.WriteNotes(screen, reader);
    }

    private static string From(SettingsReader reader, RunSettings settings, Setting setting)
    {
        if (!reader.Decisions.TryGetValue(setting.Name, out Decision? decision))
        {
            bool isPacked = setting.Name == nameof(settings.Training.PackingLength) && settings.Packing;
            return isPacked ? Casing.Snake(nameof(settings.Packing)) : "default";
        }

        Given from = decision.From;
        string key = Casing.Bare(from.Key.TrimStart('-')) == Casing.Bare(setting.Name) ? "" : $" ({from.Key})";
        return $"{from.Place}{key}";
    }
}
