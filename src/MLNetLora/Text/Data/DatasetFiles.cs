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
    /// <exception cref="DatasetException">It is in a format that is not read.</exception>
    public static Kind KindOf(string path) => Extension(path) switch
    {
        ".csv" or ".tsv" => Kind.Table,
        ".txt" or ".text" or ".md" => Kind.Lines,
        ".parquet" => throw new DatasetException($"{path} is a Parquet file. Add the package MLNetLora.Parquet and call ParquetData.Register() once before files are read; or convert it to JSONL."),
        ".arrow" => throw new DatasetException($"{path} is in a columnar format, which is not read here. Convert it to JSONL: pandas.read_parquet(…).to_json(…, orient=\"records\", lines=True, force_ascii=False)."),
        ".zip" or ".xz" or ".zst" or ".bz2" or ".xlsx" => throw new DatasetException($"{path} is compressed in a way that is not read here. Unpack it, or compress it with gzip."),
        _ => Kind.Json,
    };

    /// <summary>Whether fields are separated by tabs.</summary>
    public static bool IsTabSeparated(string path) => Extension(path) == ".tsv";

    /// <summary>The files of a path or pattern, in ordinal order.</summary>
    /// <exception cref="DatasetException">There are none.</exception>
    public static IReadOnlyList<string> Find(string pattern)
    {
        if (!pattern.AsSpan().ContainsAny('*', '?') || File.Exists(pattern))
        {
            return File.Exists(pattern) ? [pattern]
                : Directory.Exists(pattern) ? throw new DatasetException($"{pattern} is a folder. Name the files in it, such as {Path.Combine(pattern, "*.jsonl")}.")
                : throw new DatasetException($"{pattern} is not a file. Name a .json, .jsonl, .csv, .tsv or .txt file, also with .gz, or a pattern such as data/*.jsonl.");
        }
        return FilePattern.Find(pattern);
    }

    /// <summary>A file's bytes, unpacked where they are compressed with gzip, whatever the file's name.</summary>
    /// <exception cref="DatasetException">It cannot be read.</exception>
    public static Stream Open(string path)
    {
        try
        {
            FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0, FileOptions.SequentialScan);
            Span<byte> magic = stackalloc byte[2];
            bool compressed = stream.ReadAtLeast(magic, 2, throwOnEndOfStream: false) == 2 && magic is [0x1F, 0x8B];
            stream.Position = 0;
            return compressed ? new GZipStream(stream, CompressionMode.Decompress) : stream;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new DatasetException($"{path} cannot be read: {error.Message}", error);
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
}
