using MLNetLora.Training;

namespace MLNetLora.Reports;

/// <summary>A point of a curve.</summary>
/// <param name="X">Optimizer step.</param>
/// <param name="Y">A figure of it.</param>
internal readonly record struct CurvePoint(double X, double Y);

/// <summary>What is drawn of a run: finite numbers over steps.</summary>
internal static class Curve
{
    /// <summary>Runs of fewer steps are drawn as they are.</summary>
    private const int SmoothFrom = 40;

    /// <summary>A figure of every step that has it.</summary>
    public static CurvePoint[] Of(IEnumerable<TrainingProgress> steps, Func<TrainingProgress, double?> figure) =>
    [
        .. from step in steps
           let value = figure(step)
           where value is { } number && double.IsFinite(number)
           select new CurvePoint(step.Step, value.Value),
    ];

    /// <summary>
    /// The curve as the eye would draw it: an exponential moving average over about a twentieth of the run, without the pull to zero at the beginning (the
    /// debiased average that TensorBoard shows). Empty for a curve that is too short for that.
    /// </summary>
    public static CurvePoint[] Smoothed(IReadOnlyList<CurvePoint> curve)
    {
        if (curve.Count < SmoothFrom)
        {
            return [];
        }

        double keep = 1 - (2 / (1 + Math.Clamp(curve.Count / 20.0, 2, 200)));
        (double sum, double weight) = (0, 0);
        CurvePoint[] smooth = new CurvePoint[curve.Count];
        for (int i = 0; i < smooth.Length; i++)
        {
            sum = (keep * sum) + ((1 - keep) * curve[i].Y);
            weight = (keep * weight) + (1 - keep);
            smooth[i] = new CurvePoint(curve[i].X, sum / weight);
        }

        return smooth;
    }

    /// <summary>The lowest and the highest point of each stretch, so that a long run has no more points than a picture can show, and no peak is lost.</summary>
    /// <param name="curve">The curve.</param>
    /// <param name="most">Most points, at least 4.</param>
    public static CurvePoint[] Thin(CurvePoint[] curve, int most)
    {
        if (curve.Length <= most)
        {
            return curve;
        }

        int stretches = (most - 2) / 2;
        List<CurvePoint> kept = [curve[0]];
        for (int i = 0; i < stretches; i++)
        {
            int from = 1 + (int)((long)i * (curve.Length - 2) / stretches);
            int to = 1 + (int)((long)(i + 1) * (curve.Length - 2) / stretches);
            CurvePoint[] stretch = curve[from..to];
            CurvePoint[] ends = [stretch.MinBy(point => point.Y), stretch.MaxBy(point => point.Y)];
            kept.AddRange(ends.Distinct().OrderBy(point => point.X));
        }

        kept.Add(curve[^1]);
        return [.. kept];
    }
}
