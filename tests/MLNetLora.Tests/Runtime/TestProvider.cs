using System.Diagnostics;
using System.Reflection;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using MLNetLora.Runtime;

namespace MLNetLora.Tests.Runtime;

/// <summary>The execution provider of TestProvider.c, compiled here with gcc and the headers of the package; what it does is in its name.</summary>
internal static class TestProvider
{
    private static readonly Lazy<string?> s_headers = new(FindHeaders);
    private static readonly Lazy<string> s_compiled = new(Compile);

    /// <summary>What is missing for it; null: nothing.</summary>
    public static string? Missing => !OperatingSystem.IsLinux() ? "needs Linux"
        : !Environment.GetEnvironmentVariable("PATH")!.Split(':').Any(folder => File.Exists(Path.Combine(folder, "gcc"))) ? "needs gcc"
        : s_headers.Value is null ? "needs the headers in the package of ONNX Runtime" : null;

    /// <summary>A device of it, by a library of its own: a process has one of a name.</summary>
    /// <param name="name">The provider's name.</param>
    /// <param name="options">Options of the provider.</param>
    public static CustomDevice Device(string name, params (string Name, string Value)[] options) => new()
    {
        Provider = name,
        LibraryPath = Library(name),
        ProviderOptions = options.ToDictionary(option => option.Name, option => option.Value),
    };

    /// <summary>A library of it.</summary>
    /// <param name="name">What makes it another one than the others.</param>
    public static string Library(string name)
    {
        string path = Path.ChangeExtension(s_compiled.Value, name + ".so");
        lock (s_compiled)
        {
            if (!File.Exists(path))
            {
                File.Copy(s_compiled.Value, path);
            }
        }

        return path;
    }

    /// <summary>What a provider counts: nodes that it took, runs of them, copies from and to its memory.</summary>
    public static unsafe int Count(string name, string what) =>
        ((delegate* unmanaged<int>)NativeLibrary.GetExport(NativeLibrary.Load(Library(name)), "test_provider_" + what))();

    private static string? FindHeaders()
    {
        string packages = typeof(TestProvider).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(data => data.Key == "NuGetPackageRoot").Value!;
        string version = OrtEnv.Instance().GetVersionString();
        string[] folders = [$"microsoft.ml.onnxruntime/{version}/build", $"microsoft.ml.onnxruntime.gpu.linux/{version}/buildTransitive"];
        return folders.Select(folder => Path.Combine(packages, folder, "native", "include")).FirstOrDefault(Directory.Exists);
    }

    private static string Compile()
    {
        string source = Path.Combine(Repository.Root, "tests", "MLNetLora.Tests", "Runtime", "TestProvider.c");
        string folder = Directory.CreateTempSubdirectory("mlnetlora-provider-").FullName; // of this process: another may have loaded its own
        string library = Path.Combine(folder, "libtestprovider.so");
        ProcessStartInfo start = new("gcc", ["-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I", s_headers.Value!,
            "-o", library, source])
        {
            RedirectStandardError = true,
        };
        using Process process = Process.Start(start)!;
        string errors = process.StandardError.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0 ? library : throw new InvalidOperationException(errors);
    }
}

/// <summary>A test with the provider of TestProvider.c; skipped where it cannot be made, with the reason.</summary>
public sealed class ProviderFactAttribute : FactAttribute
{
    public ProviderFactAttribute() => Skip = TestProvider.Missing;
}

/// <summary>The same with cases.</summary>
public sealed class ProviderTheoryAttribute : TheoryAttribute
{
    public ProviderTheoryAttribute() => Skip = TestProvider.Missing;
}
