namespace MLNetLora.Cli.Running;

/// <summary>The folders that a run makes for its output: those that are still empty when it ends go, so that a run that was refused leaves nothing.</summary>
internal sealed class MadeFolders : IDisposable
{
    private readonly List<string> _missing = [];

    /// <summary>Looks at what is there before anything is made.</summary>
    /// <param name="folder">The folder that the run will make, with those above it.</param>
    public MadeFolders(string folder)
    {
        for (string? at = Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder)); at is not null && !Path.Exists(at); at = Path.GetDirectoryName(at))
        {
            _missing.Add(at);
        }
    }

    /// <summary>Removes those that are empty, the innermost first.</summary>
    public void Dispose()
    {
        try
        {
            foreach (string made in _missing.SkipWhile(missing => !Directory.Exists(missing)))
            {
                Directory.Delete(made); // which no folder lets happen that has something in it
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // There is something in it.
        }
    }
}
