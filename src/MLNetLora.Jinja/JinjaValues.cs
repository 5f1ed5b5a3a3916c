using System.Collections;
using System.Globalization;
using System.Numerics;
using System.Text;
using System.Text.Json;

namespace MLNetLora.Jinja;

/// <summary>Turns .NET's values into those of a template. Every text says where it comes from.</summary>
internal static class JinjaValues
{
    private const int DepthLimit = 100;

    /// <summary>A variable that the caller gives: null, a truth value, number, text, JSON, or lists and dictionaries of these.</summary>
    /// <exception cref="JinjaException">It is something else.</exception>
    public static object? From(object? value, string name, int depth = 0)
    {
        if (depth > DepthLimit)
        {
            throw new JinjaException($"The template variable {name} is nested more than {DepthLimit} levels deep.", line: 0);
        }

        switch (value)
        {
            case null or bool or long or double or BigInteger or TaggedText or JinjaList or JinjaDict:
                return value;
            case int number:
                return (long)number;
            case float number:
                return (double)number;
            case string text:
                return new TaggedText(text, Origin.Data);
            case JsonElement json:
                return From(json, Origin.Data);
            case IEnumerable<KeyValuePair<string, object?>> pairs:
                JinjaDict dict = new();
                foreach ((string key, object? item) in pairs)
                {
                    dict.Set(new TaggedText(key, Origin.Data), From(item, name, depth + 1));
                }

                return dict;
            case IEnumerable items:
                return new JinjaList([.. items.Cast<object?>().Select(item => From(item, name, depth + 1))]);
            default:
                throw new JinjaException(
                    $"The template variable {name} is a {value.GetType().Name}. Give null, true or false, a number, a text, JSON, or lists and dictionaries of "
                    + "these.", line: 0);
        }
    }

    /// <summary>A JSON value.</summary>
    public static object? From(JsonElement value, Origin origin)
    {
        switch (value.ValueKind)
        {
            case JsonValueKind.Object:
                JinjaDict dict = new();
                foreach (JsonProperty property in value.EnumerateObject())
                {
                    dict.Set(new TaggedText(Name(property), origin), From(property.Value, origin));
                }

                return dict;
            case JsonValueKind.Array:
                return new JinjaList([.. value.EnumerateArray().Select(item => From(item, origin))]);
            case JsonValueKind.String:
                return new TaggedText(WellFormed(String(value)), origin);
            case JsonValueKind.Number:
                return Number(value);
            case JsonValueKind.True:
            case JsonValueKind.False:
                return value.GetBoolean();
            default:
                return null;
        }
    }

    /// <summary>How many characters and elements a value has.</summary>
    public static long Size(object? value) => value switch
    {
        TaggedText text => text.Length,
        JinjaList list => list.Items.Count + list.Items.Sum(Size),
        JinjaDict dict => dict.Items.Sum(item => Size(item.Key) + Size(item.Value)),
        _ => 1,
    };

    /// <summary>The text of a JSON string. System.Text.Json refuses an escaped surrogate without its partner, such as "\ud83d", which Python writes
    /// without complaint: it is kept.</summary>
    public static string String(JsonElement value)
    {
        try
        {
            return value.GetString()!;
        }
        catch (InvalidOperationException)
        {
            return Unescape(value.GetRawText().AsSpan()[1..^1]);
        }
    }

    private static string Unescape(ReadOnlySpan<char> raw)
    {
        StringBuilder text = new(raw.Length);
        for (int i = 0; i < raw.Length; i++)
        {
            if (raw[i] != '\\')
            {
                text.Append(raw[i]);
                continue;
            }

            char escape = raw[++i];
            if (escape == 'u')
            {
                text.Append((char)ushort.Parse(raw.Slice(i + 1, 4), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture));
                i += 4;
                continue;
            }

            text.Append(escape switch { 'n' => '\n', 'r' => '\r', 't' => '\t', 'b' => '\b', 'f' => '\f', char other => other });
        }

        return text.ToString();
    }

    /// <summary>Surrogates without a partner become U+FFFD, which is what UTF-8 makes of them.</summary>
    private static string WellFormed(string text) =>
        text.AsSpan().ContainsAnyInRange('\uD800', '\uDFFF') ? Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text)) : text;

    private static string Name(JsonProperty property)
    {
        try
        {
            return property.Name;
        }
        catch (InvalidOperationException error)
        {
            // An escaped surrogate without its partner, which System.Text.Json refuses in names.
            throw new JinjaException("A name in the JSON is not valid text.", line: 0, error);
        }
    }

    /// <summary>A number as Python's json module reads it: whole without point and exponent, however large.</summary>
    private static object Number(JsonElement value)
    {
        string digits = value.GetRawText();
        bool isFraction = digits.AsSpan().ContainsAny(".eE");
        if (!isFraction && value.TryGetInt64(out long whole))
        {
            return whole;
        }

        return isFraction || digits.Length > 4000 ? value.GetDouble() : BigInteger.Parse(digits, CultureInfo.InvariantCulture);
    }
}
