using System.CommandLine;
using Microsoft.ML;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;
using MLNetLora.Cli.Running;
using MLNetLora.Text;

namespace MLNetLora.Cli.Commands;

/// <summary>preflight: shows what would be learned.</summary>
internal static class PreflightCommand
{
    private const string Description = """
        Looks at the rows as the training would see them: how many tokens, what is cut off, whether the model learns to stop, and the first rows.

        Examples:
          mlnetlora preflight --model Qwen/Qwen3-0.6B --data company_data.json
          mlnetlora preflight run.yaml --max-length 256
        """;

    public static Command Create(Screen screen)
    {
        SettingsCommand command = new("preflight", Description, CommandKinds.Preflight);
        Argument<string?> config = TrainCommand.ConfigArgument();
        command.Arguments.Add(config);
        command.SetAction((parsed, _) => Task.Run(() =>
        {
            SettingsReader reader = command.Settings.Read(parsed, TrainCommand.Files(parsed, config));
            RunSettings settings = reader.Settings();
            TrainingRun.Prepare(settings);
            settings.Training.CancellationToken = screen.Interruption.Token;
            MLContext ml = new(settings.Training.Seed);
            settings.ValidationSize = 0;
            IDataView rows = RowFiles.Open(ml, settings).Rows;
            Preflight found = ml.TextGeneration.Trainers.QwenLora(settings.Training).Preflight(rows);
            using StringWriter page = new();
            found.Write(page, screen.HasColor);
            string figures = found.ToString(); // warnings too, which name options
            screen.Out.Write(screen.Said(figures) + Colored(Visible.Of(page.ToString()[figures.Length..])));
            return ExitCode.Success;
        }));
        return command;

        // What rows hold is shown and not obeyed, but for the colours that say what is learned; from rows they do no harm.
        string Colored(string shown) => !screen.HasColor ? shown
            : shown.Replace("␛[32m", "\e[32m", StringComparison.Ordinal).Replace("␛[0m", "\e[0m", StringComparison.Ordinal);
    }
}
