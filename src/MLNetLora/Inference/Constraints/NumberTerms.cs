using System.Globalization;

namespace MLNetLora.Inference.Constraints;

/// <summary>Numbers between bounds as they are written.</summary>
/// <param name="store">Makes the terms.</param>
internal sealed class NumberTerms(TermStore store)
{
    /// <summary>Most digits of an integer whose bounds ask for more than <see cref="JsonTerms.Digits"/>.</summary>
    private const int MostDigits = 18;

    private static readonly decimal s_usual = Power(JsonTerms.Digits) - 1;
    private static readonly decimal s_largest = Power(MostDigits) - 1;
    private static readonly decimal s_beyond = Power(MostDigits + 1); // no bound need be further away, and to this 1 can be added

    /// <summary>Integers.</summary>
    /// <param name="range">The bounds.</param>
    /// <param name="divisor">What they are multiples of; 1 for any.</param>
    public Term Integers(Range range, int divisor)
    {
        // A bound of its own is taken even where it is larger than what is written without.
        range = range with { Min = Near(range.Min), Max = Near(range.Max) };
        decimal min = range.Min is { } low ? Math.Ceiling(low) + (range.IsMinExcluded && low == Math.Ceiling(low) ? 1 : 0) : -s_usual;
        decimal max = range.Max is { } high ? Math.Floor(high) - (range.IsMaxExcluded && high == Math.Floor(high) ? 1 : 0) : s_usual;
        min = Math.Max(min, range.Min is null && max >= -s_usual ? -s_usual : -s_largest);
        max = Math.Min(max, range.Max is null && min <= s_usual ? s_usual : s_largest);
        Term positive = Naturals(Math.Max(0, min), max, divisor);
        Term negative = Naturals(Math.Max(1, -max), -min, divisor);
        return store.Union(positive, store.Sequence(store.Literal("-"), negative));
    }

    /// <summary>Numbers without an exponent.</summary>
    /// <param name="range">The bounds.</param>
    /// <param name="decimals">The digits behind the point; <see cref="TermStore.Empty"/> for no point.</param>
    public Term Decimals(Range range, Term decimals)
    {
        Bound min = new(Math.Max(range.Min ?? -s_usual, -s_largest), range.IsMinExcluded);
        Bound max = new(Math.Min(range.Max ?? s_usual, s_largest), range.IsMaxExcluded);
        Bound zero = new(0, false);
        Term positive = max.Value < 0 ? TermStore.Empty : Positive(min.Value < 0 ? zero : min, max, decimals);
        Term negative = min.Value >= 0
            ? TermStore.Empty
            : Positive(max.Value >= 0 ? new Bound(0, true) : new Bound(-max.Value, max.IsExcluded), new Bound(-min.Value, min.IsExcluded), decimals);
        return store.Union(positive, store.Sequence(store.Literal("-"), negative));
    }

    /// <summary>Any digits behind a point.</summary>
    /// <param name="most">Most of them.</param>
    public Term Fractions(int most) => store.Repeat(JsonTerms.Digit, 1, most);

    /// <summary>The digits behind the point of multiples of a part of one.</summary>
    /// <param name="parts">How many of them make one.</param>
    /// <param name="decimals">Digits that one part has behind the point.</param>
    public Term Multiples(int parts, int decimals) => store.Literals(Enumerable.Range(0, parts)
        .Select(part => Text(Power(decimals) + (Power(decimals) * part / parts))[1..]));

    /// <summary>Ten to a power.</summary>
    public static decimal Power(int exponent) => Enumerable.Repeat(10m, exponent).Aggregate(1m, (product, ten) => product * ten);

    private static decimal? Near(decimal? bound) => bound is { } given ? Math.Clamp(given, -s_beyond, s_beyond) : null;

    private static byte[] Text(decimal natural) => System.Text.Encoding.ASCII.GetBytes(natural.ToString("0", CultureInfo.InvariantCulture));

    private Term Naturals(decimal min, decimal max, int divisor)
    {
        Term all = Naturals(min, max);
        return divisor == 1 ? all : store.Intersection(all, store.Multiple(divisor, 0));
    }

    private Term Naturals(decimal min, decimal max)
    {
        List<Term> parts = [];
        for ((decimal low, decimal next) = (min, 10); low <= max; next *= 10)
        {
            if (low < next)
            {
                decimal high = Math.Min(max, next - 1);
                parts.Add(store.Between(Text(low), Text(high), (byte)'0', (byte)'9'));
                low = next;
            }
        }

        return store.Union(parts);
    }

    private Term Positive(Bound min, Bound max, Term decimals)
    {
        if (min.Value > max.Value || (min.Value == max.Value && (min.IsExcluded || max.IsExcluded)))
        {
            return TermStore.Empty;
        }

        (decimal low, decimal high) = (Math.Floor(min.Value), Math.Floor(max.Value));
        Bound atLeast = min with { Value = min.Value - low };
        Bound atMost = max with { Value = max.Value - high };
        if (low == high)
        {
            return store.Sequence(Naturals(low, low), Fraction(atLeast, atMost, decimals));
        }

        return store.Union(
            store.Sequence(Naturals(low, low), Fraction(atLeast, null, decimals)),
            store.Sequence(Naturals(low + 1, high - 1), Fraction(null, null, decimals)),
            store.Sequence(Naturals(high, high), Fraction(null, atMost, decimals)));
    }

    /// <summary>A point and digits behind it, or nothing, which is zero.</summary>
    private Term Fraction(Bound? min, Bound? max, Term decimals)
    {
        List<Term> rules = [decimals];
        bool isZeroIn = true;
        if (min is { } low)
        {
            rules.Add(AtLeast(Digits(low.Value), low.IsExcluded));
            isZeroIn = low is { Value: 0, IsExcluded: false };
        }

        if (max is { } high)
        {
            rules.Add(AtMost(Digits(high.Value), high.IsExcluded));
            isZeroIn &= high is not { Value: 0, IsExcluded: true };
        }

        Term digits = store.Intersection(rules);
        return store.Union(isZeroIn ? TermStore.Epsilon : TermStore.Empty, store.Sequence(store.Literal("."), digits));
    }

    /// <summary>The digits of a fraction behind the point, without zeros at the end.</summary>
    private static string Digits(decimal fraction) => fraction.ToString(CultureInfo.InvariantCulture) is var text && text.Contains('.')
        ? text[(text.IndexOf('.') + 1)..].TrimEnd('0')
        : "";

    private Term AtLeast(string digits, bool isExcluded)
    {
        Term any = store.Repeat(JsonTerms.Digit, 0, Term.Unlimited);
        Term rest = isExcluded ? store.Sequence(store.Repeat(store.Literal("0"), 0, Term.Unlimited), DigitsBetween('1', '9'), any) : any;
        for (int i = digits.Length - 1; i >= 0; i--)
        {
            rest = store.Union(
                store.Sequence(DigitsBetween((char)(digits[i] + 1), '9'), any), store.Sequence(DigitsBetween(digits[i], digits[i]), rest));
        }

        return rest;
    }

    private Term AtMost(string digits, bool isExcluded)
    {
        Term any = store.Repeat(JsonTerms.Digit, 0, Term.Unlimited);
        Term rest = isExcluded ? TermStore.Empty : store.Repeat(store.Literal("0"), 0, Term.Unlimited);
        for (int i = digits.Length - 1; i >= 0; i--)
        {
            // What ends here is less: digits follow in the bound, the last of which is not 0.
            rest = store.Union(
                TermStore.Epsilon,
                store.Sequence(DigitsBetween('0', (char)(digits[i] - 1)), any),
                store.Sequence(DigitsBetween(digits[i], digits[i]), rest));
        }

        return rest;
    }

    private Term DigitsBetween(char first, char last) =>
        first > last || last < '0' || first > '9' ? TermStore.Empty : store.Bytes(ByteSet.Range((byte)first, (byte)last));

    /// <summary>Bounds; null where there is none.</summary>
    internal readonly record struct Range(decimal? Min, bool IsMinExcluded, decimal? Max, bool IsMaxExcluded)
    {
        /// <summary>Whether there is any.</summary>
        public bool IsBounded => Min is not null || Max is not null;

        /// <summary>What is in both.</summary>
        public Range And(Range other)
        {
            bool isHigher = Min is null || other.Min > Min || (other.Min == Min && other.IsMinExcluded);
            bool isLower = Max is null || other.Max < Max || (other.Max == Max && other.IsMaxExcluded);
            (decimal? min, bool isMinExcluded) = isHigher ? (other.Min, other.IsMinExcluded) : (Min, IsMinExcluded);
            (decimal? max, bool isMaxExcluded) = isLower ? (other.Max, other.IsMaxExcluded) : (Max, IsMaxExcluded);
            return new Range(min, isMinExcluded, max, isMaxExcluded);
        }

        /// <summary>Whether no number is in both.</summary>
        public bool IsApartFrom(Range other) => And(other) is { } both
            && (both.Min > both.Max || (both.Min == both.Max && both.Min is not null && (both.IsMinExcluded || both.IsMaxExcluded)));
    }

    private readonly record struct Bound(decimal Value, bool IsExcluded);
}
