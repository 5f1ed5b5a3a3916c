using System.Text;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;

namespace MLNetLora.Cli.Tests;

/// <summary>docs/cli.md says what the table says. UPDATE_DOCS=1 writes it.</summary>
public sealed class DocsTests
{
    private static readonly (CommandKinds Command, char Letter)[] s_letters =
    [
        (CommandKinds.Train, 'T'), (CommandKinds.Preflight, 'P'), (CommandKinds.Evaluate, 'E'), (CommandKinds.Generate, 'G'), (CommandKinds.Chat, 'C'),
    ];

    private static readonly IFormatProvider Invariant = System.Globalization.CultureInfo.InvariantCulture;

    private static string Page => Repository.At("docs", "cli.md");

    [Theory]
    [InlineData("settings")]
    [InlineData("combined")]
    [InlineData("foreign")]
    public void The_page_has_the_table(string part)
    {
        string text = File.ReadAllText(Page).ReplaceLineEndings("\n");
        int begin = text.IndexOf('\n', text.IndexOf($"<!-- {part}: begin", StringComparison.Ordinal)) + 1;
        int end = text.IndexOf($"<!-- {part}: end -->", StringComparison.Ordinal);
        string expected = part switch { "settings" => Settings(), "combined" => Combined(), _ => Foreign() };
        if (Environment.GetEnvironmentVariable("UPDATE_DOCS") == "1")
        {
            File.WriteAllText(Page, text[..begin] + expected + text[end..]);
            return;
        }

        Assert.Equal(expected, text[begin..end]);
    }

    [Fact]
    public async Task The_page_names_every_command()
    {
        string text = File.ReadAllText(Page);
        string[] commands = [.. CommandLine.Root(new Screen { In = TextReader.Null, Out = TextWriter.Null, Error = TextWriter.Null }).Subcommands
            .Where(sub => !sub.Hidden).Select(sub => sub.Name)];
        Assert.All(commands, command => Assert.Contains($"| `{command}", text, StringComparison.Ordinal));
        string help = (await Cli.Run("--help")).Succeeded().Out;
        Assert.All(commands, command => Assert.Contains($"  {command} ", help, StringComparison.Ordinal));
    }

    [Fact]
    public void The_page_names_every_exit_code()
    {
        string text = File.ReadAllText(Page);
        Assert.All(
            typeof(ExitCode).GetFields().Select(field => (int)field.GetRawConstantValue()!),
            code => Assert.Contains(FormattableString.Invariant($"| {code} |"), text, StringComparison.Ordinal));
    }

    private static string Settings()
    {
        StringBuilder text = new();
        foreach (IGrouping<SettingGroup, Setting> group in SettingsTable.All.GroupBy(setting => setting.Group))
        {
            text.Append("\n### ").Append(HelpPage.Title(group.Key)).Append("\n\n");
            text.Append("| key | what it is | value | default | other names | |\n|---|---|---|---|---|---|\n");
            foreach (Setting setting in group)
            {
                string names = string.Join(", ", setting.Aliases.Select(alias => alias.Key).Concat(setting.ShortNames).Select(name => $"`{name}`"));
                text.Append(Invariant, $"| `{setting.Key}` | {setting.Description} | {setting.Expected} | ");
                text.Append(Invariant, $"{Cell(setting.Default)} | {names} | {Letters(setting.On)} |\n");
            }
        }

        return text.Append('\n').ToString();
    }

    private static string Combined()
    {
        StringBuilder text = new("\n| keys | settings | meaning |\n|---|---|---|\n");
        foreach (CombinedKeys combined in CombinedKeys.All)
        {
            string sets = string.Join(", ", combined.Sets.Select(set => set switch
            {
                nameof(RunSettings.MixedPrecision) => "`compute_type`",
                nameof(RunSettings.Evaluates) => "`validation`, `validation_size`",
                _ => $"`{Casing.Snake(set)}`",
            }));
            text.Append(Invariant, $"| {string.Join(", ", combined.Keys.Select(key => $"`{key}`"))} | {sets} | {combined.Meaning} |\n");
        }

        return text.Append('\n').ToString();
    }

    private static string Foreign()
    {
        StringBuilder text = new("\n| keys | why | let through |\n|---|---|---|\n");
        foreach (IGrouping<(string, string), ForeignKey> group in ForeignKey.All.GroupBy(key => (key.Reason, key.Accepts)))
        {
            text.Append(Invariant, $"| {string.Join(", ", group.Select(key => $"`{key.Key}`"))} | {group.Key.Item1} | {group.Key.Item2} |\n");
        }

        return text.Append('\n').ToString();
    }

    private static string Cell(string value) => value is "(none)" or "" ? "" : $"`{value.Trim('[', ']')}`";

    private static string Letters(CommandKinds on) => string.Concat(s_letters.Where(pair => on.HasFlag(pair.Command)).Select(pair => pair.Letter));
}
