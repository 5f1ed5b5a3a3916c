namespace MLNetLora.Cli.Tests;

/// <summary>Where the repository and the embedded checkpoint are.</summary>
internal static class Repository
{
    public static string Root { get; } = Find();

    public static string Nano => At("samples", "models", "qwen3-nano");

    public static string Data => At("samples", "CompanyQa", "company_data.json");

    public static string At(params string[] parts) => Path.Combine([Root, .. parts]);

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
