using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using Sylvan.Data.Csv;

namespace MLNetLora.Text;

/// <summary>
/// Reads CSV (RFC 4180: quotation marks around fields with separators, line breaks or quotation marks, which are doubled) and TSV. The first row names the
/// columns. Every row becomes a JSON object, so that the formats are read in one way. One row is in memory at a time.
/// </summary>
/// <param name="path">The file, for messages.</param>
/// <param name="stream">Its bytes.</param>
internal sealed class TableRows(string path, Stream stream)
{
    private const int ColumnLimit = 1000;

    /// <summary>Fields of a row that are cut at all; the time for them grows with their square.</summary>
    public const int FieldLimit = 100 * ColumnLimit;

    /// <summary>Characters of a row, above which a quotation mark is missing.</summary>
    private const int RowLimit = JsonRows.RowLimit / 2;

    private static readonly JsonWriterOptions Relaxed = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private readonly ArrayBufferWriter<byte> _json = new();
    private char _separator;
    private long _nextLine = 1;
    private long _line = 1;
    private long _row;

    /// <summary>The rows behind the first, with line and number.</summary>
    /// <exception cref="DatasetException">
    /// A row has another number of fields than the first, a quotation mark is not closed or stands where none belongs, or a row is too long.
    /// </exception>
    public IEnumerable<(long Line, long Row, JsonElement Fields)> Read()
    {
        TableHeader header = TableHeader.Find(path);
        _separator = header.Separator;
        using DatasetText text = new(path, stream);
        using BoundedFields bounded = new(path, text, header.Separator);
        using CsvDataReader? csv = Guard(() => Open(bounded, header.Separator));
        if (csv is null || (header.IsAnnounced && !Next(csv)) || !Next(csv))
        {
            yield break;
        }

        string[] names = Names(csv);
        while (Next(csv))
        {
            _row++;
            if (csv.RowFieldCount != names.Length)
            {
                throw new DatasetException(
                    $"{path}, line {_line}, row {_row}: {csv.RowFieldCount} fields, but the first line names {names.Length} columns. "
                    + $"Put fields with {TableHeader.NameOf(_separator)} or line breaks in quotation marks.");
            }

            yield return (_line, _row, ToJson(names, csv));
        }
    }

    /// <summary>A reader that takes every line as a row, the first too; null for an empty file.</summary>
    public static CsvDataReader Open(TextReader text, char separator) => CsvDataReader.Create(text, new CsvDataReaderOptions
    {
        HasHeaders = false,
        Delimiter = separator,
        Comment = '\0', // A text may begin with #.
        MaxBufferSize = RowLimit,
        OwnsReader = false,
    });

    /// <summary>Goes to the next row that is not an empty line.</summary>
    private bool Next(CsvDataReader csv)
    {
        while (Guard(csv.Read))
        {
            ReadOnlySpan<char> raw = csv.GetRawRecordSpan();
            _line = _nextLine;
            _nextLine += Breaks(raw);
            if (raw.ContainsAnyExcept('\r', '\n'))
            {
                return true;
            }
        }

        return false;
    }

    private string[] Names(CsvDataReader csv)
    {
        if (csv.RowFieldCount > ColumnLimit)
        {
            throw new DatasetException($"{path}, line {_line}: {csv.RowFieldCount} columns. A table has at most {ColumnLimit}; a line break may be missing.");
        }

        string[] names = [.. Enumerable.Range(0, csv.RowFieldCount).Select(column => csv.GetString(column).Trim())];
        if (names.GroupBy(name => name).FirstOrDefault(same => same.Count() > 1) is { Key: string twice })
        {
            throw new DatasetException($"{path}, line {_line}: two columns are named \"{twice}\". Rename one.");
        }

        return names;
    }

    private T Guard<T>(Func<T> read)
    {
        try
        {
            return read();
        }
        catch (CsvRecordTooLargeException error)
        {
            throw new DatasetException($"{path}, line {_nextLine}: a row has more than {RowLimit} characters. "
                + "A quotation mark is missing in it or before it.", error);
        }
        catch (CsvInvalidCharacterException error) when (error.InvalidCharacter == '"')
        {
            throw new DatasetException($"{path}: the quotation mark that opens a field on line {_nextLine} is not closed.", error);
        }
        catch (CsvFormatException error)
        {
            throw new DatasetException(
                $"{path}, line {_nextLine}: a quotation mark stands inside a quoted field, column {error.FieldOrdinal + 1} of the row that begins there. "
                + "Double the quotation marks of its text, or close the field before.", error);
        }
    }

    private JsonElement ToJson(string[] names, CsvDataReader csv)
    {
        _json.ResetWrittenCount();
        using (Utf8JsonWriter writer = new(_json, Relaxed))
        {
            writer.WriteStartObject();
            for (int i = 0; i < names.Length; i++)
            {
                // An empty field of a table is one that the row does not have.
                ReadOnlySpan<char> field = csv.GetFieldSpan(i);
                if (field.Length > 0)
                {
                    writer.WriteString(names[i], field);
                }
            }

            writer.WriteEndObject();
        }

        return JsonElement.Parse(_json.WrittenSpan);
    }

    /// <summary>Line breaks of a row: \n, \r\n and \r.</summary>
    private static int Breaks(ReadOnlySpan<char> raw) => raw.Count('\n') + raw.Count('\r') - raw.Count("\r\n");

    /// <summary>Gives text on until a row has more fields than any: a line break is missing, or somebody means harm.</summary>
    private sealed class BoundedFields(string path, TextReader text, char separator) : TextReader
    {
        private readonly SearchValues<char> _marks = SearchValues.Create([separator, '"', '\r', '\n']);
        private bool _isQuoted;
        private int _fields;

        public override int Read(Span<char> buffer)
        {
            int read = text.Read(buffer);
            ReadOnlySpan<char> rest = buffer[..read];
            for (int at = rest.IndexOfAny(_marks); at >= 0; rest = rest[(at + 1)..], at = rest.IndexOfAny(_marks))
            {
                char mark = rest[at];
                _isQuoted ^= mark == '"';
                _fields = _isQuoted || mark == '"' ? _fields : mark == separator ? _fields + 1 : 0;
                if (_fields > FieldLimit)
                {
                    throw new DatasetException($"{path}: a row has more than {FieldLimit} fields. A line break is missing in it or before it.");
                }
            }

            return read;
        }

        public override int Read(char[] buffer, int index, int count) => Read(buffer.AsSpan(index, count));

        public override int Peek() => text.Peek();

        public override int Read()
        {
            Span<char> one = stackalloc char[1];
            return Read(one) == 0 ? -1 : one[0];
        }
    }
}
