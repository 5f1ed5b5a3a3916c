namespace MLNetLora.Text;

/// <summary>
/// The spelling of bytes as printable characters that GPT-2 introduced and vocab.json, merges.txt and tokenizer.json use: printable Latin-1 bytes
/// stand for themselves, the other 68 bytes are U+0100 upward in order (so a space is Ġ, U+0120).
/// </summary>
internal static class ByteAlphabet
{
    private static readonly char[] Characters = Build();
    private static readonly short[] Bytes = Invert(Characters);

    /// <summary>The character that spells a byte.</summary>
    public static char Character(byte value) => Characters[value];

    /// <summary>Reads a token's spelling.</summary>
    /// <param name="spelling">Characters of the alphabet.</param>
    /// <param name="bytes">Receives one byte per character; at least as long as the spelling.</param>
    /// <returns>False where a character is not one of the 256.</returns>
    public static bool TryGetBytes(ReadOnlySpan<char> spelling, Span<byte> bytes)
    {
        for (int i = 0; i < spelling.Length; i++)
        {
            char c = spelling[i];
            if (c >= Bytes.Length || Bytes[c] < 0)
            {
                return false;
            }

            bytes[i] = (byte)Bytes[c];
        }
        return true;
    }

    private static char[] Build()
    {
        char[] characters = new char[256];
        int next = 256;
        for (int value = 0; value < 256; value++)
        {
            bool printable = value is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or (>= 0xAE and <= 0xFF);
            characters[value] = printable ? (char)value : (char)next++;
        }
        return characters;
    }

    private static short[] Invert(char[] characters)
    {
        short[] bytes = new short[characters.Max() + 1];
        Array.Fill(bytes, (short)-1);
        for (int value = 0; value < characters.Length; value++)
        {
            bytes[characters[value]] = (short)value;
        }

        return bytes;
    }
}
