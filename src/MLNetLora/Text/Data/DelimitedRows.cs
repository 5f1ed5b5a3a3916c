using System.Text;
using System.Text.Json;

namespace MLNetLora.Text;

/// <summary>
/// Reads CSV (RFC 4180: quotation marks around fields with commas, line breaks or quotation marks, which are doubled) and TSV. The first row names the columns.
/// Every row becomes a JSON object, so that the formats are read in one way.
/// </summary>
/// <param name="path">The file, for messages.</param>
/// <param name="stream">Its bytes.</param>
internal sealed class DelimitedRows(string path, Stream stream)
{
    private const int ColumnLimit = 1000;

    private readonly char _separator = DatasetFiles.IsTabSeparated(path) ? '\t' : ',';
    private readonly StringBuilder _field = new();
    private long _size;

    /// <summary>The rows behind the first, with line and number.</summary>
    /// <exception cref="DatasetException">A row has another number of fields than the first, or a quotation mark is not closed.</exception>
    public IEnumerable<(long Line, long Row, JsonElement Fields)> Read()
    {
        using CharacterStream characters = new(path, stream);
        List<string> names = [];
        List<string> fields = [];
        if (!ReadRow(characters, names))
            yield break;
        if (names.Count > ColumnLimit)
            throw new DatasetException($"{path}, line 1: {names.Count} columns. A table has at most {ColumnLimit}; a line break may be missing.");
        for (int i = 0; i < names.Count; i++)
        {
            names[i] = names[i].Trim();
            if (names.IndexOf(names[i]) < i)
                throw new DatasetException($"{path}, line 1: two columns are named \"{names[i]}\". Rename one.");
        }
        for (long row = 1; ; row++)
        {
            while (characters.Peek() is '\r' or '\n')
                characters.Next();
            long line = characters.Line;
            if (!ReadRow(characters, fields))
                yield break;
            if (fields.Count != names.Count)
                throw new DatasetException($"{path}, line {line}, row {row}: {fields.Count} fields, but the first line names {names.Count} columns. Put fields with {(_separator == ',' ? "commas" : "tabs")} or line breaks in quotation marks.");
            yield return (line, row, ToJson(names, fields));
        }
    }

    private bool ReadRow(CharacterStream characters, List<string> fields)
    {
        fields.Clear();
        _size = 0;
        if (characters.Peek() < 0)
            return false;
        while (true)
        {
            long line = characters.Line;
            _field.Clear();
            if (characters.Peek() == '"')
                ReadQuoted(characters, line);
            // Text behind a closing quotation mark is kept, as spreadsheets do.
            while (characters.Peek() is >= 0 and not '\n' and var value && value != _separator)
                Append((char)characters.Next(), line);
            bool endsRow = characters.Peek() is '\n' or < 0;
            if (endsRow && _field.Length > 0 && _field[^1] == '\r')
                _field.Length--;
            fields.Add(_field.ToString());
            characters.Next();
            if (endsRow)
                return true;
        }
    }

    private void ReadQuoted(CharacterStream characters, long line)
    {
        characters.Next();
        while (true)
        {
            int value = characters.Next();
            if (value < 0)
                throw new DatasetException($"{path}: the quotation mark that opens a field on line {line} is not closed.");
            if (value == '"')
            {
                if (characters.Peek() != '"')
                    return;
                characters.Next();
            }
            Append((char)value, line);
        }
    }

    private void Append(char value, long line)
    {
        _field.Append(value);
        if (++_size > JsonRows.RowLimit / 2)
            throw new DatasetException($"{path}, line {line}: a row has more than {JsonRows.RowLimit / 2} characters. A quotation mark is missing before it.");
    }

    private static JsonElement ToJson(List<string> names, List<string> fields)
    {
        using MemoryStream json = new();
        using (Utf8JsonWriter writer = new(json))
        {
            writer.WriteStartObject();
            for (int i = 0; i < names.Count; i++)
            {
                // An empty field of a table is one that the row does not have.
                if (fields[i].Length > 0)
                    writer.WriteString(UnicodeText.ReplaceUnpairedSurrogates(names[i], out _), UnicodeText.ReplaceUnpairedSurrogates(fields[i], out _));
            }
            writer.WriteEndObject();
        }
        return JsonElement.Parse(json.GetBuffer().AsSpan(0, (int)json.Length));
    }
}
