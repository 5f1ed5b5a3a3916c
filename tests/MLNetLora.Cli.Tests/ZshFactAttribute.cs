namespace MLNetLora.Cli.Tests;

/// <summary>A test of what zsh does; where it is not installed it is reported as skipped, not as passed.</summary>
public sealed class ZshFactAttribute : FactAttribute
{
    public ZshFactAttribute() => Skip = !OperatingSystem.IsWindows() && (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
        .Any(folder => File.Exists(Path.Combine(folder, "zsh"))) ? null : "needs zsh";
}
