using System.Globalization;
using System.Text;

namespace MLNetLora.Cli.Output;

/// <summary>
/// Texts from outside, file names, keys and what a model says, as a terminal may get them: what would move its cursor, colour, rename or turn around what it
/// shows is shown itself.
/// </summary>
internal static class Visible
{
    private const char FirstPicture = '\u2400'; // of NUL; those of the other control characters follow
    private const char Delete = '\x7F';
    private const char PictureOfDelete = '\u2421';

    /// <summary>A text in which only line feeds and tabs are left of control characters: ESC is ␛. Lines as Windows ends them end in a line feed.</summary>
    public static string Of(string text)
    {
        text = text.Replace("\r\n", "\n", StringComparison.Ordinal);
        if (!text.Any(IsHidden))
        {
            return text;
        }

        StringBuilder shown = new(text.Length + 8);
        foreach (char letter in text)
        {
            if (!IsHidden(letter))
            {
                shown.Append(letter);
            }
            else if (letter < ' ' || letter == Delete)
            {
                shown.Append(letter == Delete ? PictureOfDelete : (char)(FirstPicture + letter));
            }
            else
            {
                shown.Append(CultureInfo.InvariantCulture, $"\\u{(int)letter:x4}");
            }
        }

        return shown.ToString();
    }

    /// <summary>The same on one line.</summary>
    public static string OnOneLine(string text) => Of(text).Replace('\n', (char)(FirstPicture + '\n')).Replace('\t', (char)(FirstPicture + '\t'));

    // The control characters of ASCII and of Latin-1, and Unicode's that turn the direction of what follows.
    private static bool IsHidden(char letter) => letter is (< ' ' and not ('\n' or '\t')) or (>= Delete and <= '\x9F')
        or '\u061C' or '\u200E' or '\u200F' or '\u2028' or '\u2029' or (>= '\u202A' and <= '\u202E') or (>= '\u2066' and <= '\u2069');
}
