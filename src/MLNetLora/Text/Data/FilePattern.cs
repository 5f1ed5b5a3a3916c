using System.IO.Enumeration;

namespace MLNetLora.Text;

/// <summary>
/// Finds the files of a pattern: * and ? within a name, ** for folders at any depth. Links are followed, and a file that can be reached on several ways, also
/// through folders that are linked in a circle, is found once, on a way without links where there is one.
/// </summary>
/// <remarks>Microsoft.Extensions.FileSystemGlobbing knows no ?, and finds two files 82 times where a folder links to the one above it.</remarks>
internal sealed class FilePattern
{
    /// <summary>Folders deeper than this below the first are not entered: links can make more names than there are folders.</summary>
    private const int DepthLimit = 64;

    private static readonly EnumerationOptions Everything = new() { AttributesToSkip = FileAttributes.None, IgnoreInaccessible = true };

    private readonly string[] _parts;
    private readonly Stack<Folder> _folders = [];
    private readonly Queue<Folder> _linked = [];
    private readonly HashSet<(string Real, int Part)> _visited = [];
    private readonly Dictionary<string, (string Path, bool IsLinked)> _found = [];

    private FilePattern(string[] parts) => _parts = parts;

    /// <summary>The files, in ordinal order of their paths.</summary>
    /// <exception cref="DatasetException">There are none.</exception>
    public static IReadOnlyList<string> Find(string pattern)
    {
        string[] parts = pattern.Replace('\\', '/').Split('/');
        int wild = Array.FindIndex(parts, part => part.AsSpan().ContainsAny('*', '?'));
        string root = wild == 0 ? "." : string.Join('/', parts[..wild]);
        if (root.Length == 0 || root.EndsWith(':'))
        {
            root += "/"; // The root of the file system, or of a drive.
        }

        if (!Directory.Exists(root))
        {
            throw new DatasetException($"{root}, the folder of {pattern}, is not there.");
        }

        FilePattern search = new(parts[^1] == "**" ? [.. parts[wild..], "*"] : parts[wild..]);
        search.Run(root);
        string[] files = [.. search._found.Values.Select(file => file.Path).Order(StringComparer.Ordinal)];
        return files.Length > 0 ? files : throw new DatasetException($"No file matches {pattern}.");
    }

    private void Run(string root)
    {
        _folders.Push(new Folder(root, Real(new DirectoryInfo(root), Path.GetFullPath(root)), Part: 0, Depth: 0, IsLinked: false));
        while (_folders.TryPop(out Folder folder) || _linked.TryDequeue(out folder))
        {
            if (folder.Depth <= DepthLimit && _visited.Add((folder.Real, folder.Part)))
            {
                Visit(folder);
            }
        }
    }

    /// <summary>What the part of the pattern that stands for the content of a folder finds in it.</summary>
    private void Visit(Folder folder)
    {
        string part = _parts[folder.Part];
        if (part == "**")
        {
            _folders.Push(folder with { Part = folder.Part + 1 });
        }

        // In order, so that of two links to one folder the same one is taken on every machine.
        IEnumerable<FileSystemInfo> entries = new DirectoryInfo(folder.Path).EnumerateFileSystemInfos("*", Everything);
        foreach (FileSystemInfo entry in entries.OrderBy(entry => entry.Name, StringComparer.Ordinal))
        {
            bool matches = part == "**" || FileSystemName.MatchesSimpleExpression(part, entry.Name, ignoreCase: false);
            if (matches && entry is DirectoryInfo && (part == "**" || folder.Part < _parts.Length - 1))
            {
                Enter(folder, entry, part == "**" ? folder.Part : folder.Part + 1);
            }
            else if (matches && entry is FileInfo && part != "**" && folder.Part == _parts.Length - 1)
            {
                Take(folder, entry);
            }
        }
    }

    private void Enter(Folder folder, FileSystemInfo entry, int part)
    {
        bool isLink = entry.Attributes.HasFlag(FileAttributes.ReparsePoint);
        string path = Path.Combine(folder.Path, entry.Name);
        Folder inner = new(path, Real(entry, Path.Combine(folder.Real, entry.Name)), part, folder.Depth + 1, folder.IsLinked || isLink);
        if (inner.IsLinked)
        {
            _linked.Enqueue(inner);
        }
        else
        {
            _folders.Push(inner);
        }
    }

    private void Take(Folder folder, FileSystemInfo entry)
    {
        string path = Path.Combine(folder.Path, entry.Name);
        string real = Real(entry, Path.Combine(folder.Real, entry.Name));
        bool isLinked = folder.IsLinked || entry.Attributes.HasFlag(FileAttributes.ReparsePoint);
        if (!_found.TryGetValue(real, out (string Path, bool IsLinked) other) || (other.IsLinked && !isLinked)
            || (other.IsLinked == isLinked && string.CompareOrdinal(path, other.Path) < 0))
        {
            _found[real] = (path, isLinked);
        }
    }

    /// <summary>Where an entry really is; a link whose end cannot be found is where it stands.</summary>
    private static string Real(FileSystemInfo entry, string path)
    {
        try
        {
            return entry.Attributes.HasFlag(FileAttributes.ReparsePoint) ? entry.ResolveLinkTarget(returnFinalTarget: true)?.FullName ?? path : path;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return path;
        }
    }

    /// <summary>A folder to look into, and the part of the pattern that its content is compared with.</summary>
    private readonly record struct Folder(string Path, string Real, int Part, int Depth, bool IsLinked);
}
