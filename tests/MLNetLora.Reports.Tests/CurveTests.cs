using MLNetLora.Tests.Training;

namespace MLNetLora.Reports.Tests;

/// <summary>What is drawn: averages, thinned curves, axes, short numbers.</summary>
public class CurveTests
{
    [Fact]
    public void A_curve_has_the_finite_figures()
    {
        CurvePoint[] curve = Curve.Of([SampleRun.Step(1), SampleRun.Skipped(2), SampleRun.Step(5)], step => step.GradientNorm);
        Assert.Equal([new(1, 1.5), new(5, 5.5)], curve);
        Assert.Equal([new(5, 0.8)], Curve.Of([SampleRun.Step(1), SampleRun.Step(5)], step => step.ValidationLoss));
    }

    [Fact]
    public void An_average_follows_and_is_calmer()
    {
        CurvePoint[] constant = [.. Enumerable.Range(1, 100).Select(x => new CurvePoint(x, 3))];
        Assert.All(Curve.Smoothed(constant), point => Assert.Equal(3, point.Y, 1e-12)); // from the first point on: not drawn to zero
        CurvePoint[] noisy = [.. Enumerable.Range(1, 100).Select(x => new CurvePoint(x, 3 + (x % 2)))];
        CurvePoint[] smooth = Curve.Smoothed(noisy);
        Assert.Equal(noisy.Select(point => point.X), smooth.Select(point => point.X));
        Assert.All(smooth[10..], point => Assert.InRange(point.Y, 3.3, 3.7));
        Assert.Empty(Curve.Smoothed(noisy[..39]));
    }

    [Fact]
    public void A_long_curve_keeps_its_ends_and_its_peaks()
    {
        CurvePoint[] curve = [.. Enumerable.Range(0, 100_000).Select(x => new CurvePoint(x, x == 77_777 ? 50 : x == 33_333 ? -50 : Math.Sin(x)))];
        CurvePoint[] thin = Curve.Thin(curve, 1000);
        Assert.InRange(thin.Length, 900, 1000);
        Assert.Equal((curve[0], curve[^1]), (thin[0], thin[^1]));
        Assert.Contains(curve[77_777], thin);
        Assert.Contains(curve[33_333], thin);
        Assert.Equal(thin.OrderBy(point => point.X), thin);
        Assert.Same(curve, Curve.Thin(curve, 100_000));
    }

    [Theory]
    [InlineData(0, 180, 5, new[] { 0.0, 50, 100, 150 })]
    [InlineData(0, 3, 5, new[] { 0.0, 1, 2, 3 })]
    [InlineData(0.2, 1.1, 4, new[] { 0.5, 1.0 })]
    [InlineData(-3, 3, 3, new[] { -2.0, 0, 2 })]
    public void Ticks_are_round_and_within(double low, double high, int count, double[] expected)
    {
        Axis axis = Axis.Of([low, high], count, whole: high == 3 && low == 0);
        Assert.Equal(expected, axis.Ticks.Select(tick => Math.Round(tick, 9)));
        Assert.All(axis.Ticks, tick => Assert.InRange(axis.Share(tick), -1e-9, 1 + 1e-9));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(2e-4)]
    [InlineData(-7)]
    public void Equal_numbers_stand_in_the_middle(double value) => Assert.Equal(0.5, Axis.Of([value, value], 4).Share(value), 1e-9);

    [Theory]
    [InlineData(0, "0")]
    [InlineData(2e-4, "2e-4")]
    [InlineData(1.234e-5, "1.23e-5")]
    [InlineData(0.0025, "0.0025")]
    [InlineData(3.14159, "3.1416")]
    [InlineData(-12.5, "-12.5")]
    [InlineData(12345.6, "12,346")]
    [InlineData(12345678, "1.23e7")]
    public void Numbers_are_short(double value, string expected) => Assert.Equal(expected, Numbers.Short(value));
}
