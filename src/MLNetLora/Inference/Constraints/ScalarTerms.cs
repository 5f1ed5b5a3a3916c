using System.Text;
using System.Text.Json;

namespace MLNetLora.Inference.Constraints;

/// <summary>What shapes say of strings, numbers, true, false and null.</summary>
/// <param name="store">Makes the terms.</param>
internal sealed class ScalarTerms(TermStore store)
{
    private const int LargestDivisor = 10_000;
    private const int MostParts = 1000;

    private readonly NumberTerms _numbers = new(store);

    /// <summary>All scalars of a shape.</summary>
    public Term Of(Shape shape)
    {
        const JsonTypes All = JsonTypes.Any & ~(JsonTypes.Object | JsonTypes.Array);
        JsonTypes types = shape.Written;
        if ((types & All) == All && (shape.SpokenOf & All) == JsonTypes.None)
        {
            return JsonTerms.Scalar;
        }

        List<Term> parts = [];
        if (types.HasFlag(JsonTypes.Null))
        {
            parts.Add(JsonTerms.Null);
        }

        if (types.HasFlag(JsonTypes.Boolean))
        {
            parts.Add(JsonTerms.Boolean);
        }

        if (types.HasFlag(JsonTypes.String))
        {
            parts.Add(Text(shape));
        }

        if ((types & JsonTypes.Number) != JsonTypes.None)
        {
            parts.Add(Number(shape, types));
        }

        return store.Union(parts);
    }

    /// <summary>Whether a shape allows a scalar of its enum beside what else it says.</summary>
    /// <param name="shape">The shape.</param>
    /// <param name="value">The scalar, of a type that the shape allows.</param>
    /// <param name="strings">The strings that the shape allows.</param>
    public bool Allows(Shape shape, JsonElement value, Term strings)
    {
        if (value.ValueKind != JsonValueKind.Number)
        {
            return value.ValueKind != JsonValueKind.String || Encoding.UTF8.GetBytes(Write(value)).Aggregate(strings, store.Step).IsNullable;
        }

        return SchemaKeywords.Number(value) is not { } number
            ? !shape.Range.IsBounded && shape.Divisors.Count == 0
            : !shape.Range.IsApartFrom(new NumberTerms.Range(number, false, number, false)) && shape.Divisors.All(divisor => number % divisor == 0);
    }

    /// <summary>A scalar as it is written.</summary>
    public static string Write(JsonElement value) =>
        value.ValueKind == JsonValueKind.String ? JsonTerms.Quote(value.GetString()!) : value.GetRawText();

    /// <summary>The strings of a shape, as they are: without quotes, and with nothing escaped.</summary>
    public Term Unquoted(Shape shape)
    {
        if (!shape.Written.HasFlag(JsonTypes.String))
        {
            return TermStore.Empty;
        }

        Term all = Text(shape, CharacterSet.All.Utf8(store), set => set.Utf8(store));
        return shape.Values is null ? all : store.Intersection(all, store.Literals(shape.Values
            .Where(value => value.ValueKind == JsonValueKind.String)
            .Select(value => value.GetString()!).Distinct(StringComparer.Ordinal).Select(Encoding.UTF8.GetBytes)));
    }

    private Term Text(Shape shape) => shape.Patterns.Count == 0 && shape.MinLength == 0 && shape.MaxLength == Term.Unlimited
        ? JsonTerms.String
        : JsonTerms.Quoted(store, Text(shape, JsonTerms.Character, set => JsonTerms.Spell(store, set)));

    private Term Text(Shape shape, Term character, Func<CharacterSet, Term> spell)
    {
        (int min, int max) = (shape.MinLength, shape.MaxLength);
        if (min > max)
        {
            return TermStore.Empty;
        }

        if (shape.Patterns.Count == 0)
        {
            return store.Repeat(character, min, max);
        }

        bool hasLength = min > 0 || max != Term.Unlimited;
        if (hasLength && shape.Patterns.Count == 1 && PatternLength.Bound(shape.Patterns[0], min, max) is { } bounded)
        {
            return bounded.ToTerm(store, spell);
        }

        List<Term> parts = [.. shape.Patterns.Select(pattern => pattern.ToTerm(store, spell))];
        if (hasLength)
        {
            parts.Add(store.Repeat(spell(CharacterSet.All), min, max));
        }

        return store.Intersection(parts);
    }

    private Term Number(Shape shape, JsonTypes types)
    {
        if (!types.HasFlag(JsonTypes.Fraction))
        {
            int divisor = shape.Divisors.Aggregate(1, (common, next) => LeastCommonMultiple(shape, common, Numerator(next)));
            return divisor == 1 && !shape.Range.IsBounded ? JsonTerms.Integer : _numbers.Integers(shape.Range, divisor);
        }

        if (shape.Divisors.Count == 0)
        {
            return shape.Range.IsBounded ? _numbers.Decimals(shape.Range, _numbers.Fractions(JsonTerms.Digits)) : JsonTerms.Number;
        }

        if (shape.Divisors.All(divisor => divisor == decimal.Truncate(divisor)))
        {
            return Number(shape, JsonTypes.Integer);
        }

        decimal part = shape.Divisors[0];
        int decimals = part.Scale;
        if (shape.Divisors.Count > 1 || decimals > JsonTerms.Digits || 1 % part != 0 || (1 / part > MostParts && part != 1 / NumberTerms.Power(decimals)))
        {
            throw Schema.Refused(
                shape.Pointer + "/multipleOf",
                "cannot be held to beside numbers that are no integers; give a whole number or a part of one, as 0.01.",
                null);
        }

        Term fractions = part == 1 / NumberTerms.Power(decimals) ? _numbers.Fractions(decimals) : _numbers.Multiples((int)(1 / part), decimals);
        return _numbers.Decimals(shape.Range, fractions);
    }

    /// <summary>The integers that are multiples of a number are those of its numerator.</summary>
    private static decimal Numerator(decimal number)
    {
        (decimal numerator, decimal denominator) = (number * NumberTerms.Power(number.Scale), NumberTerms.Power(number.Scale));
        for (decimal x = numerator, y = denominator; ; (x, y) = (y, x % y))
        {
            if (y == 0)
            {
                return numerator / x;
            }
        }
    }

    private static int LeastCommonMultiple(Shape shape, int common, decimal next)
    {
        if (next > LargestDivisor)
        {
            throw TooLarge();
        }

        int divisor = (int)next;
        (int x, int y) = (common, divisor);
        while (y != 0)
        {
            (x, y) = (y, x % y);
        }

        long multiple = (long)common / x * divisor;
        return multiple <= LargestDivisor ? (int)multiple : throw TooLarge();

        ConstraintException TooLarge() => Schema.Refused(
            shape.Pointer + "/multipleOf", $"is above {LargestDivisor}, beyond which it cannot be held to.", null);
    }
}
