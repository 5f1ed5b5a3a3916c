using System.Text.Json;
using MLNetLora.Adapters;

namespace MLNetLora.Text;

/// <summary>
/// Reads data sets: JSON arrays, JSONL, CSV, TSV and plain text, each also compressed with gzip, and what <see cref="DatasetReaders"/> adds. One row is in
/// memory at a time, however long the file. What a file is shows in its content and name; what its rows are, in the fields of the first one, unless the
/// format is named; what separates the fields of a table (commas, semicolons, tabs), in its first line.
/// </summary>
public static class Dataset
{
    /// <summary>Reads files.</summary>
    /// <param name="path">
    /// A file, or a pattern with * and ? in the file name, with ** for folders at any depth (<c>data/**/*.jsonl.gz</c>). Files are read in ordinal order of
    /// their paths, each once, also where links lead to it several times.
    /// </param>
    /// <param name="format">How the rows are written.</param>
    /// <param name="promptTemplate">What the user's message of instruction rows is made of; see <see cref="Adapters.PromptSettings.PromptTemplate"/>.</param>
    /// <returns>The rows in order, read while they are enumerated.</returns>
    /// <exception cref="DatasetException">
    /// No file matches, a file has no rows, or a row is wrong; the message names file, line and row. Raised while enumerating where the cause lies in a file.
    /// </exception>
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

    /// <summary>Reads files of questions, whose answers may be missing: instructions without output, prompts without completion, conversations that end
    /// with the user. The lines of a text file are questions.</summary>
    /// <param name="path">A file or a pattern.</param>
    /// <param name="format">How the rows are written.</param>
    internal static IEnumerable<DatasetRow> ReadQuestions(string path, DatasetFormat format = DatasetFormat.Recognize) =>
        DatasetFiles.Find(path).SelectMany(file => ReadFile(file, format, promptTemplate: null, asks: true));

    private static IEnumerable<DatasetRow> ReadFile(string path, DatasetFormat format, string? promptTemplate, bool asks = false)
    {
        bool any = false;
        foreach (DatasetRow row in Rows(path, format, promptTemplate, asks))
        {
            any = true;
            yield return row;
        }

        if (!any)
        {
            throw new DatasetException($"{path} has no rows. Write at least one row, or leave the file out.");
        }
    }

    private static IEnumerable<DatasetRow> Rows(string path, DatasetFormat format, string? promptTemplate, bool asks)
    {
        RowsOfFile rows = new(path, format, promptTemplate, asks);
        if (DatasetReaders.Find(path) is { } added)
        {
            DatasetFiles.CheckPlaceholder(path);
            long number = 0;
            foreach (JsonElement row in added(path) ?? throw new DatasetException($"{path}: the reader that was registered for it gives null, not rows."))
            {
                yield return rows.Read(row, line: 0, ++number);
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
                foreach (DatasetRow row in Documents(path, stream, format))
                {
                    yield return asks ? row with { Document = null, Instruction = new InstructionRow(row.Document!) } : row;
                }

                break;
            case DatasetFiles.Kind.Table:
                foreach ((long line, long number, JsonElement fields) in new TableRows(path, stream).Read())
                {
                    yield return rows.Read(fields, line, number);
                }

                break;
            default:
                foreach (JsonRow row in new JsonRows(path, stream).Read())
                {
                    using JsonDocument document = JsonText.Parse(path, row);
                    yield return rows.Read(document.RootElement, row.Line, row.Row);
                }

                break;
        }
    }

    private static IEnumerable<DatasetRow> Documents(string path, Stream stream, DatasetFormat format)
    {
        if (format is not (DatasetFormat.Recognize or DatasetFormat.Text))
        {
            throw new DatasetException(
                $"{path} is plain text, which has no {format} rows. Name a .json, .jsonl, .csv or .tsv file, or the format {DatasetFormat.Text}.");
        }

        long number = 0;
        foreach ((long line, string text) in new TextLines(path, stream).Read())
        {
            if (!string.IsNullOrWhiteSpace(text))
            {
                yield return new DatasetRow(path, line, ++number, null, text);
            }
        }
    }

    /// <summary>The rows of one file have one format, which the first one shows.</summary>
    private sealed class RowsOfFile(string path, DatasetFormat format, string? promptTemplate, bool asks)
    {
        private DatasetFormat _format = format;

        public DatasetRow Read(JsonElement row, long line, long number)
        {
            string where = DatasetRow.Place(path, line, number);
            try
            {
                return DatasetRows.Read(row, ref _format, promptTemplate, where, asks) with { File = path, Line = line, Number = number };
            }
            catch (InvalidOperationException error)
            {
                // The name of a field can hold an escaped surrogate without its partner, which System.Text.Json refuses.
                throw new DatasetException($"{where}: the name of a field is not valid text. Correct it.", error);
            }
        }
    }
}
