using System.CommandLine;
using System.CommandLine.Parsing;
using MLNetLora.Cli.Configuration;

namespace MLNetLora.Cli;

/// <summary>The settings of a command as options of its line, with the configuration files and --set.</summary>
internal sealed class SettingOptions
{
    public const string ConfigName = "--config";
    public const string SetName = "--set";

    private readonly CommandKinds _command;
    private readonly Option<string[]> _config = new(ConfigName, "-c")
    {
        Description = "YAML or JSON file with settings, under our names or those of PEFT, transformers and LLaMA-Factory",
        HelpName = "FILE",
        AllowMultipleArgumentsPerToken = false,
    };

    private readonly Option<string[]> _set = new(SetName)
    {
        Description = "One setting as it would stand in a file, such as lora_target=all; may be given several times",
        HelpName = "KEY=VALUE",
        AllowMultipleArgumentsPerToken = false,
    };

    private readonly List<(Setting Setting, Option Option)> _options = [];

    /// <summary>Adds the options of a command to its line.</summary>
    /// <param name="line">The command.</param>
    /// <param name="command">Which one it is.</param>
    public SettingOptions(Command line, CommandKinds command)
    {
        _command = command;
        line.Options.Add(_config);
        line.Options.Add(_set);
        foreach (Setting setting in SettingsTable.Of(command))
        {
            Option option = setting.IsList
                ? new Option<string[]>(setting.Option, [.. setting.ShortNames]) { AllowMultipleArgumentsPerToken = true, Arity = ArgumentArity.OneOrMore }
                : new Option<string>(setting.Option, [.. setting.ShortNames]) { Arity = setting.IsFlag ? ArgumentArity.ZeroOrOne : ArgumentArity.ExactlyOne };
            option.Description = setting.Description;
            option.HelpName = setting.IsFlag ? "true|false" : HelpName(setting);
            Type type = Nullable.GetUnderlyingType(setting.Type) ?? setting.Type;
            if (type.IsEnum && setting.Read is null)
            {
                option.CompletionSources.Add(Values.Names(type));
            }
            else if (setting.IsFlag)
            {
                option.CompletionSources.Add("true", "false");
            }

            _options.Add((setting, option));
            line.Options.Add(option);
        }
    }

    /// <summary>Which setting an option is; null for one that is none.</summary>
    public Setting? Of(Option option) => _options.FirstOrDefault(pair => pair.Option == option).Setting;

    /// <summary>Hears of what is read, before it is.</summary>
    public Action<OptionWords>? Reading { get; set; }

    /// <summary>Reads files and line.</summary>
    /// <param name="parsed">The line.</param>
    /// <param name="files">Files that were given otherwise, before those of --config.</param>
    public SettingsReader Read(ParseResult parsed, params IEnumerable<string> files)
    {
        SettingsReader reader = new(_command);
        Reading?.Invoke(new OptionWords(_command, reader.Decisions));
        foreach (string file in files.Concat(parsed.GetValue(_config) ?? []))
        {
            reader.AddFile(file);
        }

        List<Given> line = [];
        foreach ((Setting setting, Option option) in _options)
        {
            if (parsed.GetResult(option) is { Implicit: false } result)
            {
                string[] words = [.. result.Tokens.Select(token => token.Value)];
                line.Add(new Given(setting.Option, Value(setting, words)));
            }
        }

        foreach (string pair in parsed.GetValue(_set) ?? [])
        {
            int at = pair.IndexOf('=');
            line.Add(at > 0
                ? new Given(pair[..at].Trim(), ConfigFile.Text(pair[(at + 1)..]))
                : throw new ConfigException($"{SetName} {pair}: it must be KEY=VALUE, such as lora_rank=16."));
        }

        reader.Add(line);
        return reader;
    }

    private static ConfigValue Value(Setting setting, string[] words)
    {
        if (setting.IsFlag)
        {
            return Word(words.Length == 0 ? "true" : words[0]);
        }

        return setting.IsList && words.Length > 1 ? new ListValue([.. words.Select(Word)], Place.CommandLine)
            : setting.Type.IsGenericType && setting.Type.GetGenericTypeDefinition() == typeof(IReadOnlyDictionary<,>) ? ConfigFile.Text(words[0])
            : Word(words[0]);

        // The shell has taken the quotes: a text is a text although it has none, and one that is empty was meant to be.
        static ScalarValue Word(string word) => new(word, IsQuoted: word.Length == 0, Place.CommandLine);
    }

    private static string HelpName(Setting setting)
    {
        Type type = Nullable.GetUnderlyingType(setting.Type) ?? setting.Type;
        return setting.Expects is { } expects && !expects.Contains("or more", StringComparison.Ordinal) ? expects.Split(',')[0].Length > 20 ? "VALUE"
            : Alternatives(expects)
            : type.IsEnum ? string.Join('|', Values.Names(type))
            : type == typeof(int) ? "N"
            : type == typeof(double) || type == typeof(float) ? "NUMBER"
            : setting.Name is nameof(RunSettings.Data) or nameof(RunSettings.Validation) ? "FILE"
            : setting.Name is nameof(RunSettings.Output) or nameof(RunSettings.Adapter) or nameof(RunSettings.DatasetFolder) ? "FOLDER"
            : type == typeof(string) ? "TEXT"
            : setting.Type == typeof(IReadOnlyList<int>) ? "N"
            : setting.IsList ? "NAME"
            : "NAME: N";
    }

    private static string Alternatives(string expects) => string.Join('|', expects.Split(", or")[0].Split([", ", " or "], StringSplitOptions.TrimEntries));
}
