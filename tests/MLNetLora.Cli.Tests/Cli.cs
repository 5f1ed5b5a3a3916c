using MLNetLora.Cli.Output;

namespace MLNetLora.Cli.Tests;

/// <summary>How a command ended, and what it wrote.</summary>
internal sealed record Outcome(int Code, string Out, string Error)
{
    public string[] Lines => Out.ReplaceLineEndings("\n").Split('\n', StringSplitOptions.RemoveEmptyEntries);

    /// <summary>Fails with what was written, where it did not end well.</summary>
    public Outcome Succeeded()
    {
        Assert.True(Code == 0, $"exit code {Code}\n{Out}\n{Error}");
        return this;
    }
}

/// <summary>Runs the command in this process.</summary>
internal static class Cli
{
    public static Task<Outcome> Run(params string[] arguments) => RunWith("", arguments);

    /// <summary>Runs it with something piped in.</summary>
    public static async Task<Outcome> RunWith(string input, params string[] arguments)
    {
        using StringWriter output = new();
        using StringWriter error = new();
        Screen screen = new() { In = new StringReader(input), Out = output, Error = error };
        int code = await CommandLine.RunAsync(arguments, screen);
        return new Outcome(code, output.ToString(), error.ToString());
    }
}
