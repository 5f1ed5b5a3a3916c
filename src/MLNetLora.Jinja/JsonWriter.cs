using System.Globalization;
using System.Numerics;

namespace MLNetLora.Jinja;

/// <summary>transformers' tojson: Python's json.dumps with ensure_ascii=False, keys in their own order, <c>", "</c> and <c>": "</c> between things.</summary>
/// <param name="work">Pays for what is written.</param>
/// <param name="ensureAscii">Whether other characters than ASCII are escaped.</param>
/// <param name="indent">What a level is indented by; null for everything on one line.</param>
/// <param name="itemSeparator">Between elements.</param>
/// <param name="keySeparator">Between key and value.</param>
/// <param name="sortKeys">Whether keys are put in order.</param>
internal sealed class JsonWriter(Work work, bool ensureAscii, string? indent, string itemSeparator, string keySeparator, bool sortKeys)
{
    private const int DepthLimit = 150;

    private readonly TaggedTextBuilder _text = new(work);

    /// <summary>The JSON of a value.</summary>
    /// <exception cref="JinjaFault">It has none.</exception>
    public TaggedText Write(object? value)
    {
        Value(value, 0);
        return _text.ToText();
    }

    private void Value(object? value, int depth)
    {
        work.Charge(1);
        if (depth > DepthLimit)
        {
            throw new JinjaFault("a value is nested too deeply for JSON");
        }

        switch (value)
        {
            case TaggedText text:
                String(text);
                break;
            case null or bool or long or BigInteger or double:
                Plain(Scalar(value));
                break;
            case JinjaList { Kind: not ListKind.Generator } list:
                Container('[', ']', list.Items, item => Value(item, depth + 1), depth);
                break;
            case JinjaDict dict:
                IReadOnlyList<(object? Key, object? Value)> items = dict.Items;
                if (sortKeys)
                {
                    items = Sorting.Sort(items, (a, b) => Python.Compare(a.Key, b.Key, work), work);
                }

                Container('{', '}', items, item =>
                {
                    String(item.Key as TaggedText ?? new TaggedText(Scalar(item.Key), Origin.Template));
                    Plain(keySeparator);
                    Value(item.Value, depth + 1);
                }, depth);
                break;
            case Undefined undefined:
                throw undefined.Fault();
            default:
                throw new JinjaFault($"a {Python.TypeName(value)} has no JSON");
        }
    }

    private void Container<T>(char open, char close, IReadOnlyList<T> items, Action<T> write, int depth)
    {
        Plain([open]);
        for (int i = 0; i < items.Count; i++)
        {
            if (i > 0)
            {
                Plain(itemSeparator);
            }

            NewLine(depth + 1);
            write(items[i]);
        }
        if (items.Count > 0)
        {
            NewLine(depth);
        }

        Plain([close]);
    }

    private void NewLine(int depth)
    {
        if (indent is null)
        {
            return;
        }

        Plain("\n");
        for (int i = 0; i < depth; i++)
        {
            Plain(indent);
        }
    }

    private static string Scalar(object? value) => value switch
    {
        null => "null",
        bool truth => truth ? "true" : "false",
        double.PositiveInfinity => "Infinity",
        double.NegativeInfinity => "-Infinity",
        double.NaN => "NaN",
        _ => PythonText.Scalar(value),
    };

    private void String(TaggedText text)
    {
        Plain("\"");
        ReadOnlySpan<char> value = text.Value;
        ReadOnlySpan<TaggedText.Run> runs = text.Runs;
        for (int i = 0; i < runs.Length; i++)
        {
            int end = i + 1 < runs.Length ? runs[i + 1].Start : value.Length;
            Characters(value[runs[i].Start..end], runs[i].Origin);
        }
        Plain("\"");
    }

    private void Characters(ReadOnlySpan<char> value, Origin origin)
    {
        int start = 0;
        for (int i = 0; i < value.Length; i++)
        {
            string? escape = value[i] switch
            {
                '"' => "\\\"",
                '\\' => "\\\\",
                '\n' => "\\n",
                '\r' => "\\r",
                '\t' => "\\t",
                '\b' => "\\b",
                '\f' => "\\f",
                < ' ' => "\\u" + ((int)value[i]).ToString("x4", CultureInfo.InvariantCulture),
                > '\x7E' when ensureAscii && value[i] != '\x7F' => "\\u" + ((int)value[i]).ToString("x4", CultureInfo.InvariantCulture),
                _ => null,
            };
            if (escape is null)
            {
                continue;
            }

            _text.Append(value[start..i], origin).Append(escape, origin);
            start = i + 1;
        }
        _text.Append(value[start..], origin);
    }

    /// <summary>Punctuation and numbers are nobody's text; counted as data they can never complete a control token.</summary>
    private void Plain(ReadOnlySpan<char> text) => _text.Append(text, Origin.Data);
}
