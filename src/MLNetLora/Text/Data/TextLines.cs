using System.Text;

namespace MLNetLora.Text;

/// <summary>The lines of a text file.</summary>
/// <param name="path">The file, for messages.</param>
/// <param name="stream">Its bytes.</param>
internal sealed class TextLines(string path, Stream stream)
{
    /// <summary>The lines with their numbers, from 1, empty ones too.</summary>
    /// <exception cref="DatasetException">The file is not UTF-8, or a line is unreasonably long.</exception>
    public IEnumerable<(long Line, string Text)> Read()
    {
        using CharacterStream characters = new(path, stream);
        StringBuilder text = new();
        while (characters.Peek() >= 0)
        {
            long line = characters.Line;
            text.Clear();
            for (int value = characters.Next(); value is not ('\n' or < 0); value = characters.Next())
            {
                text.Append((char)value);
                if (text.Length > JsonRows.RowLimit / 2)
                    throw new DatasetException($"{path}, line {line}: the line has more than {JsonRows.RowLimit / 2} characters. Break it into documents.");
            }
            if (text.Length > 0 && text[^1] == '\r')
                text.Length--;
            yield return (line, text.ToString());
        }
    }
}
