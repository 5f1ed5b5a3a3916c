using System.Security.Cryptography;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>A Hugging Face cache as huggingface_hub lays it out, with HF_HUB_CACHE set to it until it is disposed.</summary>
/// <remarks>The variable is the process's: tests that use this belong to <see cref="Alone"/>.</remarks>
internal sealed class HubCache : IDisposable
{
    private const string Variable = "HF_HUB_CACHE";
    private readonly string? _before = Environment.GetEnvironmentVariable(Variable);

    public HubCache(string folder)
    {
        Folder = folder;
        Environment.SetEnvironmentVariable(Variable, folder);
    }

    public string Folder { get; }

    /// <summary>Adds a revision with the files of a folder and returns its snapshot: links to blobs that are named by their hashes. Windows, where
    /// links need a privilege, gets copies, as it does from huggingface_hub.</summary>
    public string Add(string hubId, string revision, string from, bool isMain = true)
    {
        string repository = Path.Combine(Folder, "models--" + hubId.Replace("/", "--", StringComparison.Ordinal));
        string snapshot = Directory.CreateDirectory(Path.Combine(repository, "snapshots", revision)).FullName;
        Directory.CreateDirectory(Path.Combine(repository, "blobs"));
        foreach (string file in Directory.EnumerateFiles(from))
        {
            string blob = Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(file)));
            string link = Path.Combine(snapshot, Path.GetFileName(file));
            if (OperatingSystem.IsWindows())
            {
                File.Copy(file, link);
                continue;
            }

            File.Copy(file, Path.Combine(repository, "blobs", blob), overwrite: true);
            File.CreateSymbolicLink(link, $"../../blobs/{blob}");
        }

        if (isMain)
        {
            Directory.CreateDirectory(Path.Combine(repository, "refs"));
            File.WriteAllText(Path.Combine(repository, "refs", "main"), revision);
        }

        return snapshot;
    }

    public void Dispose() => Environment.SetEnvironmentVariable(Variable, _before);
}
