using System.Text;

namespace MLNetLora.Text;

/// <summary>Reads UTF-8 text piece by piece, with messages that name file and line.</summary>
/// <param name="path">The file, for messages.</param>
/// <param name="stream">Its bytes.</param>
internal sealed class CharacterStream(string path, Stream stream) : IDisposable
{
    private readonly StreamReader _reader = new(stream, new UTF8Encoding(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true), detectEncodingFromByteOrderMarks: true, 1 << 16);
    private readonly char[] _buffer = new char[1 << 14];
    private int _at;
    private int _end;

    /// <summary>Line of the next character, from 1.</summary>
    public long Line { get; private set; } = 1;

    /// <summary>The next character without taking it; −1 at the end.</summary>
    /// <exception cref="DatasetException">The file cannot be read or is not UTF-8.</exception>
    public int Peek()
    {
        if (_at == _end)
        {
            try
            {
                (_at, _end) = (0, _reader.Read(_buffer));
            }
            catch (DecoderFallbackException error)
            {
                throw new DatasetException($"{path}, on or soon after line {Line}: the text is not valid UTF-8. Save the file as UTF-8 (it may be in GBK or Latin-1).", error);
            }
            catch (Exception error) when (error is IOException or InvalidDataException)
            {
                throw new DatasetException($"{path} cannot be read: {error.Message}", error);
            }
        }
        return _end == 0 ? -1 : _buffer[_at];
    }

    /// <summary>Takes the next character; −1 at the end.</summary>
    public int Next()
    {
        int value = Peek();
        if (value < 0)
            return -1;
        _at++;
        Line += value == '\n' ? 1 : 0;
        return value;
    }

    /// <inheritdoc/>
    public void Dispose() => _reader.Dispose();
}
