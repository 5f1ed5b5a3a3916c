using System.CommandLine;
using System.CommandLine.Parsing;
using MLNetLora.Cli.Configuration;

namespace MLNetLora.Cli;

/// <summary>What is wrong with a command line, with the nearest word that would be right.</summary>
internal static class ParseErrors
{
    public static IEnumerable<string> Of(ParseResult parsed)
    {
        Command command = parsed.CommandResult.Command;
        foreach (string word in parsed.UnmatchedTokens)
        {
            bool isOption = word.StartsWith('-');
            string[] known = isOption
                ? [.. Options(command).SelectMany(option => option.Aliases.Prepend(option.Name))]
                : [.. command.Subcommands.Select(sub => sub.Name)];
            string nearest = known.Length == 0 ? "" : $" The nearest one is {Casing.Nearest(word, known)}.";
            yield return isOption ? $"there is no option {word}.{nearest}"
                : command.Subcommands.Count > 0 ? $"there is no command {word}.{nearest}"
                : $"{word} is one word too many.";
        }

        foreach (ParseError error in parsed.Errors.Where(error => parsed.UnmatchedTokens.Count == 0))
        {
            yield return error.Message;
        }
    }

    private static IEnumerable<Option> Options(Command command) =>
        command.Options.Concat(command.Parents.OfType<Command>().SelectMany(Options).Where(option => option.Recursive));
}
