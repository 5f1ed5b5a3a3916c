using System.Numerics;

namespace MLNetLora.Jinja;

/// <summary>What values are in Python: true or false, equal, smaller, how many.</summary>
internal static class Python
{
    private const int DepthLimit = 150;

    /// <summary>The name of a value's type, for messages.</summary>
    public static string TypeName(object? value) => value switch
    {
        null => "none",
        bool => "truth value",
        long or BigInteger => "whole number",
        double => "number",
        TaggedText => "text",
        JinjaList { Kind: ListKind.Tuple } => "tuple",
        JinjaList { Kind: ListKind.Generator } => "generator",
        JinjaList => "list",
        JinjaDict => "dictionary",
        JinjaNamespace => "namespace",
        JinjaFunction => "function",
        Undefined => "missing value",
        _ => "loop",
    };

    /// <summary>Whether a value counts as true.</summary>
    public static bool IsTrue(object? value)
    {
        switch (value)
        {
            case null or Undefined:
                (value as Undefined)?.Check();
                return false;
            case bool truth:
                return truth;
            case long number:
                return number != 0;
            case double number:
                return number != 0;
            case BigInteger number:
                return !number.IsZero;
            case TaggedText text:
                return text.Length > 0;
            case JinjaList list:
                return list.Items.Count > 0 || list.Kind == ListKind.Generator;
            case JinjaDict dict:
                return dict.Items.Count > 0;
            default:
                return true;
        }
    }

    /// <summary>A value as a number, truth values as 0 and 1; false for everything else.</summary>
    public static bool TryNumber(object? value, out object number)
    {
        number = value is bool truth ? (truth ? 1L : 0L) : value ?? "";
        return number is long or double or BigInteger;
    }

    /// <summary>A number as a double.</summary>
    public static double ToDouble(object number) => number switch { long whole => whole, BigInteger large => (double)large, _ => (double)number };

    /// <summary>Python's ==.</summary>
    public static bool AreEqual(object? left, object? right, Work work, int depth = 0)
    {
        work.Charge(1);
        if (depth > DepthLimit)
        {
            throw new JinjaFault("values are nested too deeply to be compared");
        }

        if (TryNumber(left, out object a) && TryNumber(right, out object b))
        {
            return CompareNumbers(a, b) == 0;
        }

        switch (left, right)
        {
            case (TaggedText one, TaggedText other):
                work.ChargeComparison(one.Length, other.Length);
                return string.Equals(one.Value, other.Value, StringComparison.Ordinal);
            case (JinjaList one, JinjaList other):
                if (one.Kind != other.Kind || one.Items.Count != other.Items.Count)
                {
                    return false;
                }

                for (int i = 0; i < one.Items.Count; i++)
                {
                    if (!AreEqual(one.Items[i], other.Items[i], work, depth + 1))
                    {
                        return false;
                    }
                }
                return true;
            case (JinjaDict one, JinjaDict other):
                return one.Items.Count == other.Items.Count
                    && one.Items.All(item => other.TryGet(item.Key, out object? value) && AreEqual(item.Value, value, work, depth + 1));
            case (Undefined one, Undefined other):
                one.Check();
                other.Check();
                return true;
            default:
                (left as Undefined)?.Check();
                (right as Undefined)?.Check();
                return ReferenceEquals(left, right);
        }
    }

    /// <summary>Python's order: below 0 where the left comes first.</summary>
    /// <exception cref="JinjaFault">The values have no order.</exception>
    public static int Compare(object? left, object? right, Work work, int depth = 0)
    {
        work.Charge(1);
        if (depth > DepthLimit)
        {
            throw new JinjaFault("values are nested too deeply to be compared");
        }

        if (TryNumber(left, out object a) && TryNumber(right, out object b))
        {
            return CompareNumbers(a, b);
        }

        switch (left, right)
        {
            case (TaggedText one, TaggedText other):
                work.ChargeComparison(one.Length, other.Length);
                return CompareCodePoints(one.Value, other.Value);
            case (JinjaList one, JinjaList other) when one.Kind == other.Kind && one.Kind != ListKind.Generator:
                for (int i = 0; i < Math.Min(one.Items.Count, other.Items.Count); i++)
                {
                    if (!AreEqual(one.Items[i], other.Items[i], work, depth + 1))
                    {
                        return Compare(one.Items[i], other.Items[i], work, depth + 1);
                    }
                }
                return one.Items.Count.CompareTo(other.Items.Count);
            case (Undefined undefined, _):
                throw undefined.Fault();
            case (_, Undefined undefined):
                throw undefined.Fault();
            default:
                throw new JinjaFault($"a {TypeName(left)} and a {TypeName(right)} have no order");
        }
    }

    /// <summary>Python's in.</summary>
    public static bool Contains(object? container, object? value, Work work)
    {
        switch (container)
        {
            case TaggedText text:
                TaggedText part = value as TaggedText ?? throw new JinjaFault($"'in' a text asks for a text, not for a {TypeName(value)}");
                work.ChargeSearch(text.Length, part.Length);
                return text.Value.Contains(part.Value, StringComparison.Ordinal);
            case JinjaDict dict:
                return value is not (JinjaList or JinjaDict) && dict.TryGet(value, out _);
            default:
                return Iterate(container, work).Any(item => AreEqual(item, value, work));
        }
    }

    /// <summary>The elements of a value that can be looped over: a list's elements, a dictionary's keys, a text's characters.</summary>
    /// <exception cref="JinjaFault">It cannot.</exception>
    public static IReadOnlyList<object?> Iterate(object? value, Work work)
    {
        switch (value)
        {
            case JinjaList list:
                work.Charge(list.Items.Count);
                return list.Items;
            case JinjaDict dict:
                work.Charge(dict.Items.Count);
                return [.. dict.Items.Select(item => item.Key)];
            case TaggedText text:
                work.Charge(text.Length * 4L);
                return [.. CodePoints.Split(text)];
            case Undefined undefined:
                undefined.Check();
                return [];
            default:
                throw new JinjaFault($"a {TypeName(value)} has no elements to loop over");
        }
    }

    /// <summary>How many elements or characters a value has.</summary>
    /// <exception cref="JinjaFault">It has none.</exception>
    public static long Count(object? value, Work work)
    {
        switch (value)
        {
            case TaggedText text:
                work.Charge(text.Length);
                return CodePoints.Count(text.Value);
            case JinjaList { Kind: not ListKind.Generator } list:
                return list.Items.Count;
            case JinjaDict dict:
                return dict.Items.Count;
            case Undefined undefined:
                undefined.Check();
                return 0;
            default:
                throw new JinjaFault($"a {TypeName(value)} has no length");
        }
    }

    /// <summary>Order by code points, which UTF-16 order is not above U+FFFF.</summary>
    public static int CompareCodePoints(string left, string right)
    {
        int at = left.AsSpan().CommonPrefixLength(right);
        if (at == left.Length || at == right.Length)
        {
            return left.Length.CompareTo(right.Length);
        }

        return Fix(left[at]).CompareTo(Fix(right[at]));

        // Surrogates stand for characters above all others.
        static int Fix(char value) => char.IsSurrogate(value) ? value + 0x10000 : value;
    }

    private static int CompareNumbers(object left, object right)
    {
        if (left is long a && right is long b)
        {
            return a.CompareTo(b);
        }

        if (left is double || right is double)
        {
            double x = ToDouble(left);
            double y = ToDouble(right);
            return x == y ? 0 : x < y ? -1 : 1;
        }
        return ToBig(left).CompareTo(ToBig(right));

        static BigInteger ToBig(object number) => number is long whole ? whole : (BigInteger)number;
    }
}
