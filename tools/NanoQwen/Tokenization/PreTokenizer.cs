using System.Text;
using System.Text.RegularExpressions;

namespace MLNetLora.Tools.NanoQwen.Tokenization;

/// <summary>NFC and the split of Qwen2 and later: no merge reaches across the pieces.</summary>
/// <remarks>.NET's regex sees letters beyond U+FFFF as two surrogates and takes them for symbols. The training text has six such letters; encoding
/// for real is the library's business.</remarks>
internal static partial class PreTokenizer
{
    /// <summary>The pattern as tokenizer.json carries it.</summary>
    public const string Pattern =
        @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    public static IEnumerable<string> Split(string text)
    {
        string normalized = text.Normalize(NormalizationForm.FormC);
        for (Match match = Pieces().Match(normalized); match.Success; match = match.NextMatch())
        {
            yield return match.Value;
        }
    }

    [GeneratedRegex(Pattern, RegexOptions.CultureInvariant)]
    private static partial Regex Pieces();
}
