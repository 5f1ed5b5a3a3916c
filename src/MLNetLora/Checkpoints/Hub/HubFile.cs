using System.Security.Cryptography;
using System.Text;

namespace MLNetLora.Checkpoints;

/// <summary>A file of a model on a hub.</summary>
/// <param name="Path">Its path in the repository, with slashes; checked by <see cref="ModelFiles.RequirePlain"/>.</param>
/// <param name="Size">Its length in bytes.</param>
/// <param name="Blob">What the cache names its content: the SHA-256 of a large file, git's hash of a small one, or whatever the server's ETag is.</param>
internal sealed record HubFile(string Path, long Size, string Blob)
{
    private const int LongestBlob = 128;

    /// <summary>SHA-256 of the content, lower case; null where the hub does not tell.</summary>
    public string? Sha256 { get; init; } = IsHex(Blob, 64) ? Blob : null;

    /// <summary>Whether the text can name a blob: an ETag is whatever a server sends.</summary>
    public static bool IsBlob(string text) => text.Length is > 0 and <= LongestBlob && text[0] != '.'
        && text.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-') && text[^1] != '.';

    /// <summary>Whether the text is a hash of so many digits in lower case.</summary>
    public static bool IsHex(string? text, int digits) => text?.Length == digits && text.All(char.IsAsciiHexDigitLower);

    /// <summary>An ETag without the quotes and the W/ of a weak one.</summary>
    public static string? Unquoted(string? etag) => etag is null ? null : (etag.StartsWith("W/", StringComparison.Ordinal) ? etag[2..] : etag).Trim('"');

    /// <summary>What the content is checked by, as it comes; null where the hub tells no hash.</summary>
    public IncrementalHash? StartHash()
    {
        if (Sha256 is not null)
        {
            return IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        }

        if (!IsHex(Blob, 40))
        {
            return null;
        }

        // Git names a content by its kind, its length and itself.
        IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA1);
        hash.AppendData(Encoding.ASCII.GetBytes(FormattableString.Invariant($"blob {Size}\0")));
        return hash;
    }

    /// <summary>What <see cref="StartHash"/> must come to.</summary>
    public string Hash => Sha256 ?? Blob;
}

/// <summary>What a hub has of a model at one revision.</summary>
/// <param name="Commit">The commit that the revision is.</param>
/// <param name="Revision">By what its files are asked for: the commit, where the hub tells it.</param>
/// <param name="Files">Its files, unchecked; a size of -1 and an empty blob where the hub does not tell them.</param>
internal sealed record HubListing(string Commit, string Revision, IReadOnlyList<HubFile> Files);
