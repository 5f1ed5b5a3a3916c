using System.Diagnostics;

namespace MLNetLora.Cuda.Tests;

/// <summary>The compiler of C that the stand-ins for CUDA's libraries are made with.</summary>
internal static class Compiler
{
    private static readonly string? s_path = Find();

    /// <summary>What is missing for tests that compile for the provider; null: nothing.</summary>
    public static string? Missing => StandIn.PackageMissing ?? (s_path is null ? "needs gcc" : null);

    /// <summary>Makes a library.</summary>
    /// <param name="path">Where; its name is also what others ask for it by.</param>
    /// <param name="arguments">Sources, libraries that it asks for, and what else gcc is to be told.</param>
    /// <exception cref="InvalidOperationException">It cannot be made; the message is the compiler's.</exception>
    public static void Make(string path, params IEnumerable<string> arguments)
    {
        ProcessStartInfo start = new(s_path!, ["-shared", "-fPIC", "-O1", $"-Wl,-soname,{Path.GetFileName(path)}", "-o", path, .. arguments])
        {
            RedirectStandardError = true,
        };
        using Process process = Process.Start(start)!;
        string errors = process.StandardError.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0)
        {
            throw new InvalidOperationException($"{Path.GetFileName(path)} was not made: {errors}");
        }
    }

    private static string? Find() => (
        from name in (string[])["gcc", "cc"]
        from folder in (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries)
        let path = Path.Combine(folder, name)
        where File.Exists(path)
        select path).FirstOrDefault();
}

/// <summary>A test that compiles; skipped where it cannot, with the reason.</summary>
public sealed class CompilerFactAttribute : FactAttribute
{
    public CompilerFactAttribute() => Skip = Compiler.Missing;
}

/// <summary>The same with cases.</summary>
public sealed class CompilerTheoryAttribute : TheoryAttribute
{
    public CompilerTheoryAttribute() => Skip = Compiler.Missing;
}
