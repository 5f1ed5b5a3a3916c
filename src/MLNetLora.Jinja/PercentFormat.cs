using System.Globalization;

namespace MLNetLora.Jinja;

/// <summary>'%s is %d' % (…), with the conversions that templates use: s, r, d, i, f, x and %%.</summary>
internal static class PercentFormat
{
    private const int WidthLimit = 1000;

    /// <summary>Fills a format in.</summary>
    public static TaggedText Apply(TaggedText format, object? values, Work work)
    {
        IReadOnlyList<object?> arguments = values is JinjaList { Kind: ListKind.Tuple } tuple ? tuple.Items : [values];
        JinjaDict? named = values as JinjaDict;
        TaggedTextBuilder text = new(work);
        string source = format.Value;
        int used = 0;
        int at = 0;
        while (at < source.Length)
        {
            int percent = source.IndexOf('%', at);
            text.Append(format.Slice(at, (percent < 0 ? source.Length : percent) - at));
            if (percent < 0)
            {
                break;
            }

            at = percent + 1;
            if (at < source.Length && source[at] == '%')
            {
                text.Append(format.Slice(at++, 1));
                continue;
            }
            string? key = null;
            if (named is not null && at < source.Length && source[at] == '(')
            {
                int close = source.IndexOf(')', at);
                key = close < 0 ? throw new JinjaFault("a format's ( is not closed") : source[(at + 1)..close];
                at = close + 1;
            }
            bool left = false;
            bool zero = false;
            for (; at < source.Length && source[at] is '-' or '0' or '+' or ' ' or '#'; at++)
            {
                left |= source[at] == '-';
                zero |= source[at] == '0';
            }
            int width = Number(source, ref at);
            int? precision = null;
            if (at < source.Length && source[at] == '.')
            {
                at++;
                precision = Number(source, ref at);
            }
            if (at >= source.Length)
            {
                throw new JinjaFault("a format ends behind %");
            }

            object? value;
            if (key is not null)
            {
                value = named!.TryGet(key, out object? found) ? found : throw new JinjaFault($"the format asks for '{key}', which is not given");
            }
            else
            {
                value = used < arguments.Count ? arguments[used++] : throw new JinjaFault("a format asks for more values than it gets");
            }

            TaggedText piece = Convert(source[at++], value, precision, work);
            int padding = width - CodePoints.Count(piece.Value);
            string pad = padding > 0 ? new string(zero && !left ? '0' : ' ', padding) : "";
            if (!left)
            {
                text.Append(pad, Origin.Template);
            }

            text.Append(piece);
            if (left)
            {
                text.Append(pad, Origin.Template);
            }
        }
        return used < arguments.Count && named is null ? throw new JinjaFault("a format gets more values than it asks for") : text.ToText();
    }

    private static TaggedText Convert(char conversion, object? value, int? precision, Work work)
    {
        switch (conversion)
        {
            case 's':
                TaggedText text = PythonText.Str(value, work);
                return precision is { } limit ? text.Slice(0, CodePoints.IndexOf(text.Value, limit)) : text;
            case 'r':
                TaggedTextBuilder repr = new(work);
                PythonText.Repr(value, repr, work, 0);
                return repr.ToText();
        }
        if (conversion is not ('d' or 'i' or 'x' or 'f'))
        {
            throw new JinjaFault($"the format %{conversion} is not known");
        }

        (value as Undefined)?.Check();
        if (!Python.TryNumber(value, out object number))
        {
            throw new JinjaFault($"the format %{conversion} needs a number, not a {Python.TypeName(value)}");
        }

        double fraction = Python.ToDouble(number);
        string digits = conversion == 'f' ? fraction.ToString("F" + (precision ?? 6), CultureInfo.InvariantCulture)
            : number is long hexadecimal && conversion == 'x' ? hexadecimal.ToString("x", CultureInfo.InvariantCulture)
            : number is not double ? PythonText.Scalar(number)
            : Math.Abs(fraction) < 1e18 ? ((long)fraction).ToString(CultureInfo.InvariantCulture) : throw new JinjaFault("a number is too large");
        return new TaggedText(digits, Origin.Template);
    }

    private static int Number(string source, ref int at)
    {
        int number = 0;
        for (; at < source.Length && char.IsAsciiDigit(source[at]); at++)
        {
            number = (number * 10) + source[at] - '0';
            if (number > WidthLimit)
            {
                throw new JinjaFault($"a format's width is above {WidthLimit}");
            }
        }
        return number;
    }
}
