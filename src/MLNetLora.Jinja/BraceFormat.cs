using System.Globalization;

namespace MLNetLora.Jinja;

/// <summary>'{} of {name}'.format(…), without format specifications.</summary>
internal static class BraceFormat
{
    /// <summary>Fills a format in.</summary>
    public static TaggedText Apply(TaggedText format, Arguments arguments, Work work)
    {
        TaggedTextBuilder text = new(work);
        string source = format.Value;
        int automatic = 0;
        for (int at = 0; at < source.Length;)
        {
            int brace = source.AsSpan(at).IndexOfAny('{', '}');
            int end = brace < 0 ? source.Length : at + brace;
            text.Append(format.Slice(at, end - at));
            if (brace < 0)
            {
                break;
            }

            if (end + 1 < source.Length && source[end + 1] == source[end])
            {
                text.Append(format.Slice(end, 1));
                at = end + 2;
                continue;
            }
            int close = source[end] == '{' ? source.IndexOf('}', end) : -1;
            if (close < 0)
            {
                throw new JinjaFault("a format has a single brace");
            }

            string name = source[(end + 1)..close];
            text.Append(PythonText.Str(Value(name, arguments, ref automatic), work));
            at = close + 1;
        }
        return text.ToText();
    }

    private static object? Value(string name, Arguments arguments, ref int automatic)
    {
        int index = name.Length == 0 ? automatic++ : int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out int given) ? given : -1;
        if (index >= 0 ? index < arguments.Positional.Count : arguments.TryGet(int.MaxValue, name, out _))
        {
            return index >= 0 ? arguments.Positional[index] : arguments.Get(int.MaxValue, name);
        }

        throw new JinjaFault($"the format asks for '{{{name}}}', which is not given or not known");
    }
}
