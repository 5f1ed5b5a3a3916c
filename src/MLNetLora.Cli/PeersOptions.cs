using System.CommandLine;
using MLNetLora.Cli.Configuration;

namespace MLNetLora.Cli;

/// <summary>Options as people write them for other programs: --lora_rank 8 is --rank 8, --learning_rate is --learning-rate.</summary>
internal static class PeersOptions
{
    /// <summary>The words with such options under our names; what is known, and all that is not, stays as it is.</summary>
    public static string[] Translate(string[] arguments, RootCommand root)
    {
        Command? command = arguments.Length == 0 ? null : root.Subcommands.FirstOrDefault(sub => sub.Name == arguments[0]);
        if (command is null)
        {
            return arguments;
        }

        HashSet<string> known = [.. command.Options.SelectMany(option => option.Aliases.Prepend(option.Name))];
        return [.. arguments.Select(word =>
        {
            string name = word.Split('=', 2)[0];
            if (!name.StartsWith("--", StringComparison.Ordinal) || known.Contains(name))
            {
                return word;
            }

            string bare = Casing.Bare(name);
            string? ours = known.FirstOrDefault(option => option.StartsWith("--", StringComparison.Ordinal) && Casing.Bare(option) == bare)
                ?? SettingsTable.All.FirstOrDefault(setting => known.Contains(setting.Option)
                    && setting.Aliases.Any(alias => alias.Read is null && Casing.Bare(alias.Key) == bare))?.Option;
            return ours is null ? word : ours + word[name.Length..];
        })];
    }
}
