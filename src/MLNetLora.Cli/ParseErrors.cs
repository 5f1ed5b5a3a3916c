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
        foreach (string word in Strange(parsed))
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

        foreach (ParseError error in parsed.Errors.Where(error => !Strange(parsed).Any()))
        {
            yield return error.Message;
        }
    }

    /// <summary>Whether a word that looks like an option was taken for something else.</summary>
    public static bool AnyStray(ParseResult parsed) => Stray(parsed).Any();

    private static IEnumerable<string> Strange(ParseResult parsed) => Stray(parsed).Any() ? Stray(parsed) : parsed.UnmatchedTokens;

    // Behind -- anything is a word.
    private static IEnumerable<string> Stray(ParseResult parsed) => parsed.Tokens.Any(token => token.Type == TokenType.DoubleDash) ? [] : parsed.CommandResult.Children
        .OfType<ArgumentResult>()
        .SelectMany(argument => argument.Tokens)
        .Select(token => token.Value)
        .Concat(parsed.UnmatchedTokens)
        .Where(word => word.Length > 1 && word[0] == '-' && !char.IsAsciiDigit(word[1]));

    private static IEnumerable<Option> Options(Command command) =>
        command.Options.Concat(command.Parents.OfType<Command>().SelectMany(Options).Where(option => option.Recursive));
}
