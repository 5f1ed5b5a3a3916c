using System.Text;

namespace MLNetLora.Evaluation;

/// <summary>Texts as symbols that can be compared: characters as Python counts them, or words.</summary>
internal static class TextSymbols
{
    /// <summary>The text's characters: Unicode code points; a surrogate without its partner is one of its own.</summary>
    public static int[] Characters(string text)
    {
        List<int> characters = new(text.Length);
        for (int i = 0; i < text.Length; i++)
        {
            bool isPair = char.IsHighSurrogate(text[i]) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1]);
            characters.Add(isPair ? char.ConvertToUtf32(text[i], text[i + 1]) : text[i]);
            i += isPair ? 1 : 0;
        }

        return [.. characters];
    }

    /// <summary>How many <see cref="Characters"/> a text has.</summary>
    public static int Length(string text)
    {
        int pairs = 0;
        for (int i = 1; i < text.Length; i++)
        {
            pairs += char.IsSurrogatePair(text[i - 1], text[i]) ? 1 : 0;
        }

        return text.Length - pairs;
    }

    /// <summary>Numbers for the words of two texts, equal words the same.</summary>
    public static (int[] Answer, int[] Reference) Number(IReadOnlyList<string> answer, IReadOnlyList<string> reference)
    {
        Dictionary<string, int> numbers = new(StringComparer.Ordinal);
        return (Numbers(answer), Numbers(reference));

        int[] Numbers(IReadOnlyList<string> words)
        {
            int[] found = new int[words.Count];
            for (int i = 0; i < found.Length; i++)
            {
                if (!numbers.TryGetValue(words[i], out found[i]))
                {
                    found[i] = numbers[words[i]] = numbers.Count;
                }
            }

            return found;
        }
    }

    /// <summary>Whether Python's str.split separates at the character: what .NET calls white space, and four separators of ASCII.</summary>
    public static bool IsSpace(char character) => char.IsWhiteSpace(character) || character is >= '\u001c' and <= '\u001f';

    /// <summary>The words between white space, as Python's str.split gives them.</summary>
    public static List<string> Split(string text)
    {
        List<string> words = [];
        int start = 0;
        for (int i = 0; i <= text.Length; i++)
        {
            if (i == text.Length || IsSpace(text[i]))
            {
                if (i > start)
                {
                    words.Add(text[start..i]);
                }

                start = i + 1;
            }
        }

        return words;
    }

    /// <summary>The text without white space.</summary>
    public static string WithoutSpace(string text)
    {
        StringBuilder kept = new(text.Length);
        foreach (char character in text)
        {
            if (!IsSpace(character))
            {
                kept.Append(character);
            }
        }

        return kept.ToString();
    }
}
