using System.Globalization;
using System.Numerics;
using System.Text;

namespace MLNetLora.Jinja;

/// <summary>Values as text, spelled as Python's str and repr spell them.</summary>
internal static class PythonText
{
    private const int DepthLimit = 150;

    /// <summary>Python's str.</summary>
    public static TaggedText Str(object? value, Work work)
    {
        switch (value)
        {
            case TaggedText text:
                return text;
            case null:
                return new TaggedText("None", Origin.Template);
            case Undefined undefined:
                undefined.Check();
                return TaggedText.Empty;
            case bool or long or double or BigInteger:
                return new TaggedText(Scalar(value), Origin.Template);
            default:
                TaggedTextBuilder text2 = new(work);
                Repr(value, text2, work, 0);
                return text2.ToText();
        }
    }

    /// <summary>A truth value or number.</summary>
    public static string Scalar(object? value) => value switch
    {
        null => "None",
        bool truth => truth ? "True" : "False",
        long number => number.ToString(CultureInfo.InvariantCulture),
        BigInteger number => number.ToString(CultureInfo.InvariantCulture),
        _ => Float((double)value),
    };

    /// <summary>Python's repr of a float: the shortest digits, an exponent below 1e-4 and from 1e16 on.</summary>
    public static string Float(double value)
    {
        if (double.IsNaN(value))
        {
            return "nan";
        }

        if (double.IsInfinity(value))
        {
            return value > 0 ? "inf" : "-inf";
        }

        if (value == 0)
        {
            return double.IsNegative(value) ? "-0.0" : "0.0";
        }

        string[] parts = Math.Abs(value).ToString("R", CultureInfo.InvariantCulture).Split('E');
        string[] mantissaParts = parts[0].Split('.');
        string fraction = mantissaParts.Length > 1 ? mantissaParts[1] : "";
        int exponent = parts.Length > 1 ? int.Parse(parts[1], NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture) : 0;
        exponent += mantissaParts[0] != "0" ? mantissaParts[0].Length - 1 : -1 - (fraction.Length - fraction.TrimStart('0').Length);
        string significant = (mantissaParts[0] + fraction).Trim('0');
        string sign = value < 0 ? "-" : "";
        if (exponent is < -4 or >= 16)
        {
            string mantissa = significant.Length == 1 ? significant : $"{significant[0]}.{significant[1..]}";
            return string.Create(CultureInfo.InvariantCulture, $"{sign}{mantissa}e{(exponent < 0 ? '-' : '+')}{Math.Abs(exponent):00}");
        }
        if (exponent < 0)
        {
            return $"{sign}0.{new string('0', -exponent - 1)}{significant}";
        }

        if (significant.Length <= exponent + 1)
        {
            return $"{sign}{significant.PadRight(exponent + 1, '0')}.0";
        }

        return $"{sign}{significant[..(exponent + 1)]}.{significant[(exponent + 1)..]}";
    }

    /// <summary>Python's repr, appended.</summary>
    public static void Repr(object? value, TaggedTextBuilder text, Work work, int depth)
    {
        work.Charge(1);
        if (depth > DepthLimit)
        {
            throw new JinjaFault("a value is nested too deeply to be written");
        }

        switch (value)
        {
            case TaggedText literal:
                Quote(literal, text);
                break;
            case JinjaList { Kind: not ListKind.Generator } list:
                bool tuple = list.Kind == ListKind.Tuple;
                text.Append(tuple ? "(" : "[", Origin.Template);
                for (int i = 0; i < list.Items.Count; i++)
                {
                    if (i > 0)
                    {
                        text.Append(", ", Origin.Template);
                    }

                    Repr(list.Items[i], text, work, depth + 1);
                }
                text.Append(tuple ? (list.Items.Count == 1 ? ",)" : ")") : "]", Origin.Template);
                break;
            case JinjaDict dict:
                text.Append("{", Origin.Template);
                for (int i = 0; i < dict.Items.Count; i++)
                {
                    if (i > 0)
                    {
                        text.Append(", ", Origin.Template);
                    }

                    Repr(dict.Items[i].Key, text, work, depth + 1);
                    text.Append(": ", Origin.Template);
                    Repr(dict.Items[i].Value, text, work, depth + 1);
                }
                text.Append("}", Origin.Template);
                break;
            case Undefined undefined:
                undefined.Check();
                text.Append("Undefined", Origin.Template);
                break;
            case null or bool or long or double or BigInteger:
                text.Append(Scalar(value), Origin.Template);
                break;
            default:
                throw new JinjaFault($"a {Python.TypeName(value)} cannot be written out");
        }
    }

    private static void Quote(TaggedText literal, TaggedTextBuilder text)
    {
        char quote = literal.Value.Contains('\'', StringComparison.Ordinal) && !literal.Value.Contains('"', StringComparison.Ordinal) ? '"' : '\'';
        text.Append([quote], Origin.Template);
        for (int i = 0; i < literal.Length; i++)
        {
            char value = literal.Value[i];
            Origin origin = literal.LeastOf(i, 1);
            string? escape = value switch
            {
                '\\' => "\\\\",
                '\n' => "\\n",
                '\r' => "\\r",
                '\t' => "\\t",
                _ when value == quote => "\\" + quote,
                < ' ' or '\x7F' or (>= '\x80' and <= '\xA0') or '\xAD' => $"\\x{(int)value:x2}",
                _ => null,
            };
            if (escape is null)
            {
                text.Append([value], origin);
            }
            else
            {
                text.Append(escape, origin);
            }
        }
        text.Append([quote], Origin.Template);
    }
}
