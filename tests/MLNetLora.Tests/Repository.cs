namespace MLNetLora.Tests;

/// <summary>Where the repository and the embedded checkpoint are.</summary>
internal static class Repository
{
    /// <summary>The folder with MLNetLora.sln.</summary>
    public static string Root { get; } = Find();

    /// <summary>The nano checkpoint.</summary>
    public static string Nano => Path.Combine(Root, "samples", "models", "qwen3-nano");

    private static string Find()
    {
        for (DirectoryInfo? at = new(AppContext.BaseDirectory); at is not null; at = at.Parent)
        {
            if (File.Exists(Path.Combine(at.FullName, "MLNetLora.sln")))
            {
                return at.FullName;
            }
        }

        throw new DirectoryNotFoundException("The tests must run below the repository: MLNetLora.sln was not found above " + AppContext.BaseDirectory);
    }
}
