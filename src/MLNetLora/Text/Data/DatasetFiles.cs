using System.IO.Compression;

namespace MLNetLora.Text;

/// <summary>Finds and opens the files of a data set.</summary>
internal static class DatasetFiles
{
    /// <summary>What a file holds.</summary>
    internal enum Kind
    {
        /// <summary>JSON: one array, or a row on every line.</summary>
        Json,

        /// <summary>Rows of fields with separators between them; the first row names them.</summary>
        Table,

        /// <summary>Plain text, a document on every line.</summary>
        Lines,
    }

    /// <summary>What a file is by its name; .gz at its end does not count.</summary>
    public static Kind KindOf(string path) => Extension(path) switch
    {
        ".csv" or ".tsv" => Kind.Table,
        ".txt" or ".text" or ".md" => Kind.Lines,
        _ => Kind.Json,
    };

    /// <summary>Whether fields are separated by tabs.</summary>
    public static bool IsTabSeparated(string path) => Extension(path) == ".tsv";

    /// <summary>The files of a path or pattern, in ordinal order.</summary>
    /// <exception cref="DatasetException">There are none.</exception>
    public static IReadOnlyList<string> Find(string pattern)
    {
        if (File.Exists(pattern))
        {
            return [pattern];
        }

        if (pattern.AsSpan().ContainsAny('*', '?'))
        {
            return FilePattern.Find(pattern);
        }

        throw new DatasetException(Directory.Exists(pattern)
            ? $"{pattern} is a folder. Name the files in it, such as {Path.Combine(pattern, "*.jsonl")}."
            : $"{pattern} is not a file. Name a .json, .jsonl, .csv, .tsv or .txt file, also with .gz, or a pattern such as data/*.jsonl.");
    }

    /// <summary>A file's bytes, unpacked where they are compressed with gzip, whatever the file's name.</summary>
    /// <exception cref="DatasetException">It cannot be read, or is no data set.</exception>
    public static Stream Open(string path)
    {
        if (ForeignFile.ByName(Extension(path)) is { } foreign)
        {
            throw new DatasetException($"{path} {foreign}");
        }

        FileStream? stream = null;
        try
        {
            stream = OpenRaw(path);
            byte[] head = Head(stream);
            bool compressed = head is [0x1F, 0x8B, ..];
            if (compressed)
            {
                using GZipStream unpacked = new(stream, CompressionMode.Decompress, leaveOpen: true);
                head = Head(unpacked);
                stream.Position = 0;
            }

            ForeignFile.Check(path, head, KindOf(path) == Kind.Lines);
            return compressed ? new GZipStream(stream, CompressionMode.Decompress) : stream;
        }
        catch (Exception error)
        {
            stream?.Dispose();
            throw error is IOException or UnauthorizedAccessException or InvalidDataException ? CannotBeRead(path, error) : error;
        }
    }

    /// <summary>Looks at a file that another reader is going to read.</summary>
    /// <exception cref="DatasetException">It cannot be read, or stands in place of the file that is meant.</exception>
    public static void CheckPlaceholder(string path)
    {
        try
        {
            using FileStream stream = OpenRaw(path);
            ForeignFile.CheckPlaceholder(path, Head(stream));
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw CannotBeRead(path, error);
        }
    }

    /// <summary>The extension of a file's name in small letters, without a .gz behind it.</summary>
    public static string Extension(string path)
    {
        string name = path.EndsWith(".gz", StringComparison.OrdinalIgnoreCase) ? path[..^3] : path;
#pragma warning disable CA1308 // Extensions are written in small letters.
        return Path.GetExtension(name).ToLowerInvariant();
#pragma warning restore CA1308
    }

    private static FileStream OpenRaw(string path) => new(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0, FileOptions.SequentialScan);

    private static byte[] Head(Stream stream)
    {
        byte[] head = new byte[ForeignFile.HeadLength];
        int read = stream.ReadAtLeast(head, head.Length, throwOnEndOfStream: false);
        if (stream.CanSeek)
        {
            stream.Position = 0;
        }

        return head[..read];
    }

    private static DatasetException CannotBeRead(string path, Exception error) => new($"{path} cannot be read: {error.Message}", error);
}
