using System.Globalization;
using System.Numerics;

namespace MLNetLora.Jinja;

/// <summary>A filter: what it is used on, and its arguments.</summary>
internal delegate object? FilterBody(Evaluator evaluator, object? value, Arguments arguments);

/// <summary>Jinja's filters on single values; those on lists are in <see cref="SequenceFilters"/>, those on texts in <see cref="TextFilters"/>.</summary>
internal static class Filters
{
    private static readonly Dictionary<string, FilterBody> All = new(StringComparer.Ordinal)
    {
        ["abs"] = (_, value, _) => Number(value) switch
        {
            long whole when whole != long.MinValue => (object)Math.Abs(whole),
            double fraction => Math.Abs(fraction),
            BigInteger large => BigInteger.Abs(large),
            _ => throw new JinjaFault("a number is too large"),
        },
        ["attr"] = (evaluator, value, arguments) => arguments.RequireText(0, "name").Value is var name && value is JinjaDict
            ? new Undefined(name)
            : Members.Attribute(value, name, evaluator.Work),
        ["d"] = Default,
        ["default"] = Default,
        ["float"] = (_, value, arguments) => ToFloat(value) ?? arguments.Get(0, "default") ?? 0.0,
        ["int"] = ToInteger,
        ["items"] = (evaluator, value, _) => value switch
        {
            JinjaDict dict => new JinjaList(Members.Items(dict, evaluator.Work).Items, ListKind.Generator),
            Undefined => new JinjaList([], ListKind.Generator),
            _ => throw new JinjaFault($"items needs a dictionary, not a {Python.TypeName(value)}"),
        },
        ["round"] = Round,
        ["safe"] = (evaluator, value, _) => PythonText.Str(value, evaluator.Work),
        ["string"] = (evaluator, value, _) => PythonText.Str(value, evaluator.Work),
        ["tojson"] = ToJson,
    };

    static Filters()
    {
        SequenceFilters.AddTo(All);
        TextFilters.AddTo(All);
    }

    /// <summary>Whether there is a filter of this name.</summary>
    public static bool Has(string name) => All.ContainsKey(name);

    /// <summary>Uses a filter on a value.</summary>
    public static object? Apply(Evaluator evaluator, string name, object? value, Arguments arguments)
    {
        if (!All.TryGetValue(name, out FilterBody? filter))
        {
            throw new JinjaFault($"the filter '{name}' is not known");
        }

        if (name is not ("default" or "d"))
        {
            (value as Undefined)?.Check();
        }

        return filter(evaluator, value, arguments);
    }

    /// <summary>The value of an attribute path such as function.name or 0.</summary>
    public static object? Path(object? value, object? path, Work work)
    {
        if (path is long index)
        {
            return Members.Item(value, index, work);
        }

        if (path is not TaggedText text)
        {
            throw new JinjaFault("an attribute is named by a text");
        }

        foreach (string part in text.Value.Split('.'))
        {
            bool isIndex = long.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out long number);
            value = Members.Item(value, isIndex ? number : new TaggedText(part, Origin.Template), work);
        }
        return value;
    }

    private static object? Default(Evaluator evaluator, object? value, Arguments arguments)
    {
        bool missing = value is Undefined || (arguments.Truth(1, "boolean", false) && !Python.IsTrue(value));
        return !missing ? value : arguments.TryGet(0, "default_value", out object? otherwise) ? otherwise : TaggedText.Empty;
    }

    private static TaggedText ToJson(Evaluator evaluator, object? value, Arguments arguments)
    {
        string? indent = arguments.Get(1, "indent") switch
        {
            null => null,
            TaggedText text => text.Value,
            long spaces and <= 100 => new string(' ', (int)Math.Max(0, spaces)),
            _ => throw new JinjaFault("indent of tojson is a text or a number up to 100"),
        };
        (string item, string key) = (indent is null ? ", " : ",", ": ");
        if (arguments.Get(2, "separators") is { } separators)
        {
            IReadOnlyList<object?> both = Python.Iterate(separators, evaluator.Work);
            if (both is not [TaggedText first, TaggedText second])
            {
                throw new JinjaFault("separators of tojson are two texts");
            }

            (item, key) = (first.Value, second.Value);
        }
        bool ensureAscii = arguments.Truth(0, "ensure_ascii", false);
        bool sortKeys = arguments.Truth(3, "sort_keys", false);
        return new JsonWriter(evaluator.Work, ensureAscii, indent, item, key, sortKeys).Write(value);
    }

    private static object? ToInteger(Evaluator evaluator, object? value, Arguments arguments)
    {
        if (value is long or BigInteger)
        {
            return value;
        }

        if (value is TaggedText text && long.TryParse(text.Value.Trim(), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long whole))
        {
            return whole;
        }

        return ToFloat(value) is { } number && Math.Abs(number) < 9e18 ? (long)number : arguments.TryGet(0, "default", out object? otherwise) ? otherwise : 0L;
    }

    private static double? ToFloat(object? value) =>
        Python.TryNumber(value, out object number) ? Python.ToDouble(number)
        : value is TaggedText text && double.TryParse(text.Value.Trim(), NumberStyles.Float, CultureInfo.InvariantCulture, out double parsed) ? parsed
        : null;

    private static object Round(Evaluator evaluator, object? value, Arguments arguments)
    {
        object number = Number(value);
        int precision = (int)Math.Clamp(arguments.Integer(0, "precision", 0), 0, 15);
        string method = arguments.Text(1, "method")?.Value ?? "common";
        if (method == "common")
        {
            return number is double fraction ? Math.Round(fraction, precision, MidpointRounding.ToEven) : number;
        }

        double scale = Math.Pow(10, precision);
        double scaled = Python.ToDouble(number) * scale;
        return method switch
        {
            "ceil" => Math.Ceiling(scaled) / scale,
            "floor" => Math.Floor(scaled) / scale,
            _ => throw new JinjaFault("round knows the methods common, ceil and floor"),
        };
    }

    private static object Number(object? value) => value is Undefined undefined ? throw undefined.Fault()
        : Python.TryNumber(value, out object number) ? number : throw new JinjaFault($"a number is needed, not a {Python.TypeName(value)}");
}
