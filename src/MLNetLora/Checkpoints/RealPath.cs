namespace MLNetLora.Checkpoints;

/// <summary>Paths with every link in them resolved. A hub cache is made of links, and two paths may lead to one file.</summary>
internal static class RealPath
{
    /// <summary>The path that a path leads to, links among the folders above it included.</summary>
    public static string Of(string path)
    {
        string full = Path.GetFullPath(path);
        string file = File.ResolveLinkTarget(full, returnFinalTarget: true)?.FullName ?? full;
        DirectoryInfo? folder = Directory.GetParent(file);
        List<string> tail = [Path.GetFileName(file)];
        while (folder is not null)
        {
            if (folder.ResolveLinkTarget(returnFinalTarget: true) is FileSystemInfo target)
            {
                return Of(Path.Combine([target.FullName, .. Enumerable.Reverse(tail)]));
            }

            tail.Add(folder.Name);
            folder = folder.Parent;
        }

        return file;
    }

    /// <summary>Whether two paths lead to one file that exists.</summary>
    public static bool SameFile(string a, string b)
    {
        if (!File.Exists(a) || !File.Exists(b))
        {
            return false;
        }

        return string.Equals(Of(a), Of(b), OperatingSystem.IsLinux() ? StringComparison.Ordinal : StringComparison.OrdinalIgnoreCase);
    }
}
