using System.Text.RegularExpressions;
using MLNetLora.TextGeneration;

namespace MLNetLora.Cli.Configuration;

/// <summary>
/// Says what the library says about its options in the words of the command line: Rank is --rank, and (lora_rank, run.yaml:3) where a file said it. The words
/// are those of the table.
/// </summary>
internal sealed partial class OptionWords
{
    private static readonly string[] s_names = [.. SettingsTable.All.SelectMany(setting => setting.LibraryNames).Distinct()
        .OrderByDescending(name => name.Length)];

    // What the library advises its programs to call, and is a command here.
    private static readonly (string Call, string Command)[] s_calls =
    [
        ("ModelHub.DownloadAsync", $"'{CommandLine.Name} download'"),
        ("ml.TextGeneration.UseBaseModel(folder or hub id) before ml.Model.Load", "--model FOLDER --adapter MODEL.zip"),
        ("(ml.TextGeneration.UseBaseModel)", "(--model)"),
        ("Rename the fields, or name the format; or load the rows as a view of your own, a table with ml.Data.LoadFromTextFile, and set the trainer's options "
            + "InstructionColumnName and OutputColumnName to its columns.", "Rename the fields, or name the format with --data-format."),
        ("set ResumeFrom to it, ResumeWithChanges to true, and", "give it with --resume-from in the place of --resume, add --resume-with-changes, and"),
        ("is loaded with ml.TextGeneration.LoadAdapter(base, folder)", "is given with --adapter"),
    ];

    // A name is no part of a path or of a longer word.
    private static readonly Regex s_words = new(
        $@"(?<![\w/\\.$'""-])(?<answers>([Tt]he )?generation's |{nameof(Inference.GenerationOptions)}\.)?"
        + $@"(?<owner>({nameof(QwenLoraTrainer)}\.)?\w*Options\.)?(?<name>{string.Join('|', s_names.Select(Regex.Escape))})(?![\w/\\-]|\.\w)",
        RegexOptions.CultureInvariant);

    private readonly CommandKinds _command;
    private readonly IReadOnlyDictionary<string, Decision> _decisions;

    /// <summary>The words of a command.</summary>
    /// <param name="command">The command.</param>
    /// <param name="decisions">What its files and its line have said.</param>
    public OptionWords(CommandKinds command, IReadOnlyDictionary<string, Decision> decisions) => (_command, _decisions) = (command, decisions);

    /// <summary>A message in these words.</summary>
    public string Say(string message)
    {
        HashSet<Setting> said = [];
        string text = s_words.Replace(message, match =>
        {
            string name = match.Groups["name"].Value;
            if (IsSentence(name, message, match))
            {
                return match.Value;
            }

            bool isSet = IsSet().IsMatch(message[..match.Index]);
            Setting setting = Of(name, match.Groups["answers"].Success, isSet);
            return said.Add(setting) ? Word(setting) + From(setting) : Word(setting);
        });
        return text.Replace("(option --", "(--", StringComparison.Ordinal);
    }

    /// <summary>A message with commands in the place of what programs call.</summary>
    public static string Commands(string message) =>
        s_calls.Aggregate(Kept().Replace(message, ""), (all, call) => all.Replace(call.Call, call.Command, StringComparison.Ordinal));

    /// <summary>Which setting the library means: one that was given, rather than another that decides the same option; but the one that takes the value where
    /// it is to be set to another.</summary>
    private Setting Of(string name, bool ofAnswers, bool isSet) => SettingsTable.All.Where(setting => setting.LibraryNames.Contains(name))
        .OrderByDescending(setting => ofAnswers == (setting.Group == SettingGroup.Answers))
        .ThenByDescending(setting => setting.On.HasFlag(_command))
        .ThenByDescending(setting => isSet && setting.Name == name)
        .ThenByDescending(setting => _decisions.ContainsKey(setting.Name))
        .ThenByDescending(setting => setting.Name == name)
        .First();

    private string Word(Setting setting) => setting.On.HasFlag(_command) ? setting.Said : setting.Key;

    /// <summary>How it was written, where that was another word or in a file.</summary>
    private string From(Setting setting)
    {
        if (!_decisions.TryGetValue(setting.Name, out Decision? decision))
        {
            return "";
        }

        Given from = decision.From;
        string bare = Casing.Bare(from.Key);
        bool isOwn = bare == Casing.Bare(setting.Name) || bare == Casing.Bare(Word(setting));
        return (isOwn, from.Place.IsFile) switch
        {
            (true, true) => $" ({from.Place})",
            (false, true) => $" ({from.Key}, {from.Place})",
            (false, false) => $" ({from.Key})",
            _ => "",
        };
    }

    /// <summary>Whether a name of one word, such as Device, begins a sentence and is just an English word there.</summary>
    private static bool IsSentence(string name, string message, Match match)
    {
        if (name.Skip(1).Any(char.IsUpper) || match.Groups["answers"].Success || match.Groups["owner"].Success)
        {
            return false;
        }

        bool begins = match.Index == 0 || EndOfSentence().IsMatch(message[..match.Index]);
        return begins && !Verb().IsMatch(message[(match.Index + match.Length)..]);
    }

    // What an exception carries is written by the command line, or said to be lost.
    [GeneratedRegex(@" The adapter of step \d+ is kept in this exception: .*? saves it\.")]
    private static partial Regex Kept();

    [GeneratedRegex(@"[.:?!]\s+$")]
    private static partial Regex EndOfSentence();

    // "Set ResumeFrom to out/checkpoint-5", which --resume, given or not, cannot be.
    [GeneratedRegex(@"\b[Ss]et $")]
    private static partial Regex IsSet();

    // As options go on: "Rank is 0", "Rank of 'q_proj' is".
    [GeneratedRegex(@"^( (is|was|has|holds|names|means|of '|to) ?|[,;)])")]
    private static partial Regex Verb();
}
