using System.Text;

namespace MLNetLora.Tools.NanoQwen.Tokenization;

/// <summary>GPT-2's one-to-one table between the 256 bytes and printable characters, in which vocab.json and merges.txt are written.</summary>
internal static class ByteAlphabet
{
    private static readonly char[] s_characters = new char[256];
    private static readonly Dictionary<char, byte> s_bytes = new(256);
    private static readonly byte[] s_order = new byte[256];

    static ByteAlphabet()
    {
        // Printable Latin-1 stands for itself; the other 68 bytes take the characters from U+0100 on, in byte order.
        int next = 0;
        for (int value = 0; value < 256; value++)
        {
            bool printable = value is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or (>= 0xAE and <= 0xFF);
            s_characters[value] = (char)(printable ? value : 256 + next++);
            s_bytes[s_characters[value]] = (byte)value;
        }

        // The ids of the single bytes follow their characters, as in the published vocabularies: "!" is 0.
        foreach ((char character, int rank) in s_bytes.Keys.Order().Select((character, rank) => (character, rank)))
        {
            s_order[rank] = s_bytes[character];
        }
    }

    /// <summary>The bytes in the order of their ids 0 to 255.</summary>
    public static ReadOnlySpan<byte> IdOrder => s_order;

    public static string ToText(ReadOnlySpan<byte> bytes)
    {
        StringBuilder text = new(bytes.Length);
        foreach (byte value in bytes)
        {
            text.Append(s_characters[value]);
        }

        return text.ToString();
    }

    public static byte[] ToBytes(string text)
    {
        byte[] bytes = new byte[text.Length];
        for (int i = 0; i < bytes.Length; i++)
        {
            if (!s_bytes.TryGetValue(text[i], out bytes[i]))
            {
                throw new TokenizerException(
                    $"the token '{text}' holds '{text[i]}' (U+{(int)text[i]:X4}), which stands for no byte: the vocabulary is not a byte-level one");
            }
        }
        return bytes;
    }
}
