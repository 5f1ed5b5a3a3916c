namespace MLNetLora.Cli.Tests;

/// <summary>What --help shows first.</summary>
public sealed class HelpTests
{
    [Fact]
    public async Task Each_command_has_a_sentence_in_the_list_and_all_of_it_on_its_own_page()
    {
        string[] lines = (await Cli.Run("--help")).Succeeded().Out.ReplaceLineEndings("\n").Split('\n');
        string[] commands = [.. lines.SkipWhile(line => line != "Commands:").Skip(1).TakeWhile(line => line.Length > 0)];
        Assert.True(commands.Length > 8);
        Assert.All(commands, line => Assert.Matches(@"^  [a-z-]+ +[A-Z].*\.$", line));
        string plan = string.Join(' ', (await Cli.Run("plan", "--help")).Succeeded().Out.Split());
        Assert.Contains("trains a few of its micro-batches", plan, StringComparison.Ordinal);
    }
}
