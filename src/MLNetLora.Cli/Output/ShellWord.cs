using System.Text.RegularExpressions;

namespace MLNetLora.Cli.Output;

/// <summary>Words of a command line that is shown to be copied.</summary>
internal static partial class ShellWord
{
    /// <summary>A word as a shell takes it for this one and no other: in quotes where it has more than letters.</summary>
    public static string Of(string word) => OperatingSystem.IsWindows()
        ? Plain().IsMatch(word.Replace('\\', '/')) ? word : ForWindows(word)
        : Plain().IsMatch(word) ? word : ForUnix(word);

    /// <summary>For sh, bash and zsh.</summary>
    internal static string ForUnix(string word) => $"'{word.Replace("'", @"'\''", StringComparison.Ordinal)}'";

    /// <summary>For cmd and PowerShell; a file name has no quotes there.</summary>
    internal static string ForWindows(string word) => $"\"{word}\"";

    [GeneratedRegex(@"^[\p{L}\p{N}_@%+=:,./-]+\z")]
    private static partial Regex Plain();
}
