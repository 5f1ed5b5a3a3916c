using System.CommandLine;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;
using MLNetLora.Cli.Running;

namespace MLNetLora.Cli.Commands;

/// <summary>train: fine-tunes, and saves what was learned.</summary>
internal static class TrainCommand
{
    private const string Description = """
        Fine-tunes a model on rows of questions and answers, conversations or documents, and saves the adapter.

        Examples:
          mlnetlora train --model Qwen/Qwen2.5-0.5B-Instruct --data company_data.json --output out/company
          mlnetlora train run.yaml
          mlnetlora train run.yaml --rank 64 --learning-rate 1e-4 --set lora_target=all
          mlnetlora train run.yaml --dry-run
        """;

    public static Command Create(Screen screen)
    {
        SettingsCommand command = new("train", Description, CommandKinds.Train);
        Argument<string?> config = ConfigArgument();
        Option<bool> dryRun = new("--dry-run") { Description = "Shows every setting and where it comes from, and trains nothing" };
        command.Arguments.Add(config);
        command.Options.Add(dryRun);
        command.SetAction((parsed, _) => Task.Run(() =>
        {
            SettingsReader reader = command.Settings.Read(parsed, Files(parsed, config));
            RunSettings settings = reader.Settings();
            if (parsed.GetValue(dryRun))
            {
                DryRun.Write(screen, reader, settings, CommandKinds.Train);
                return ExitCode.Success;
            }

            return new TrainingRun(screen, reader, settings).Run();
        }));
        return command;
    }

    /// <summary>The file with settings as a word of its own.</summary>
    public static Argument<string?> ConfigArgument() => new("CONFIG")
    {
        Arity = ArgumentArity.ZeroOrOne,
        Description = "YAML or JSON file with settings, as for --config",
    };

    /// <summary>That file, if it was given.</summary>
    public static IEnumerable<string> Files(ParseResult parsed, Argument<string?> config) => parsed.GetValue(config) is { } file ? [file] : [];
}
