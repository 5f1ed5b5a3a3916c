using System.Numerics;

namespace MLNetLora.Jinja;

/// <summary>+ − * / // % and **, as in Python: // and % round down, / gives a fraction, texts are repeated and filled in.</summary>
internal static class Arithmetic
{
    /// <summary>A sign before a number.</summary>
    public static object Sign(string sign, object? value)
    {
        (value as Undefined)?.Check();
        return !Python.TryNumber(value, out object number) ? throw Unsuited(sign, value) : (sign, number) switch
        {
            ("+", _) => number,
            (_, double fraction) => -fraction,
            (_, long whole) when whole != long.MinValue => -whole,
            _ => throw TooLarge(),
        };
    }

    /// <summary>Two values and an operator.</summary>
    public static object? Apply(string text, object? left, object? right, Work work)
    {
        if (left is Undefined missing)
        {
            throw missing.Fault();
        }

        if (right is Undefined absent && !(text == "%" && left is TaggedText))
        {
            throw absent.Fault();
        }

        if (Python.TryNumber(left, out object a) && Python.TryNumber(right, out object b))
        {
            return Numbers(text, a, b);
        }

        switch (text)
        {
            case "+" when left is TaggedText one && right is TaggedText other:
                return new TaggedTextBuilder(work).Append(one).Append(other).ToText();
            case "+" when left is JinjaList one && right is JinjaList other && one.Kind == other.Kind && one.Kind != ListKind.Generator:
                work.Charge(one.Items.Count + other.Items.Count);
                return new JinjaList([.. one.Items, .. other.Items], one.Kind);
            case "*" when left is TaggedText or JinjaList && Python.TryNumber(right, out object times) && times is long count:
                return Repeat(left, count, work);
            case "*" when right is TaggedText or JinjaList && Python.TryNumber(left, out object times) && times is long count:
                return Repeat(right, count, work);
            case "%" when left is TaggedText format:
                return PercentFormat.Apply(format, right, work);
            default:
                throw new JinjaFault($"'{text}' does not join a {Python.TypeName(left)} and a {Python.TypeName(right)}");
        }
    }

    private static object Repeat(object? value, long count, Work work)
    {
        count = Math.Max(0, count);
        long size = value is TaggedText text ? text.Length : ((JinjaList)value!).Items.Count;
        // Paid for before it is made; the product of two numbers below 2^31 and 2^63 is bounded first.
        work.Charge(size == 0 ? 0 : Math.Min(count, long.MaxValue / 2 / size) * size);
        if (size == 0)
        {
            count = 0;
        }

        if (value is JinjaList list)
        {
            return new JinjaList([.. Enumerable.Range(0, (int)count).SelectMany(_ => list.Items)], list.Kind);
        }

        TaggedTextBuilder result = new(work);
        for (long i = 0; i < count; i++)
        {
            result.Append((TaggedText)value!);
        }

        return result.ToText();
    }

    private static object Numbers(string text, object left, object right)
    {
        if (left is BigInteger || right is BigInteger)
        {
            throw TooLarge();
        }

        try
        {
            return left is long a && right is long b ? Whole(text, a, b) : Fractions(text, Python.ToDouble(left), Python.ToDouble(right));
        }
        catch (OverflowException)
        {
            throw TooLarge();
        }
    }

    // Every branch is boxed by itself: the common type of long and double would be double.
    private static object Whole(string text, long a, long b) => text switch
    {
        "+" => (object)checked(a + b),
        "-" => checked(a - b),
        "*" => checked(a * b),
        "**" when b < 0 => Math.Pow(a, b),
        "**" => Power(a, b),
        "/" => b == 0 ? throw new JinjaFault("division by 0") : (double)a / b,
        _ when b == 0 => throw new JinjaFault("division by 0"),
        _ when b == -1 => text == "//" ? checked(-a) : 0L,
        "//" => (a / b) - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0),
        _ => a % b != 0 && (a < 0) != (b < 0) ? (a % b) + b : a % b,
    };

    private static long Power(long a, long b)
    {
        if (a is 0 or 1 || b == 0)
        {
            return b == 0 ? 1 : a;
        }

        if (a == -1)
        {
            return b % 2 == 0 ? 1 : -1;
        }

        long result = 1;
        for (long i = 0; i < b; i++)
        {
            result = checked(result * a);
        }

        return result;
    }

    private static double Fractions(string text, double a, double b)
    {
        if (b == 0 && text is "/" or "//" or "%" && b == 0)
        {
            throw new JinjaFault("division by 0");
        }

        return text switch
        {
            "+" => a + b,
            "-" => a - b,
            "*" => a * b,
            "/" => a / b,
            "//" => Math.Floor(a / b),
            "%" => a - (b * Math.Floor(a / b)),
            _ => Math.Pow(a, b),
        };
    }

    private static JinjaFault TooLarge() => new("a number is too large");

    private static JinjaFault Unsuited(string text, object? value) => new($"'{text}' does not suit a {Python.TypeName(value)}");
}
