using System.Text;

namespace MLNetLora.Text;

/// <summary>The lines of a text file.</summary>
/// <param name="path">The file, for messages.</param>
/// <param name="stream">Its bytes.</param>
internal sealed class TextLines(string path, Stream stream)
{
    private const int LineLimit = JsonRows.RowLimit / 2;

    private readonly StringBuilder _text = new();

    /// <summary>The lines with their numbers, from 1, empty ones too.</summary>
    /// <exception cref="DatasetException">The file is not UTF-8, or a line is unreasonably long.</exception>
    public IEnumerable<(long Line, string Text)> Read()
    {
        using DatasetText reader = new(path, stream);
        char[] buffer = new char[1 << 14];
        long line = 1;
        for (int read = reader.Read(buffer); read > 0; read = reader.Read(buffer))
        {
            int start = 0;
            for (int end = Break(buffer, start, read); end >= 0; end = Break(buffer, start, read))
            {
                Append(buffer.AsSpan(start, end - start), line);
                yield return (line++, Take());
                start = end + 1;
            }

            Append(buffer.AsSpan(start, read - start), line);
        }

        if (_text.Length > 0)
        {
            yield return (line, Take());
        }
    }

    private static int Break(char[] buffer, int start, int end)
    {
        int found = buffer.AsSpan(start, end - start).IndexOf('\n');
        return found < 0 ? -1 : start + found;
    }

    private void Append(ReadOnlySpan<char> part, long line)
    {
        _text.Append(part);
        if (_text.Length > LineLimit)
        {
            throw new DatasetException($"{path}, line {line}: the line has more than {LineLimit} characters. Break it into documents.");
        }
    }

    private string Take()
    {
        if (_text.Length > 0 && _text[^1] == '\r')
        {
            _text.Length--;
        }

        string text = _text.ToString();
        _text.Clear();
        return text;
    }
}
