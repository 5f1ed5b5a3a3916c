using System.Globalization;

namespace MLNetLora.Reports;

/// <summary>Numbers as people read them, in English.</summary>
internal static class Numbers
{
    /// <summary>Four digits, with a power of ten where it is small: 0.0025, 2e-4, 1,234.</summary>
    public static string Short(double value)
    {
        double size = Math.Abs(value);
        if (size is > 0 and < 1e-3 or >= 1e7)
        {
            string text = value.ToString("0.##e+0", CultureInfo.InvariantCulture);
            return text.Replace("e+", "e", StringComparison.Ordinal);
        }

        return size >= 1000
            ? value.ToString("N0", CultureInfo.InvariantCulture)
            : value.ToString("0.####", CultureInfo.InvariantCulture);
    }

    /// <summary>With thousands apart.</summary>
    public static string Whole(long value) => value.ToString("N0", CultureInfo.InvariantCulture);

    /// <summary>A time: 0:07, 12:30, 5:00:00.</summary>
    public static string Clock(TimeSpan time) => Training.ProgressLine.Clock(time);
}
