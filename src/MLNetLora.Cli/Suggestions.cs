using System.Globalization;
using System.Text.RegularExpressions;

namespace MLNetLora.Cli;

/// <summary>What shells ask when a word is to be completed: <c>[suggest:POSITION] "mlnetlora train --ra"</c>.</summary>
internal static partial class Suggestions
{
    /// <summary>
    /// The question without the command's own name before it, which System.CommandLine would look for among the commands: it knows the program by the name of
    /// its file.
    /// </summary>
    public static string[] Translate(string[] arguments)
    {
        if (arguments is not [string directive, string line] || Directive().Match(directive) is not { Success: true } match)
        {
            return arguments;
        }

        int name = line.Length - line.TrimStart().Length;
        int end = line.IndexOf(' ', name);
        end = end < 0 ? line.Length : end + 1;
        int position = match.Groups[1].Success && int.TryParse(match.Groups[1].Value, NumberStyles.None, CultureInfo.InvariantCulture, out int given)
            ? given
            : line.Length;
        return [string.Create(CultureInfo.InvariantCulture, $"[suggest:{Math.Clamp(position - end, 0, line.Length - end)}]"), line[end..]];
    }

    [GeneratedRegex(@"^\[suggest(?::([0-9]+))?\]$")]
    private static partial Regex Directive();
}
