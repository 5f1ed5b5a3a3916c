using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;

namespace MLNetLora.Cli;

/// <summary>The command mlnetlora: finds out what is asked, does it, and turns errors into a paragraph and an exit code.</summary>
internal static class CommandLine
{
    /// <summary>Name of the command.</summary>
    public const string Name = "mlnetlora";

    /// <summary>Runs it.</summary>
    /// <param name="arguments">The words behind the command's name.</param>
    /// <param name="screen">Where it reads and writes.</param>
    /// <returns>The exit code.</returns>
    public static async Task<int> RunAsync(string[] arguments, Screen screen)
    {
        RootCommand root = Root(screen);
        ParseResult parsed = root.Parse(PeersOptions.Translate(Suggestions.Translate(arguments), root),
            new ParserConfiguration { ResponseFileTokenReplacer = null });
        screen.IsVerbose = parsed.GetValue<bool>(CommonOptions.VerboseName);
        if (parsed.Action is ParseErrorAction or null || (parsed.Action is not HelpPage && ParseErrors.AnyStray(parsed)))
        {
            string path = string.Join(' ', Path(parsed.CommandResult.Command));
            foreach (string message in ParseErrors.Of(parsed).Distinct())
            {
                screen.WriteError(message);
            }

            screen.Error.WriteLine($"See '{path} --help'.");
            return ExitCode.Usage;
        }

        if (parsed.CommandResult.Command is SettingsCommand command)
        {
            command.Settings.Reading = words => screen.Words = words;
        }

        try
        {
            return await parsed.InvokeAsync(new InvocationConfiguration
            {
                Output = screen.Out,
                Error = screen.Error,
                EnableDefaultExceptionHandler = false,
                ProcessTerminationTimeout = null, // signals are ours
            });
        }
        catch (Exception error)
        {
            return Failures.Report(error, screen);
        }
        finally
        {
            try
            {
                screen.Out.Flush();
                screen.Error.Flush();
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or ObjectDisposedException)
            {
                // Closed, or a disk that is full: there is nobody to tell.
            }
        }
    }

    /// <summary>All commands.</summary>
    public static RootCommand Root(Screen screen)
    {
        RootCommand root = new("Fine-tunes Qwen with LoRA on ONNX Runtime, and answers with what was learned.")
        {
            Commands.TrainCommand.Create(screen),
            Commands.PreflightCommand.Create(screen),
            Commands.PlanCommand.Create(screen),
            Commands.PlanCommand.CreateProbe(screen),
            Commands.EvaluateCommand.Create(screen),
            Commands.GenerateCommand.Create(screen),
            Commands.ScoreCommand.Create(screen),
            Commands.ChatCommand.Create(screen),
            Commands.MergeCommand.Create(screen),
            Commands.InspectCommand.Create(screen),
            Commands.DownloadCommand.Create(screen),
            Commands.NewCheckpointCommand.Create(screen),
            Commands.CompletionCommand.Create(screen),
        };
        root.Options.Add(CommonOptions.Verbose());
        foreach (HelpOption help in root.Options.OfType<HelpOption>())
        {
            help.Action = new HelpPage(screen.Width);
        }

        return root;
    }

    /// <summary>The names of a command and those above it.</summary>
    public static IEnumerable<string> Path(Command command) => command.Parents.OfType<Command>().FirstOrDefault() is { } parent
        ? [.. Path(parent), command.Name]
        : [Name];
}
