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

    /// <summary>Reads files of questions for who wants every row counted and none to end the reading: what is wrong with a row stands in its place.</summary>
    /// <param name="path">A file or a pattern.</param>
    /// <param name="format">How the rows are written.</param>
    /// <param name="wants">Which rows are wanted, by their number over all files, from 0; the others are skipped, which takes less time.</param>
    /// <exception cref="DatasetException">No file matches, or one cannot be cut into rows.</exception>
    internal static IEnumerable<QuestionRow> ReadEachQuestion(string path, DatasetFormat format, Func<long, bool> wants)
    {
        long number = -1;
        foreach (string file in DatasetFiles.Find(path))
        {
            RowsOfFile rows = new(file, format, promptTemplate: null, asks: true);
            foreach (RawRow raw in RawRow.Read(file))
            {
                bool isWanted = wants(++number);
                if (isWanted || (raw.Text is null && !rows.IsKnown))
                {
                    QuestionRow question = Read(rows, raw, number);
                    if (isWanted)
                    {
                        yield return question;
                    }
                }
            }
        }

        static QuestionRow Read(RowsOfFile rows, RawRow raw, long number)
        {
            string? fields = null;
            try
            {
                fields = raw.Text is null ? raw.Use(row => row.ValueKind == JsonValueKind.Object ? row.GetRawText() : null) : null;
                return new QuestionRow(number, rows.Read(raw), fields, null);
            }
            catch (DatasetException error)
            {
                return new QuestionRow(number, null, fields, error);
            }
        }
    }

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
        return RawRow.Read(path).Select(rows.Read);
    }

    /// <summary>The rows of one file have one format, which the first one shows.</summary>
    private sealed class RowsOfFile(string path, DatasetFormat format, string? promptTemplate, bool asks)
    {
        private DatasetFormat _format = format;

        /// <summary>Whether the format is known, so that rows need not be looked at only for those behind them.</summary>
        public bool IsKnown => _format != DatasetFormat.Recognize;

        public DatasetRow Read(RawRow row)
        {
            if (row.Text is { } text)
            {
                return Document(row, text);
            }

            string where = DatasetRow.Place(path, row.Line, row.Number);
            try
            {
                return row.Use(fields => DatasetRows.Read(fields, ref _format, promptTemplate, where, asks)) with
                {
                    File = path,
                    Line = row.Line,
                    Number = row.Number,
                };
            }
            catch (InvalidOperationException error)
            {
                // The name of a field can hold an escaped surrogate without its partner, which System.Text.Json refuses.
                throw new DatasetException($"{where}: the name of a field is not valid text. Correct it.", error);
            }
        }

        private DatasetRow Document(RawRow row, string text)
        {
            if (_format is not (DatasetFormat.Recognize or DatasetFormat.Text))
            {
                throw new DatasetException(
                    $"{path} is plain text, which has no {_format} rows. Name a .json, .jsonl, .csv or .tsv file, or the format {DatasetFormat.Text}.");
            }

            return asks
                ? new DatasetRow(path, row.Line, row.Number, null, null) { Instruction = new InstructionRow(text) }
                : new DatasetRow(path, row.Line, row.Number, null, text);
        }
    }
}

/// <summary>A row of a file of questions.</summary>
/// <param name="Number">Its number over all files, from 0.</param>
/// <param name="Row">The row; null where it is none.</param>
/// <param name="Fields">The JSON object that it is written as, or would be; null for a line of text and where it is none.</param>
/// <param name="Error">Why it is none; null where it is one.</param>
internal sealed record QuestionRow(long Number, DatasetRow? Row, string? Fields, DatasetException? Error);
