using System.Text.Json;

namespace MLNetLora.Text;

/// <summary>
/// Reads data sets: JSON arrays, JSONL, CSV, TSV and plain text, each also compressed with gzip, and what <see cref="DatasetReaders"/> adds. One row is in memory at a time, however long the file.
/// What a file is shows in its content and name; what its rows are, in the fields of the first one, unless the format is named.
/// </summary>
public static class Dataset
{
    /// <summary>Reads files.</summary>
    /// <param name="path">A file, or a pattern with * and ? in the file name, with ** for folders at any depth (<c>data/**/*.jsonl.gz</c>). Files are read in ordinal order of their paths.</param>
    /// <param name="format">How the rows are written.</param>
    /// <param name="promptTemplate">What the user's message of instruction rows is made of; see <see cref="InstructionFormatter"/>.</param>
    /// <returns>The rows in order, read while they are enumerated.</returns>
    /// <exception cref="DatasetException">No file matches, a file has no rows, or a row is wrong; the message names file, line and row. Raised while enumerating where the cause lies in a file.</exception>
    public static IEnumerable<DatasetRow> Read(string path, DatasetFormat format = DatasetFormat.Recognize, string? promptTemplate = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        return Read([path], format, promptTemplate);
    }

    /// <summary>Reads several files or patterns, one after the other.</summary>
    /// <param name="paths">Files and patterns; see <see cref="Read(string, DatasetFormat, string?)"/>.</param>
    /// <param name="format">How the rows are written.</param>
    /// <param name="promptTemplate">What the user's message of instruction rows is made of.</param>
    /// <returns>The rows in order, read while they are enumerated.</returns>
    /// <exception cref="DatasetException">No file matches, a file has no rows, or a row is wrong.</exception>
    public static IEnumerable<DatasetRow> Read(IEnumerable<string> paths, DatasetFormat format = DatasetFormat.Recognize, string? promptTemplate = null)
    {
        ArgumentNullException.ThrowIfNull(paths);
        string[] files = [.. paths.SelectMany(DatasetFiles.Find)];
        return files.SelectMany(file => ReadFile(file, format, promptTemplate));
    }

    private static IEnumerable<DatasetRow> ReadFile(string path, DatasetFormat format, string? promptTemplate)
    {
        bool any = false;
        DatasetFormat rows = format;
        Func<string, IEnumerable<JsonElement>>? added = DatasetReaders.Find(path);
        using Stream stream = added is null ? DatasetFiles.Open(path) : Stream.Null;
        foreach (DatasetRow row in added is not null ? added(path).Select((row, index) => FromObject(path, 0, index + 1L, row)) : DatasetFiles.KindOf(path) switch
        {
            DatasetFiles.Kind.Lines => Documents(path, stream, format),
            DatasetFiles.Kind.Table => new TableRows(path, stream).Read().Select(row => FromObject(path, row.Line, row.Row, row.Fields)),
            _ => new JsonRows(path, stream).Read().Select(row => FromJson(path, row)),
        })
        {
            any = true;
            yield return row;
        }
        if (!any)
            throw new DatasetException($"{path} has no rows. Write at least one row, or leave the file out.");

        DatasetRow FromJson(string file, JsonRow row)
        {
            using JsonDocument document = JsonText.Parse(file, row);
            return FromObject(file, row.Line, row.Row, document.RootElement);
        }

        DatasetRow FromObject(string file, long line, long number, JsonElement row)
        {
            string where = DatasetRow.Place(file, line, number);
            try
            {
                if (rows == DatasetFormat.Recognize)
                    rows = DatasetRows.Recognize(row, where);
                return DatasetRows.Read(row, rows, promptTemplate, where) with { File = file, Line = line, Number = number };
            }
            catch (InvalidOperationException error)
            {
                // The name of a field can hold an escaped surrogate without its partner, which System.Text.Json refuses.
                throw new DatasetException($"{where}: the name of a field is not valid text. Correct it.", error);
            }
        }
    }

    private static IEnumerable<DatasetRow> Documents(string path, Stream stream, DatasetFormat format)
    {
        if (format is not (DatasetFormat.Recognize or DatasetFormat.Text))
            throw new DatasetException($"{path} is plain text, which has no {format} rows. Name a .json, .jsonl, .csv or .tsv file, or the format {DatasetFormat.Text}.");
        long number = 0;
        foreach ((long line, string text) in new TextLines(path, stream).Read())
        {
            if (!string.IsNullOrWhiteSpace(text))
                yield return new DatasetRow(path, line, ++number, null, text);
        }
    }
}
