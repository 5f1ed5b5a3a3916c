namespace MLNetLora.Jinja;

/// <summary>Python counts characters, .NET counts UTF-16 units: a text with characters above U+FFFF has fewer of the former.</summary>
internal static class CodePoints
{
    /// <summary>Number of characters.</summary>
    public static int Count(string text)
    {
        int count = text.Length;
        for (int i = text.AsSpan().IndexOfAnyInRange('\uD800', '\uDBFF'); i >= 0 && i + 1 < text.Length; i++)
        {
            if (!char.IsSurrogatePair(text[i], text[i + 1]))
            {
                continue;
            }

            count--;
            i++;
        }
        return count;
    }

    /// <summary>The characters one by one.</summary>
    public static IEnumerable<TaggedText> Split(TaggedText text)
    {
        for (int at = 0, length; at < text.Length; at += length)
        {
            length = LengthAt(text.Value, at);
            yield return text.Slice(at, length);
        }
    }

    /// <summary>UTF-16 units of the character at an index.</summary>
    public static int LengthAt(string text, int at) => at + 1 < text.Length && char.IsSurrogatePair(text[at], text[at + 1]) ? 2 : 1;

    /// <summary>The UTF-16 index of a character's number; the text's length for any number behind its end.</summary>
    public static int IndexOf(string text, long number)
    {
        if (!HasPairs(text))
        {
            return (int)Math.Min(number, text.Length);
        }

        int at = 0;
        for (long i = 0; i < number && at < text.Length; i++)
        {
            at += LengthAt(text, at);
        }

        return at;
    }

    /// <summary>The number of the character at a UTF-16 index.</summary>
    public static int NumberOf(string text, int index) => HasPairs(text) ? Count(text[..index]) : index;

    private static bool HasPairs(string text) => text.AsSpan().IndexOfAnyInRange('\uD800', '\uDBFF') >= 0;
}
