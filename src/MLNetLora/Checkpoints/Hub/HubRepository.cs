namespace MLNetLora.Checkpoints;

/// <summary>
/// A model in the Hugging Face cache, in the layout of huggingface_hub: models--OWNER--NAME with blobs (contents, named by their hashes), snapshots (a folder
/// for each commit, whose files are relative links to blobs) and refs (files named as branches and tags that hold a commit).
/// </summary>
internal sealed class HubRepository(string cache, string name)
{
    private const int LongestCommit = 1024; // bytes; a commit has 40 digits

    private readonly string _folderName = "models--" + name.Replace("/", "--", StringComparison.Ordinal);

    /// <summary>The folder of the model, absolute.</summary>
    public string Folder => Path.Combine(cache, _folderName);

    public string Blob(string blob) => Path.Combine(Folder, "blobs", blob);

    /// <summary>The first bytes of a blob that is not whole yet.</summary>
    public string Incomplete(string blob) => Blob(blob) + ".incomplete";

    public string Lock(string blob) => Path.Combine(cache, ".locks", _folderName, blob + ".lock");

    public string Snapshot(string commit) => Path.Combine(Folder, "snapshots", commit);

    /// <summary>A file of a snapshot; the path is one that <see cref="ModelFiles.RequirePlain"/> has let pass.</summary>
    public string File(string commit, string path) => Path.Combine([Snapshot(commit), .. path.Split('/')]);

    /// <summary>The commit that a branch or a tag was when it was last downloaded, or whatever else the file holds; null where there is none.</summary>
    public string? Commit(string revision)
    {
        string file = Ref(revision);
        return System.IO.File.Exists(file) ? BoundedFile.ReadText(file, LongestCommit)?.Trim() ?? "" : null;
    }

    /// <summary>The folders of all revisions that the cache holds, or of the one that is asked for, absolute: first the one that refs/main names, then the
    /// newest. Empty where it holds none.</summary>
    /// <exception cref="CheckpointException">The folder cannot be read, or the revision is the beginning of several commits.</exception>
    public IReadOnlyList<string> Snapshots(string? revision)
    {
        try
        {
            string snapshots = Path.Combine(Folder, "snapshots");
            if (!Directory.Exists(snapshots))
            {
                return [];
            }

            IEnumerable<string> folders = Directory.EnumerateDirectories(snapshots);
            return revision is null ? Sorted(folders) : One(revision, [.. folders]) is { } folder ? [folder] : [];
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException($"The Hugging Face cache's folder {Folder} cannot be read: {exception.Message}", exception);
        }
    }

    /// <summary>Puts a blob into a snapshot.</summary>
    /// <param name="commit">The snapshot.</param>
    /// <param name="file">The file.</param>
    /// <param name="isNew">Whether nothing but this file refers to the blob yet.</param>
    /// <param name="links">Whether links may be made.</param>
    public void Link(string commit, HubFile file, bool isNew, bool links)
    {
        string path = File(commit, file.Path);
        if (HasFile(commit, file))
        {
            return;
        }

        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        System.IO.File.Delete(path);
        string blob = Blob(file.Blob);
        if (links && TryLink(path, blob))
        {
            return;
        }

        // As huggingface_hub does where there are no links, on Windows without developer mode: the file itself stands in the snapshot.
        if (isNew)
        {
            System.IO.File.Move(blob, path, overwrite: true);
        }
        else
        {
            System.IO.File.Copy(blob, path, overwrite: true);
        }
    }

    /// <summary>Whether a snapshot has a file, by a link that leads somewhere or as itself, of the right length.</summary>
    public bool HasFile(string commit, HubFile file) => Length(File(commit, file.Path)) == file.Size;

    /// <summary>Whether the cache has the content of a file, of the right length.</summary>
    public bool HasBlob(HubFile file) => Length(Blob(file.Blob)) == file.Size;

    /// <summary>Writes down which commit a branch or a tag is; after the snapshot, since huggingface_hub calls a cache damaged in which it leads
    /// nowhere.</summary>
    public void WriteRef(string revision, string commit)
    {
        if (revision != commit && Commit(revision) != commit)
        {
            AtomicFile.Write(Ref(revision), stream => stream.Write(System.Text.Encoding.ASCII.GetBytes(commit)));
        }
    }

    /// <summary>The length of what a path leads to; -1 where that is nothing.</summary>
    public static long Length(string path)
    {
        FileInfo file = new(path);
        if (file.LinkTarget is not null)
        {
            file = file.ResolveLinkTarget(returnFinalTarget: true) as FileInfo ?? file;
        }

        return file.Exists ? file.Length : -1;
    }

    private string Ref(string revision) => Path.Combine([Folder, "refs", .. revision.Split('/')]);

    private List<string> Sorted(IEnumerable<string> folders)
    {
        string? main = Commit("main");
        return [.. folders
            .OrderByDescending(folder => Path.GetFileName(folder) == main)
            .ThenByDescending(Directory.GetLastWriteTimeUtc)
            .ThenBy(folder => folder, StringComparer.Ordinal)];
    }

    /// <summary>The snapshot of a branch, a tag, a commit or the first digits of one; null where there is none.</summary>
    private string? One(string revision, IReadOnlyList<string> folders)
    {
        if (Commit(revision) is { } commit && folders.FirstOrDefault(folder => Path.GetFileName(folder) == commit) is { } named)
        {
            return named;
        }

        if (folders.FirstOrDefault(folder => Path.GetFileName(folder) == revision) is { } whole)
        {
            return whole;
        }

        string[] found = HubId.IsCommitPrefix(revision)
            ? [.. folders.Where(folder => Path.GetFileName(folder).StartsWith(revision, StringComparison.OrdinalIgnoreCase)).Order(StringComparer.Ordinal)]
            : [];
        return found.Length <= 1 ? found.FirstOrDefault() : throw new CheckpointException(
            $"{name}@{revision} may be any of {string.Join(", ", found.Select(Path.GetFileName))} in {Folder}. Give more digits of the commit.");
    }

    private static bool TryLink(string path, string blob)
    {
        try
        {
            System.IO.File.CreateSymbolicLink(path, Path.GetRelativePath(Path.GetDirectoryName(path)!, blob));
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or PlatformNotSupportedException)
        {
            return Length(path) >= 0; // two processes made the same link
        }
    }
}
