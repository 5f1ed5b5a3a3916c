using System.Buffers;
using System.Text.Json;
using Apache.Arrow;
using Apache.Arrow.Ipc;
using MLNetLora.Text;
using ParquetSharp;
using FileReader = ParquetSharp.Arrow.FileReader;

namespace MLNetLora.Parquet;

/// <summary>
/// Reads a Parquet file a few rows at a time, from the pages that hold them. Files are other people's: everything that Apache Arrow says about one becomes a
/// <see cref="DatasetException"/>.
/// </summary>
internal sealed class ParquetRows : IDisposable
{
    /// <summary>Rows whose JSON is longer, in bytes, are refused, as in JSON files.</summary>
    public const int RowLimit = 64 << 20;

    /// <summary>Uncompressed bytes that a column of one row group may have.</summary>
    public const long ColumnLimit = 1L << 30;

    /// <summary>Rows that are in memory at a time, where they are short.</summary>
    private const int BatchRows = 64;

    /// <summary>
    /// Bytes of a column that these rows may have: no text is longer than its column, and each row can have the longest, which a dictionary keeps only once.
    /// </summary>
    private const long BatchBytes = 256 << 20;

    /// <summary>
    /// Entries of any list in the file's footer: row groups, and nodes of the schema. Arrow descends into the schema by recursion, so this also bounds its
    /// depth: 10,000 levels overflow a stack of 8 MB, which ends the process.
    /// </summary>
    private const int FooterLimit = 2000;

    /// <summary>Levels of one column, of which a list has two.</summary>
    private const int DepthLimit = 40;

    private static IReadOnlySet<string> Names => DatasetReaders.Fields;

    private readonly string _path;
    private readonly ReaderProperties _properties;
    private readonly ParquetSharp.Arrow.ArrowReaderProperties _arrow;
    private readonly FileReader _reader;
    private readonly string[] _fields;
    private readonly int[] _leaves;
    private readonly ArrayBufferWriter<byte> _json = new();
    private long _row;

    private ParquetRows(string path)
    {
        _path = path;
        _properties = ReaderProperties.GetDefaultReaderProperties();
        _arrow = ParquetSharp.Arrow.ArrowReaderProperties.GetDefault();
        try
        {
            _properties.SetThriftContainerSizeLimit(FooterLimit);
            _properties.EnableBufferedStream();
            using (ParquetFileReader file = new(path, _properties))
            {
                (_fields, _leaves) = Columns(file.FileMetaData.Schema);
                _arrow.BatchSize = Math.Clamp(BatchBytes / Math.Max(1, LargestColumn(file)), 1, BatchRows);
            }

            _arrow.UseThreads = false;
            _arrow.PreBuffer = false;
            _reader = new FileReader(path, _properties, _arrow);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The rows of a file, each an object of those of its columns that data sets have.</summary>
    /// <exception cref="DatasetException">
    /// The file is not a Parquet file, is damaged, or goes beyond a limit; the message names file, row group and column.
    /// </exception>
    public static IEnumerable<JsonElement> Read(string path)
    {
        CheckEnds(path);
        using ParquetRows rows = Guard(path, () => new ParquetRows(path));
        int groups = Guard(path, () => rows._reader.NumRowGroups);
        for (int group = 0; group < groups; group++)
        {
            string where = $"{path}, row group {group + 1}";
            using IArrowArrayStream batches = Guard(where, () => rows._reader.GetRecordBatchReader([group], rows._leaves));
            while (Guard(where, () => batches.ReadNextRecordBatchAsync().AsTask().GetAwaiter().GetResult()) is { } batch)
            {
                using (batch)
                {
                    for (int i = 0; i < batch.Length; i++)
                    {
                        yield return Guard(where, () => rows.ToJson(batch, i));
                    }
                }
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _reader?.Dispose();
        _arrow.Dispose();
        _properties.Dispose();
    }

    /// <summary>The names of all columns in order, and the leaves of those that are read.</summary>
    private (string[] Fields, int[] Leaves) Columns(SchemaDescriptor schema)
    {
        List<string> fields = [];
        List<int> leaves = [];
        for (int i = 0; i < schema.NumColumns; i++)
        {
            using ParquetSharp.Schema.ColumnPath column = schema.Column(i).Path;
            string[] path = column.ToDotVector();
            if (fields.Count == 0 || fields[^1] != path[0])
            {
                fields.Add(path[0]);
            }

            if (!Names.Contains(path[0]))
            {
                continue;
            }

            if (path.Length > DepthLimit)
            {
                throw new DatasetException($"{_path}: the column \"{path[0]}\" has {path.Length} levels. No format of a data set has more than {DepthLimit}.");
            }

            leaves.Add(i);
        }

        if (leaves.Count == 0)
        {
            throw new DatasetException($"{_path} has no column of a data set, only {string.Join(", ", fields.Take(8).Select(name => $"\"{name}\""))}. "
                + "Rename those to learn from: instruction and output; messages; conversations; prompt and completion; text.");
        }

        if (fields.GroupBy(name => name).FirstOrDefault(same => same.Count() > 1 && Names.Contains(same.Key)) is { } twice)
        {
            throw new DatasetException($"{_path}: two columns are named \"{twice.Key}\". Rename one.");
        }

        return ([.. fields], [.. leaves]);
    }

    /// <summary>Uncompressed bytes of the largest column, among those that are read, of any row group.</summary>
    private long LargestColumn(ParquetFileReader file)
    {
        long largest = 0;
        for (int group = 0; group < file.FileMetaData.NumRowGroups; group++)
        {
            using RowGroupReader reader = file.RowGroup(group);
            foreach (int leaf in _leaves)
            {
                using ColumnChunkMetaData chunk = reader.MetaData.GetColumnChunkMetaData(leaf);
                if (chunk.TotalUncompressedSize is < 0 or > ColumnLimit)
                {
                    using ParquetSharp.Schema.ColumnPath column = file.FileMetaData.Schema.Column(leaf).Path;
                    throw new DatasetException(
                        $"{_path}, row group {group + 1}, column \"{column.ToDotString()}\": {chunk.TotalUncompressedSize} bytes, uncompressed. "
                            + $"A row group may have {ColumnLimit} in a column; write the file with smaller row groups.");
                }

                largest = Math.Max(largest, chunk.TotalUncompressedSize);
            }
        }

        return largest;
    }

    private JsonElement ToJson(RecordBatch batch, int index)
    {
        _row++;
        _json.ResetWrittenCount();
        using (Utf8JsonWriter writer = new(_json, new JsonWriterOptions { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            writer.WriteStartObject();
            for (int i = 0; i < batch.ColumnCount; i++)
            {
                IArrowArray column = batch.Column(i);
                if (column is NullArray || column.IsNull(index))
                {
                    continue;
                }

                string name = batch.Schema.GetFieldByIndex(i).Name;
                writer.WritePropertyName(name);
                ArrowJson.Write(writer, column, index, $"{_path}, row {_row}, column \"{name}\"");
            }

            // Columns that are not read are named, with nothing in them: messages say what a row has.
            foreach (string name in _fields.Where(name => !Names.Contains(name)).Take(8))
            {
                writer.WriteNull(name);
            }

            writer.WriteEndObject();
        }

        return JsonElement.Parse(_json.WrittenSpan);
    }

    /// <summary>A file that is no Parquet file at all is told apart from a damaged one.</summary>
    private static void CheckEnds(string path)
    {
        try
        {
            using FileStream file = File.OpenRead(path);
            Span<byte> ends = stackalloc byte[8];
            file.ReadAtLeast(ends[..4], 4, throwOnEndOfStream: false);
            if (file.Length < 12 || !ends[..4].SequenceEqual("PAR1"u8))
            {
                throw new DatasetException($"{path} is not a Parquet file: it does not begin with PAR1. "
                    + "Name it by what it is, such as .jsonl, and unpack it where it is compressed as a whole.");
            }

            file.Seek(-4, SeekOrigin.End);
            file.ReadExactly(ends[4..]);
            if (!ends[4..].SequenceEqual("PAR1"u8))
            {
                throw new DatasetException($"{path} does not end with PAR1: it was cut off. Copy or download it again.");
            }
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new DatasetException($"{path} cannot be read: {error.Message}", error);
        }
    }

    private static T Guard<T>(string where, Func<T> read)
    {
        try
        {
            return read();
        }
        catch (ParquetException error) when (error.Message.Contains("Exceeded size limit", StringComparison.Ordinal))
        {
            throw new DatasetException($"{where}: the footer lists more than {FooterLimit} row groups or columns. "
                + "Write the file with fewer, larger row groups, or as several files.", error);
        }

        // Arrow's messages come as many types: ParquetException, OutOfMemoryException, and what the import of its arrays raises.
        catch (Exception error) when (error is not DatasetException)
        {
            throw new DatasetException($"{where} cannot be read as Parquet: {error.Message}", error);
        }
    }
}
