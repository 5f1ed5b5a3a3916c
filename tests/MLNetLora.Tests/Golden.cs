namespace MLNetLora.Tests;

/// <summary>Finds the reference cases: tiny checkpoints and what PyTorch, transformers, PEFT and tiktoken compute on them.</summary>
internal static class Golden
{
    /// <summary>The folder with the cases: GOLDEN_DIR where it is set, else ../shared/golden beside the repository, else tests/golden in it; null where none exists.</summary>
    public static string? Root { get; } = FindRoot();

    /// <summary>The case folders of one kind ("forward", "training", …) in ordinal order; none where the kind is absent. Cases are listed, never named: other sets have other names.</summary>
    public static IEnumerable<string> Folders(string kind)
    {
        string? folder = Kind(kind);
        return folder is null ? [] : Directory.EnumerateDirectories(folder).Order(StringComparer.Ordinal);
    }

    /// <summary>The folder of one kind, or null where the set has none.</summary>
    public static string? Kind(string kind) => Root is null || !Directory.Exists(Path.Combine(Root, kind)) ? null : Path.Combine(Root, kind);

    private static string? FindRoot()
    {
        string? named = Environment.GetEnvironmentVariable("GOLDEN_DIR");
        if (!string.IsNullOrEmpty(named))
            return Directory.Exists(named) ? Path.GetFullPath(named) : throw new DirectoryNotFoundException($"GOLDEN_DIR names {named}, which is not a folder.");
        for (DirectoryInfo? at = new(AppContext.BaseDirectory); at is not null; at = at.Parent)
        {
            if (!File.Exists(Path.Combine(at.FullName, "MLNetLora.sln")))
                continue;
            string[] candidates = [Path.Combine(at.FullName, "..", "shared", "golden"), Path.Combine(at.FullName, "tests", "golden")];
            return candidates.Where(Directory.Exists).Select(Path.GetFullPath).FirstOrDefault();
        }
        return null;
    }
}
