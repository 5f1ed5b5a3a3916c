using System.Globalization;
using System.Text;

namespace MLNetLora.Jinja;

/// <summary>Resolves the escapes of Python's string literals.</summary>
internal static class PythonEscape
{
    /// <summary>Appends what an escape stands for; one that Python does not know stays as it is written.</summary>
    /// <param name="source">The template.</param>
    /// <param name="at">Index behind the backslash, inside the source.</param>
    /// <param name="text">Where it goes.</param>
    /// <returns>Index behind the escape.</returns>
    public static int Append(string source, int at, StringBuilder text)
    {
        char escape = source[at];
        switch (escape)
        {
            case '\n':
                return at + 1;
            case 'x':
                return Hexadecimal(source, at, 2, text);
            case 'u':
                return Hexadecimal(source, at, 4, text);
            case 'U':
                return Hexadecimal(source, at, 8, text);
            case >= '0' and <= '7':
                int end = at;
                int value = 0;
                for (; end < source.Length && end < at + 3 && source[end] is >= '0' and <= '7'; end++)
                {
                    value = (value * 8) + source[end] - '0';
                }

                text.Append((char)value);
                return end;
        }
        int known = "abfnrtv\\'\"".IndexOf(escape, StringComparison.Ordinal);
        if (known >= 0)
        {
            text.Append("\a\b\f\n\r\t\v\\'\""[known]);
        }
        else
        {
            text.Append('\\').Append(escape);
        }

        return at + 1;
    }

    private static int Hexadecimal(string source, int at, int digits, StringBuilder text)
    {
        if (at + digits < source.Length
            && uint.TryParse(source.AsSpan(at + 1, digits), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out uint code)
            && code <= 0x10FFFF)
        {
            if (code <= 0xFFFF)
            {
                text.Append((char)code);
            }
            else
            {
                text.Append(char.ConvertFromUtf32((int)code));
            }

            return at + 1 + digits;
        }
        text.Append('\\').Append(source[at]);
        return at + 1;
    }
}
