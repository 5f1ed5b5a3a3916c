using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using System.Text.RegularExpressions;
using MLNetLora.Cli.Configuration;

namespace MLNetLora.Cli.Output;

/// <summary>The page of --help: what a command does, how it is written, examples, and its options by subject.</summary>
/// <param name="width">Columns of the terminal.</param>
internal sealed partial class HelpPage(int width) : SynchronousCommandLineAction
{
    private const int LongestLine = 140;
    private const int Indent = 2;
    private const int LongestName = 44;

    private int Width => Math.Min(width, LongestLine);

    /// <inheritdoc/>
    public override bool ClearsParseErrors => true;

    /// <inheritdoc/>
    public override int Invoke(ParseResult parseResult)
    {
        Write(parseResult.CommandResult.Command, parseResult.InvocationConfiguration.Output);
        return ExitCode.Success;
    }

    /// <summary>Writes the page of a command.</summary>
    public void Write(Command command, TextWriter output)
    {
        string path = string.Join(' ', CommandLine.Path(command));
        string[] description = (command.Description ?? "").Split("\n\n", 2);
        Paragraph(output, description[0]);
        output.WriteLine();
        string arguments = string.Concat(command.Arguments.Select(argument => argument.Arity.MinimumNumberOfValues == 0 ? $" [{argument.Name}]"
            : $" {argument.Name}"));
        output.WriteLine($"Usage: {path}{(command.Subcommands.Count > 0 ? " COMMAND" : "")}{arguments} [options]");
        if (description.Length > 1)
        {
            output.WriteLine();
            output.WriteLine(description[1].TrimEnd());
        }

        Section(output, "Commands", command.Subcommands.Where(sub => !sub.Hidden).Select(sub => (sub.Name, InShort(sub.Description ?? ""))));
        Section(output, "Arguments", command.Arguments.Select(argument => (argument.Name, argument.Description ?? "")));
        SettingOptions? settings = (command as SettingsCommand)?.Settings;
        Option[] all = [.. command.Options.Where(option => !option.Hidden)];
        Section(output, "Options", all.Where(option => settings?.Of(option) is null).Concat(Inherited(command))
            .Select(option => (Names(option), Described(option))));
        foreach (IGrouping<SettingGroup, Option> group in all.Where(option => settings?.Of(option) is not null).GroupBy(option => settings!.Of(option)!.Group))
        {
            Section(output, Title(group.Key), group.Select(option => (Names(option), Described(option, settings!.Of(option)!))));
        }

        if (command is RootCommand)
        {
            output.WriteLine();
            output.WriteLine($"'{path} COMMAND --help' says more about each.");
        }
    }

    /// <summary>What a group of settings is called.</summary>
    public static string Title(SettingGroup group) => group switch
    {
        SettingGroup.Model => "Model",
        SettingGroup.Rows => "Data",
        SettingGroup.Results => "Output",
        SettingGroup.Lora => "Adapter",
        SettingGroup.Steps => "Training",
        SettingGroup.Optimization => "Optimizer",
        SettingGroup.Hardware => "Device, speed and memory",
        SettingGroup.Prompts => "Prompt",
        SettingGroup.MlColumns => "Columns of model.zip in ML.NET",
        _ => "Answers",
    };

    /// <summary>What a command does, without the how: up to the first colon or the end of the first sentence.</summary>
    private static string InShort(string description)
    {
        Match end = SentenceEnd().Match(description);
        return end.Success ? $"{description[..end.Index]}." : description;
    }

    [GeneratedRegex(@"[:.](\s|$)")]
    private static partial Regex SentenceEnd();

    private static IEnumerable<Option> Inherited(Command command) =>
        command.Parents.OfType<Command>().SelectMany(parent => parent.Options).Where(option => option.Recursive && !option.Hidden);

    private static string Names(Option option)
    {
        // Short names first; help has further ones, -? and /h.
        IEnumerable<string> names = option is HelpOption ? ["-h", "--help"] : option.Aliases.Prepend(option.Name);
        string all = string.Join(", ", names.OrderBy(name => name.StartsWith("--", StringComparison.Ordinal)).ThenBy(name => name != option.Name));
        return option.HelpName is null ? all : option.Arity.MinimumNumberOfValues == 0 && option.Arity.MaximumNumberOfValues == 1 ? all
            : $"{all} {option.HelpName}";
    }

    private static string Described(Option option) => option switch
    {
        HelpOption => "Shows this page",
        VersionOption => "Shows the version",
        _ => option.Description ?? "",
    };

    private static string Described(Option option, Setting setting)
    {
        string text = option.Description ?? "";
        string standard = setting.Default;
        string example = setting.Example is null ? "" : $", such as {setting.Example}";
        return standard is "(none)" or "" or "false" || text.Contains("default:", StringComparison.Ordinal)
            ? text + example
            : $"{text}{example} [{standard.Trim('[', ']')}]";
    }

    private void Section(TextWriter output, string title, IEnumerable<(string Name, string Text)> rows)
    {
        (string Name, string Text)[] all = [.. rows];
        if (all.Length == 0)
        {
            return;
        }

        output.WriteLine();
        output.WriteLine($"{title}:");
        int column = Indent + Math.Min(LongestName, all.Max(row => row.Name.Length)) + 2;
        foreach ((string name, string text) in all)
        {
            string start = new string(' ', Indent) + name;
            IEnumerable<string> lines = Lines(text, Math.Max(20, Width - column));
            if (start.Length > column - 2)
            {
                output.WriteLine(start);
                start = "";
            }

            foreach (string line in lines)
            {
                output.WriteLine($"{start.PadRight(column)}{line}".TrimEnd());
                start = "";
            }
        }
    }

    private void Paragraph(TextWriter output, string text)
    {
        foreach (string line in Lines(text, Width))
        {
            output.WriteLine(line);
        }
    }

    private static IEnumerable<string> Lines(string text, int width)
    {
        string line = "";
        foreach (string word in text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries))
        {
            if (line.Length > 0 && line.Length + 1 + word.Length > width)
            {
                yield return line;
                line = "";
            }

            line = line.Length == 0 ? word : $"{line} {word}";
        }

        yield return line;
    }
}
