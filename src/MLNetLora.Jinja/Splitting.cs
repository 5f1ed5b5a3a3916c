using System.Buffers;

namespace MLNetLora.Jinja;

/// <summary>Cuts texts up as Python does.</summary>
internal static class Splitting
{
    private static readonly SearchValues<char> LineEnds = SearchValues.Create("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029");

    /// <summary>split and rsplit.</summary>
    /// <param name="text">What is cut.</param>
    /// <param name="separator">Where; null for white space, which gives no empty parts.</param>
    /// <param name="limit">At most how often; below 0 for no limit.</param>
    /// <param name="fromEnd">Whether cutting begins at the end.</param>
    /// <param name="work">Pays for the parts.</param>
    public static JinjaList Split(TaggedText text, TaggedText? separator, long limit, bool fromEnd, Work work)
    {
        if (separator is { Length: 0 })
        {
            throw new JinjaFault("split: the separator is empty");
        }

        work.ChargeSearch(text.Length, separator?.Length ?? 0);
        List<object?> parts = [];
        if (separator is null)
        {
            Words(text, limit, fromEnd, parts);
        }
        else if (fromEnd)
        {
            Backwards(text, separator, limit, parts);
        }
        else
        {
            Forwards(text, separator, limit, parts);
        }

        work.Charge(parts.Count * 4L);
        if (fromEnd)
        {
            parts.Reverse();
        }

        return new JinjaList(parts);
    }

    /// <summary>splitlines.</summary>
    public static JinjaList Lines(TaggedText text, bool keepEnds, Work work)
    {
        List<object?> lines = [];
        string value = text.Value;
        for (int start = 0; start < value.Length;)
        {
            int end = value.AsSpan(start).IndexOfAny(LineEnds);
            end = end < 0 ? value.Length : start + end;
            int next = end >= value.Length ? end : end + 1 < value.Length && value[end] == '\r' && value[end + 1] == '\n' ? end + 2 : end + 1;
            lines.Add(text.Slice(start, (keepEnds ? next : end) - start));
            start = next;
        }
        work.Charge(text.Length + (lines.Count * 4L));
        return new JinjaList(lines);
    }

    /// <summary>partition and rpartition.</summary>
    public static JinjaList Partition(TaggedText text, TaggedText separator, bool fromEnd, Work work)
    {
        if (separator.Length == 0)
        {
            throw new JinjaFault("partition: the separator is empty");
        }

        work.ChargeSearch(text.Length, separator.Length);
        int at = fromEnd ? text.Value.LastIndexOf(separator.Value, StringComparison.Ordinal) : text.Value.IndexOf(separator.Value, StringComparison.Ordinal);
        int after = at + separator.Length;
        object?[] parts = at >= 0 ? [text.Slice(0, at), text.Slice(at, separator.Length), text.Slice(after, text.Length - after)]
            : fromEnd ? [TaggedText.Empty, TaggedText.Empty, text]
            : [text, TaggedText.Empty, TaggedText.Empty];
        return new JinjaList(parts, ListKind.Tuple);
    }

    private static void Forwards(TaggedText text, TaggedText separator, long limit, List<object?> parts)
    {
        int start = 0;
        while (limit < 0 || parts.Count < limit)
        {
            int at = text.Value.IndexOf(separator.Value, start, StringComparison.Ordinal);
            if (at < 0)
            {
                break;
            }

            parts.Add(text.Slice(start, at - start));
            start = at + separator.Length;
        }
        parts.Add(text.Slice(start, text.Length - start));
    }

    private static void Backwards(TaggedText text, TaggedText separator, long limit, List<object?> parts)
    {
        int end = text.Length;
        while (limit < 0 || parts.Count < limit)
        {
            int at = text.Value.AsSpan(0, end).LastIndexOf(separator.Value);
            if (at < 0)
            {
                break;
            }

            parts.Add(text.Slice(at + separator.Length, end - at - separator.Length));
            end = at;
        }
        parts.Add(text.Slice(0, end));
    }

    private static void Words(TaggedText text, long limit, bool fromEnd, List<object?> parts)
    {
        string value = text.Value;
        (int start, int end) = (0, value.Length);
        while (true)
        {
            while (start < end && JinjaLexer.IsWhiteSpace(value[fromEnd ? end - 1 : start]))
            {
                _ = fromEnd ? end-- : start++;
            }

            if (start == end)
            {
                return;
            }

            if (limit >= 0 && parts.Count >= limit)
            {
                parts.Add(text.Slice(start, end - start));
                return;
            }
            int other = fromEnd ? end : start;
            while (fromEnd ? other > start && !JinjaLexer.IsWhiteSpace(value[other - 1]) : other < end && !JinjaLexer.IsWhiteSpace(value[other]))
            {
                _ = fromEnd ? other-- : other++;
            }

            parts.Add(fromEnd ? text.Slice(other, end - other) : text.Slice(start, other - start));
            _ = fromEnd ? end = other : start = other;
        }
    }
}
