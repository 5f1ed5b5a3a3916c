using System.Globalization;
using System.Text;

namespace MLNetLora.Text;

/// <summary>
/// The text of a data set's file, piece by piece: UTF-8, or UTF-16 where a byte order mark says so. What cannot be read is an error that names file and line.
/// </summary>
/// <param name="path">The file, for messages.</param>
/// <param name="stream">Its bytes; disposed with this.</param>
internal sealed class DatasetText(string path, Stream stream) : TextReader
{
    private static readonly UTF8Encoding Strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private readonly StreamReader _reader = new(stream, Strict, detectEncodingFromByteOrderMarks: true, 1 << 16);
    private long _line = 1;

    /// <inheritdoc/>
    /// <exception cref="DatasetException">The file cannot be read or is not UTF-8.</exception>
    public override int Read(Span<char> buffer)
    {
        int read = Guard(buffer, static (reader, buffer) => reader.Read(buffer));
        _line += buffer[..read].Count('\n');
        return read;
    }

    /// <inheritdoc/>
    public override int Read(char[] buffer, int index, int count) => Read(buffer.AsSpan(index, count));

    /// <inheritdoc/>
    public override int Read()
    {
        Span<char> one = stackalloc char[1];
        return Read(one) == 0 ? -1 : one[0];
    }

    /// <inheritdoc/>
    public override int Peek() => Guard([], static (reader, _) => reader.Peek());

    /// <summary>What a byte that is not UTF-8 should have been, most likely.</summary>
    public static string Advice(byte value)
    {
        string latin = value >= 0xA0 ? string.Create(CultureInfo.InvariantCulture, $" (in Latin-1 it would be \"{(char)value}\")") : "";
        return $"the byte 0x{value:X2} is not valid UTF-8{latin}. Save the file as UTF-8, in Excel as \"CSV UTF-8\"; "
            + "it may be in Latin-1 (Windows-1252) or GBK.";
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _reader.Dispose();
        }

        base.Dispose(disposing);
    }

    private int Guard(Span<char> buffer, Func<StreamReader, Span<char>, int> read)
    {
        try
        {
            return read(_reader, buffer);
        }
        catch (DecoderFallbackException error)
        {
            byte value = error.BytesUnknown is [byte first, ..] ? first : (byte)0;
            throw new DatasetException($"{path}, on or soon after line {_line}: {Advice(value)}", error);
        }
        catch (Exception error) when (error is IOException or InvalidDataException)
        {
            throw new DatasetException($"{path} cannot be read: {error.Message}", error);
        }
    }
}
