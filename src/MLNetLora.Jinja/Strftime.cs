using System.Globalization;
using System.Text;

namespace MLNetLora.Jinja;

/// <summary>Python's strftime in the C locale.</summary>
internal static class Strftime
{
    /// <summary>A time in a format.</summary>
    /// <exception cref="JinjaFault">The format has a directive that is not known.</exception>
    public static string Format(DateTimeOffset time, string format, Work work)
    {
        work.Charge(format.Length * 8L);
        StringBuilder text = new();
        for (int i = 0; i < format.Length; i++)
        {
            if (format[i] != '%' || i + 1 == format.Length)
            {
                text.Append(format[i]);
                continue;
            }
            // %-d and its like: without leading zeros, as the GNU library writes them.
            bool bare = format[i + 1] == '-' && i + 2 < format.Length;
            i += bare ? 2 : 1;
            string value = Directive(time, format[i]);
            text.Append(bare && value.TrimStart('0', ' ') is { Length: > 0 } trimmed ? trimmed : bare ? "0" : value);
        }
        return text.ToString();
    }

    private static string Directive(DateTimeOffset time, char directive)
    {
        return directive switch
        {
            'a' => Net("ddd"),
            'A' => Net("dddd"),
            'b' or 'h' => Net("MMM"),
            'B' => Net("MMMM"),
            'c' => Net("ddd MMM ") + Directive(time, 'e') + Net(" HH:mm:ss yyyy"),
            'd' => Net("dd"),
            'D' or 'x' => Net("MM'/'dd'/'yy"),
            'e' => time.Day.ToString(CultureInfo.InvariantCulture).PadLeft(2),
            'f' => Net("ffffff"),
            'F' => Net("yyyy-MM-dd"),
            'H' => Net("HH"),
            'I' => Net("hh"),
            'j' => time.DayOfYear.ToString("000", CultureInfo.InvariantCulture),
            'm' => Net("MM"),
            'M' => Net("mm"),
            'n' => "\n",
            'p' => time.Hour < 12 ? "AM" : "PM",
            'R' => Net("HH':'mm"),
            'S' => Net("ss"),
            't' => "\t",
            'T' or 'X' => Net("HH':'mm':'ss"),
            'u' => (time.DayOfWeek == DayOfWeek.Sunday ? 7 : (int)time.DayOfWeek).ToString(CultureInfo.InvariantCulture),
            'w' => ((int)time.DayOfWeek).ToString(CultureInfo.InvariantCulture),
            'y' => Net("yy"),
            'Y' => Net("yyyy"),
            'z' or 'Z' => "",
            '%' => "%",
            _ => throw new JinjaFault($"strftime_now does not know %{directive}"),
        };

        string Net(string format) => time.ToString(format, CultureInfo.InvariantCulture);
    }
}
