using System.Buffers;

namespace MLNetLora.Text;

/// <summary>The JSON of one row, and where it begins.</summary>
/// <param name="Row">Number of the row in its file, from 1.</param>
/// <param name="Line">Line on which it begins, from 1.</param>
/// <param name="Json">Its bytes, valid until the next row is asked for.</param>
internal readonly record struct JsonRow(long Row, long Line, ReadOnlyMemory<byte> Json);

/// <summary>
/// Cuts a JSON file into rows without holding more than one of them: the elements of an array, or the lines of a JSONL file. Which of the two it is shows in
/// the first character. The JSON of a row is not checked here.
/// </summary>
/// <param name="path">The file, for messages.</param>
/// <param name="stream">Its bytes.</param>
internal sealed class JsonRows(string path, Stream stream)
{
    /// <summary>Rows above this size are refused: it is a quotation mark that is missing, not a row.</summary>
    public const int RowLimit = 64 << 20;

    private static readonly SearchValues<byte> Structure = SearchValues.Create("\"{}[]\n"u8);
    private static readonly SearchValues<byte> InString = SearchValues.Create("\"\\\n"u8);

    private byte[] _buffer = new byte[1 << 16];
    private int _start;
    private int _end;
    private bool _finished;
    private long _line = 1;
    private long _row;

    /// <summary>The rows, in order.</summary>
    /// <exception cref="DatasetException">The file ends inside a row, a row is too long, or text follows the array.</exception>
    public IEnumerable<JsonRow> Read()
    {
        if (Peek(0) is 0xFF or 0xFE)
        {
            throw new DatasetException($"{path} is UTF-16 text. Save it as UTF-8.");
        }

        if (Peek(0) == 0xEF && Peek(1) == 0xBB && Peek(2) == 0xBF)
        {
            _start += 3;
        }

        SkipWhiteSpace();
        return Peek(0) == '[' ? Elements() : Lines();
    }

    private IEnumerable<JsonRow> Lines()
    {
        while (Peek(0) >= 0)
        {
            int length = 0;
            int found;
            while ((found = _buffer.AsSpan(_start + length, _end - _start - length).IndexOf((byte)'\n')) < 0)
            {
                length = _end - _start;
                if (!Fill())
                {
                    break;
                }
            }

            length = found < 0 ? _end - _start : length + found;
            ReadOnlyMemory<byte> line = _buffer.AsMemory(_start, length);
            if (line.Span.ContainsAnyExcept(" \t\r"u8))
            {
                yield return new JsonRow(++_row, _line, line);
            }

            _start += length + (found < 0 ? 0 : 1);
            _line++;
        }
    }

    private IEnumerable<JsonRow> Elements()
    {
        _start++;
        SkipWhiteSpace();
        while (Peek(0) != ']')
        {
            long line = _line;
            int length = ElementLength();
            yield return new JsonRow(_row, line, _buffer.AsMemory(_start, length));
            _start += length;
            SkipWhiteSpace();
            if (Peek(0) == ']')
            {
                break;
            }

            if (Peek(0) != ',')
            {
                throw new DatasetException(
                    $"{path}, line {_line}: {After()} stands behind row {_row} where a comma or the closing bracket of the array belongs.");
            }

            _start++;
            SkipWhiteSpace();
            if (Peek(0) == ']')
            {
                throw new DatasetException($"{path}, line {_line}: a comma stands behind row {_row}, the last one. Remove it.");
            }
        }

        _start++;
        SkipWhiteSpace();
        if (Peek(0) >= 0)
        {
            throw new DatasetException($"{path}, line {_line}: {After()} stands behind the end of the array. "
                + "A file holds one array of rows, or one row on every line.");
        }
    }

    /// <summary>Length of the element at the start of the buffer, all of it in the buffer afterwards; counts rows and lines.</summary>
    private int ElementLength()
    {
        long row = ++_row;
        long line = _line;
        int depth = 0;
        bool inString = false;
        for (int at = 0; ; at++)
        {
            int value = Peek(at);
            if (value < 0)
            {
                throw new DatasetException($"{path} ends inside row {row}, which begins on line {line}. "
                    + "A quotation mark or a bracket is missing there, or the file was cut off.");
            }

            if (inString || depth > 0)
            {
                // Only these bytes matter inside strings and containers; a bare number or word ends at whatever follows it.
                ReadOnlySpan<byte> rest = _buffer.AsSpan(_start + at, _end - _start - at);
                int next = rest.IndexOfAny(inString ? InString : Structure);
                at += next < 0 ? rest.Length - 1 : next;
                value = next < 0 ? ' ' : rest[next];
            }

            switch (value)
            {
                case '\n':
                    if (depth == 0 && !inString)
                    {
                        return at;
                    }

                    _line++;
                    break;
                case '"':
                    inString = !inString;
                    if (!inString && depth == 0)
                    {
                        return at + 1;
                    }

                    break;
                case '\\' when inString:
                    at++;
                    break;
                case '{' or '[' when !inString:
                    depth++;
                    break;
                case '}' or ']' when !inString:
                    if (depth == 0)
                    {
                        return at;
                    }

                    if (--depth == 0)
                    {
                        return at + 1;
                    }

                    break;
                case ',' or ' ' or '\t' or '\r' when depth == 0 && !inString:
                    return at;
            }
        }
    }

    private void SkipWhiteSpace()
    {
        for (int value = Peek(0); value is ' ' or '\t' or '\r' or '\n'; value = Peek(0))
        {
            if (value == '\n')
            {
                _line++;
            }

            _start++;
        }
    }

    /// <summary>The byte at an offset from the start, read if need be; −1 behind the end of the file.</summary>
    private int Peek(int offset)
    {
        while (_start + offset >= _end)
        {
            if (!Fill())
            {
                return -1;
            }
        }

        return _buffer[_start + offset];
    }

    /// <summary>Reads more behind what is there; false at the end of the file. What begins at the start keeps its offsets.</summary>
    private bool Fill()
    {
        if (_finished)
        {
            return false;
        }

        if (_start > 0)
        {
            _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
            _end -= _start;
            _start = 0;
        }

        if (_end == _buffer.Length)
        {
            if (_end >= RowLimit)
            {
                throw new DatasetException($"{path}, line {_line}: a row has more than {RowLimit >> 20} MiB. "
                    + "A quotation mark or a line break is missing before it.");
            }

            Array.Resize(ref _buffer, _buffer.Length * 2);
        }

        try
        {
            int read = stream.Read(_buffer, _end, _buffer.Length - _end);
            _end += read;
            _finished = read == 0;
        }
        catch (Exception error) when (error is IOException or InvalidDataException)
        {
            throw new DatasetException($"{path} cannot be read: {error.Message}", error);
        }

        return !_finished;
    }

    /// <summary>What stands at the start, for messages.</summary>
    private string After()
    {
        int value = Peek(0);
        return value switch
        {
            < 0 => "the end of the file",
            > ' ' and < 0x7F => $"'{(char)value}'",
            _ => $"the byte 0x{value:X2}",
        };
    }
}
