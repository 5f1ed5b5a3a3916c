using System.CommandLine;

namespace MLNetLora.Cli;

/// <summary>Options that all commands have.</summary>
internal static class CommonOptions
{
    public const string VerboseName = "--verbose";

    public static Option<bool> Verbose() => new(VerboseName) { Description = "Shows where an error comes from, and the library's log", Recursive = true };
}
