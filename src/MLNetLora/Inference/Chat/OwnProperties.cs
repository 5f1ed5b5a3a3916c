using System.Collections;
using System.Globalization;
using System.Text.Json;
using Microsoft.Extensions.AI;

namespace MLNetLora.Inference;

/// <summary>
/// Settings that <see cref="ChatOptions"/> has no property for, from its AdditionalProperties. Keys are looked for with and without underscores and in any
/// case: min_p is MinP. Values may be JSON, as they are where the options came over a wire. Immutable.
/// </summary>
/// <param name="properties">The bag; null for none. Keys that mean nothing here belong to somebody else.</param>
internal sealed class OwnProperties(AdditionalPropertiesDictionary? properties)
{
    private readonly Dictionary<string, (string Key, object? Value)> _values = (properties ?? []).GroupBy(property => Plain(property.Key))
        .ToDictionary(group => group.Key, group => (group.First().Key, group.First().Value));

    /// <summary>A truth value; null where it is not given.</summary>
    public bool? Flag(string key) => Get(key, "true or false", value => value switch
    {
        bool flag => flag,
        JsonElement { ValueKind: JsonValueKind.True } => true,
        JsonElement { ValueKind: JsonValueKind.False } => false,
        _ => (bool?)null,
    });

    /// <summary>A number; null where it is not given.</summary>
    public float? Number(string key) => Get(key, "a number", Number);

    /// <summary>A whole number; null where it is not given.</summary>
    public int? Whole(string key) => Get(key, "a whole number", Whole);

    /// <summary>A list of whole numbers; null where it is not given.</summary>
    public IReadOnlyList<int>? Wholes(string key) => Get(key, "a list of whole numbers", value => value switch
    {
        JsonElement { ValueKind: JsonValueKind.Array } list => All(list.EnumerateArray().Select(item => Whole(item))),
        IEnumerable list and not string => All(list.Cast<object?>().Select(Whole)),
        _ => null,
    });

    /// <summary>Numbers by token ids; null where it is not given.</summary>
    public IReadOnlyDictionary<int, float>? NumbersById(string key) => Get(key, "numbers by token ids", value => value switch
    {
        JsonElement { ValueKind: JsonValueKind.Object } map => Map(map.EnumerateObject().Select(item => ((object?)item.Name, (object?)item.Value))),
        IDictionary map => Map(map.Keys.Cast<object?>().Select(id => (id, map[id!]))),
        _ => null,
    });

    private static string Plain(string key) => key.Replace("_", "", StringComparison.Ordinal).ToUpperInvariant();

    private static int[]? All(IEnumerable<int?> numbers)
    {
        int?[] all = [.. numbers];
        return Array.TrueForAll(all, number => number is not null) ? [.. all.Select(number => number!.Value)] : null;
    }

    private static Dictionary<int, float>? Map(IEnumerable<(object? Id, object? Number)> items)
    {
        Dictionary<int, float> map = [];
        foreach ((object? key, object? value) in items)
        {
            if (Id(key) is not { } id || Number(value) is not { } number)
            {
                return null;
            }

            map[id] = number;
        }

        return map;
    }

    /// <summary>A token's id, which is text where it is a key of JSON.</summary>
    private static int? Id(object? key) => key is not string text ? Whole(key)
        : int.TryParse(text, NumberStyles.Integer, CultureInfo.InvariantCulture, out int id) ? id
        : null;

    private static float? Number(object? value) => value switch
    {
        JsonElement { ValueKind: JsonValueKind.Number } json => json.TryGetSingle(out float number) ? number : null,
        float or double or decimal or int or long or short or byte or uint => Convert.ToSingle(value, CultureInfo.InvariantCulture),
        _ => null,
    };

    private static int? Whole(object? value) => value switch
    {
        int whole => whole,
        long or short or byte or uint =>
            Convert.ToInt64(value, CultureInfo.InvariantCulture) is >= int.MinValue and <= int.MaxValue and var whole ? (int)whole : null,
        JsonElement { ValueKind: JsonValueKind.Number } json => json.TryGetInt32(out int whole) ? whole : null,
        _ => null,
    };

    private T? Get<T>(string key, string what, Func<object?, T?> read)
    {
        if (!_values.TryGetValue(Plain(key), out (string Key, object? Value) found) || found.Value is null or JsonElement { ValueKind: JsonValueKind.Null })
        {
            return default;
        }

        return read(found.Value) ?? throw new OptionException($"AdditionalProperties[\"{found.Key}\"] is {found.Value}; it must be {what}.");
    }
}
