using System.Text.Json;

namespace MLNetLora.Text;

/// <summary>A row of a file before anybody looks at what it says: JSON that is not parsed yet, fields, or a line of text.</summary>
/// <param name="File">The file.</param>
/// <param name="Line">Line on which it begins, from 1; 0 in a file that has no lines.</param>
/// <param name="Number">Number of the row in its file, from 1.</param>
internal readonly record struct RawRow(string File, long Line, long Number)
{
    /// <summary>The line of a text file; null in others.</summary>
    public string? Text { get; private init; }

    private JsonElement? Fields { get; init; }

    private ReadOnlyMemory<byte> Json { get; init; }

    /// <summary>The rows of a file, in order. What they hold is valid until the next one is asked for.</summary>
    /// <param name="path">The file; its name and content show what it is.</param>
    /// <exception cref="DatasetException">The file cannot be read, or cannot be cut into rows.</exception>
    public static IEnumerable<RawRow> Read(string path)
    {
        if (DatasetReaders.Find(path) is { } added)
        {
            DatasetFiles.CheckPlaceholder(path);
            long number = 0;
            foreach (JsonElement row in added(path) ?? throw new DatasetException($"{path}: the reader that was registered for it gives null, not rows."))
            {
                yield return new RawRow(path, 0, ++number) { Fields = row };
            }

            yield break;
        }

        if (DatasetFiles.Extension(path) == ".parquet")
        {
            throw new DatasetException(
                $"{path} is a Parquet file. Add the package MLNetLora.Parquet and call ParquetData.Register() once before files are read; "
                + "or convert it to JSONL.");
        }

        using Stream stream = DatasetFiles.Open(path);
        switch (DatasetFiles.KindOf(path))
        {
            case DatasetFiles.Kind.Lines:
                long lines = 0;
                foreach ((long line, string text) in new TextLines(path, stream).Read())
                {
                    if (!string.IsNullOrWhiteSpace(text))
                    {
                        yield return new RawRow(path, line, ++lines) { Text = text };
                    }
                }

                break;
            case DatasetFiles.Kind.Table:
                foreach ((long line, long number, JsonElement fields) in new TableRows(path, stream).Read())
                {
                    yield return new RawRow(path, line, number) { Fields = fields };
                }

                break;
            default:
                foreach (JsonRow row in new JsonRows(path, stream).Read())
                {
                    yield return new RawRow(path, row.Line, row.Row) { Json = row.Json };
                }

                break;
        }
    }

    /// <summary>What the fields of a row that is no line of text say.</summary>
    /// <exception cref="DatasetException">The row is not valid JSON, or <paramref name="use"/> finds something wrong.</exception>
    public T Use<T>(Func<JsonElement, T> use)
    {
        if (Fields is { } fields)
        {
            return use(fields);
        }

        using JsonDocument document = JsonText.Parse(File, new JsonRow(Number, Line, Json));
        return use(document.RootElement);
    }
}
