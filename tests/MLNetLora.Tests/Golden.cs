using MLNetLora.Runtime;

namespace MLNetLora.Tests;

/// <summary>
/// Finds the reference cases: tiny checkpoints and what PyTorch, transformers, PEFT and tiktoken compute on them. A kind of case ("forward", "training", …)
/// is a folder of a set; the set is the folder that GOLDEN_DIR names or else ../shared/golden beside the repository, and where that has nothing of a kind,
/// tests/golden in the repository. There every kind is.
/// </summary>
internal static class Golden
{
    /// <summary>The set that is in the repository.</summary>
    public static string Committed { get; } = Path.Combine(Repository.Root, "tests", "golden");

    /// <summary>Where gradients and codes are compared: the processor, or what MLNETLORA_TEST_DEVICE names, such as cuda:0, or cuda:0+fused for the
    /// library's own kernels there (bench/gpu/run.sh).</summary>
    public static Device Device { get; } = Parse(Environment.GetEnvironmentVariable("MLNETLORA_TEST_DEVICE") ?? "cpu");

    private static Device Parse(string text)
    {
        const string Fused = "+fused";
        return text.EndsWith(Fused, StringComparison.Ordinal)
            ? (CudaDevice)Device.Parse(text[..^Fused.Length]) with { FusedKernels = true }
            : Device.Parse(text);
    }

    private static string[] Sets { get; } = FindSets();

    /// <summary>The folder of one kind.</summary>
    /// <exception cref="DirectoryNotFoundException">No set has it: a test of that kind cannot pass.</exception>
    public static string Kind(string kind) => Kinds(kind)[0];

    /// <summary>The folders of one kind in all sets, for cases that cost little.</summary>
    /// <exception cref="DirectoryNotFoundException">No set has it.</exception>
    public static string[] Kinds(string kind)
    {
        string[] folders = [.. Sets.Select(set => Path.Combine(set, kind)).Where(Directory.Exists)];
        return folders.Length > 0
            ? folders
            : throw new DirectoryNotFoundException(
                $"There are no reference cases of the kind '{kind}' in {string.Join(" or ", Sets)}; tests/golden is a part of the repository, restore it.");
    }

    /// <summary>The case folders of one kind in ordinal order. Cases are listed, never named: other sets have other names.</summary>
    public static IEnumerable<string> Folders(string kind) => Directory.EnumerateDirectories(Kind(kind)).Order(StringComparer.Ordinal);

    /// <summary>The case folders of a kind that not every set has, in ordinal order; none where no set has it.</summary>
    public static IEnumerable<string> FoldersIfAny(string kind) => Sets.Any(set => Directory.Exists(Path.Combine(set, kind))) ? Folders(kind) : [];

    /// <summary>The training runs: with the ordinary optimizer, and where a set has them with other options.</summary>
    public static IEnumerable<string> TrainingFolders() => [.. Folders("training"), .. FoldersIfAny("training_options")];

    /// <summary>A folder of the set that a case is in.</summary>
    /// <param name="caseFolder">SET/KIND/CASE.</param>
    /// <param name="path">Its path in the set, such as models/NAME.</param>
    public static string Beside(string caseFolder, string path) => Path.GetFullPath(Path.Combine(caseFolder, "..", "..", path));

    private static string[] FindSets()
    {
        string? named = Environment.GetEnvironmentVariable("GOLDEN_DIR");
        if (!string.IsNullOrEmpty(named))
        {
            return Directory.Exists(named)
                ? [.. new[] { Path.GetFullPath(named), Committed }.Distinct()]
                : throw new DirectoryNotFoundException($"GOLDEN_DIR names {named}, which is not a folder.");
        }

        return [Path.GetFullPath(Path.Combine(Repository.Root, "..", "shared", "golden")), Committed];
    }
}
