namespace MLNetLora.Checkpoints;

/// <summary>A model on a hub: OWNER/NAME, with @REVISION behind it where not the main branch is meant.</summary>
/// <param name="Name">OWNER/NAME.</param>
/// <param name="Revision">A branch, a tag, a commit or the first digits of one; null for the main branch.</param>
internal readonly record struct HubId(string Name, string? Revision)
{
    private const int LongestRevision = 250; // characters; a file is named so

    /// <summary>Reads OWNER/NAME or OWNER/NAME@REVISION; it may be a relative path as well.</summary>
    public static bool TryParse(string text, out HubId id)
    {
        int at = text.IndexOf('@');
        string name = at < 0 ? text : text[..at];
        string? revision = at < 0 ? null : text[(at + 1)..];
        string[] parts = name.Split('/');
        bool isId = parts.Length == 2 && parts.All(IsName) && (revision is null || IsRevision(revision));
        id = isId ? new HubId(name, revision) : default;
        return isId;
    }

    /// <summary>Whether the text is a whole commit.</summary>
    public static bool IsCommit(string text) => text.Length == 40 && text.All(char.IsAsciiHexDigit);

    /// <summary>Whether the text may be the first digits of a commit: as many as huggingface_hub asks for.</summary>
    public static bool IsCommitPrefix(string text) => text.Length is >= 5 and <= 40 && text.All(char.IsAsciiHexDigit);

    /// <summary>Whether git could have a branch, a tag or a commit of this name, and a file of a cache as well, on any system.</summary>
    public static bool IsRevision(string text) => text.Length is > 0 and <= LongestRevision
        && text.All(c => c is > ' ' and < '\u007f' and not ('~' or '^' or ':' or '?' or '*' or '[' or '\\' or '<' or '>' or '"' or '|'))
        && text.Split('/').All(part => part.Length > 0 && part[0] != '.' && part[^1] != '.' && !part.EndsWith(".lock", StringComparison.Ordinal)
            && !part.Contains("..", StringComparison.Ordinal));

    /// <inheritdoc/>
    public override string ToString() => Revision is null ? Name : $"{Name}@{Revision}";

    private static bool IsName(string part) => part is not ("" or "." or "..") && part.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-');
}
