namespace MLNetLora.Text;

/// <summary>Whether colours may be written: into a terminal that knows them, and whose user has not refused them (no-color.org).</summary>
internal static class TerminalColor
{
    /// <summary>Whether a writer is the terminal, and takes colours.</summary>
    public static bool Supports(TextWriter writer) =>
        (ReferenceEquals(writer, Console.Out) && Supports(Console.IsOutputRedirected, Environment.GetEnvironmentVariable))
        || (ReferenceEquals(writer, Console.Error) && Supports(Console.IsErrorRedirected, Environment.GetEnvironmentVariable));

    /// <summary>The same for given circumstances: NO_COLOR with any value but an empty one refuses, TERM=dumb cannot.</summary>
    public static bool Supports(bool redirected, Func<string, string?> environment) =>
        !redirected && string.IsNullOrEmpty(environment("NO_COLOR")) && environment("TERM") != "dumb";
}
