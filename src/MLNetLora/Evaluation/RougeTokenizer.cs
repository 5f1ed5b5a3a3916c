using System.Globalization;
using System.Text;

namespace MLNetLora.Evaluation;

/// <summary>What <see cref="Rouge"/> takes for a word. Of ASCII texts both make the same words.</summary>
public enum RougeTokenizer
{
    /// <summary>
    /// Letters and digits of every script, in lower case; each Chinese character and each Japanese kana is a word of its own. Marks belong to the letter
    /// before them; everything else separates. The default.
    /// </summary>
    Unicode,

    /// <summary>
    /// The default of Google's rouge_score without its stemmer, for comparisons: runs of a–z and 0–9 in the text in lower case. Whatever else there is
    /// separates, so Chinese texts have no words and score 0, and "für" is "f" and "r".
    /// </summary>
    RougeScore,
}

/// <summary>Texts as words.</summary>
internal static class RougeWords
{
    // Where Unicode has the scripts that are written without spaces between words and whose characters carry meaning: Han with its radicals and numerals, kana.
    private static readonly (int First, int Last)[] s_alone =
    [
        (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3031, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF),
        (0xFF66, 0xFF9D), (0x1AFF0, 0x1B16F), (0x20000, 0x3FFFF),
    ];

    /// <summary>The words of a text.</summary>
    public static List<string> Of(string text, RougeTokenizer tokenizer) => tokenizer switch
    {
        RougeTokenizer.Unicode => Unicode(text),
        RougeTokenizer.RougeScore => Ascii(text),
        _ => throw new ArgumentOutOfRangeException(nameof(tokenizer), tokenizer, $"{nameof(RougeTokenizer)} has no such value."),
    };

    private static List<string> Unicode(string text)
    {
        List<string> words = [];
        StringBuilder word = new();
        foreach (Rune rune in text.EnumerateRunes())
        {
            UnicodeCategory category = Rune.GetUnicodeCategory(rune);
            if (Rune.IsLetter(rune) || Rune.IsNumber(rune))
            {
                if (IsAlone(rune.Value))
                {
                    End();
                    words.Add(rune.ToString());
                    continue;
                }

                word.Append(Rune.ToLowerInvariant(rune));
            }
            else if (word.Length > 0
                && category is UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark)
            {
                word.Append(rune);
            }
            else
            {
                End();
            }
        }

        End();
        return words;

        void End()
        {
            if (word.Length > 0)
            {
                words.Add(word.ToString());
                word.Clear();
            }
        }
    }

    private static List<string> Ascii(string text)
    {
        List<string> words = [];
        StringBuilder word = new();
        foreach (char character in text)
        {
            char lower = character switch
            {
                >= 'A' and <= 'Z' => (char)(character | 0x20),
                '\u212a' => 'k', // the sign of Kelvin is in lower case the letter
                '\u0130' => 'i', // and a dot, which separates
                _ => character,
            };
            bool isKept = lower is (>= 'a' and <= 'z') or (>= '0' and <= '9');
            if (isKept)
            {
                word.Append(lower);
            }

            if ((!isKept || character == '\u0130') && word.Length > 0)
            {
                words.Add(word.ToString());
                word.Clear();
            }
        }

        if (word.Length > 0)
        {
            words.Add(word.ToString());
        }

        return words;
    }

    private static bool IsAlone(int character)
    {
        foreach ((int first, int last) in s_alone)
        {
            if (character <= last)
            {
                return character >= first;
            }
        }

        return false;
    }
}
