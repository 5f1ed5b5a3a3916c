namespace MLNetLora.Reports;

/// <summary>A range of numbers, and the round ones within it that are written beside it.</summary>
/// <param name="Low">Its lower end.</param>
/// <param name="High">Its upper end, above the lower one.</param>
/// <param name="Ticks">Round numbers within, ascending.</param>
internal sealed record Axis(double Low, double High, IReadOnlyList<double> Ticks)
{
    /// <summary>An axis for numbers.</summary>
    /// <param name="values">The numbers, at least one.</param>
    /// <param name="count">About how many ticks.</param>
    /// <param name="room">Share of the range that stays free above and below.</param>
    /// <param name="whole">Whether ticks are whole numbers.</param>
    public static Axis Of(IReadOnlyCollection<double> values, int count, double room = 0, bool whole = false)
    {
        (double low, double high) = (values.Min(), values.Max());
        if (high - low <= Math.Abs(high) * 1e-9)
        {
            double some = high == 0 ? 1 : Math.Abs(high) * 0.5; // all are the same, as a constant rate is
            (low, high) = (low - some, high + some);
        }

        (low, high) = (low - ((high - low) * room), high + ((high - low) * room));
        double step = RoundStep((high - low) / count);
        step = whole ? Math.Max(1, step) : step;
        double first = Math.Ceiling(low / step);
        double last = Math.Floor((high / step) + 1e-9);
        return new Axis(low, high, [.. Enumerable.Range(0, (int)(last - first) + 1).Select(i => (first + i) * step)]);
    }

    /// <summary>Where a number stands between the ends, from 0 to 1.</summary>
    public double Share(double value) => (value - Low) / (High - Low);

    /// <summary>1, 2 or 5 times a power of ten, at least as large.</summary>
    private static double RoundStep(double least)
    {
        double power = Math.Pow(10, Math.Floor(Math.Log10(least)));
        double digit = least / power;
        return power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
    }
}
