using System.Text;
using MLNetLora.Checkpoints;
using MLNetLora.Training;
using ScottPlot;
using ScottPlot.Plottables;
using SkiaSharp;

namespace MLNetLora.Reports;

/// <summary>A run as a picture: the loss of each step, its moving average, the validation loss, and the learning rate below.</summary>
public static class LossPicture
{
    private const int Width = 900;
    private const int LossHeight = 460;
    private const int RateHeight = 150;
    private const int Scale = 2; // for screens of today
    private const int MostPoints = 4000;
    private const float LeftWidth = 78; // the same for both parts, so that their steps stand below each other
    private const float RightWidth = 18;

    private static readonly Color s_training = Color.FromHex("#2563eb");
    private static readonly Color s_validation = Color.FromHex("#c2410c");
    private static readonly Color s_rate = Color.FromHex("#4d7c0f");

    /// <summary>Draws the steps of a run into a file, which is replaced when the new one is whole.</summary>
    /// <param name="path">The file: .png (1800 × 1220 pixels) or .svg (900 × 610).</param>
    /// <param name="history">The steps, such as <see cref="TrainingSummary.Steps"/>; what is no finite number is left out.</param>
    /// <param name="title">What stands above; null (default) for nothing.</param>
    /// <exception cref="OptionException">The file is to be of another kind, or there is no step to draw.</exception>
    public static void Save(string path, IReadOnlyList<TrainingProgress> history, string? title = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(path);
        ArgumentNullException.ThrowIfNull(history);
        string kind = Path.GetExtension(path).ToUpperInvariant();
        if (kind is not (".PNG" or ".SVG"))
        {
            throw new OptionException($"{nameof(path)} is {path}; a picture of a run is a .png or .svg file.");
        }

        if (history.Count == 0)
        {
            throw new OptionException($"{nameof(history)} has no step; there is nothing to draw into {path}.");
        }

        AtomicFile.Write(path, stream =>
        {
            if (kind == ".PNG")
            {
                using SKSurface surface = SKSurface.Create(new SKImageInfo(Width * Scale, (LossHeight + RateHeight) * Scale));
                Draw(surface.Canvas, history, title ?? "", Scale);
                using SKImage image = surface.Snapshot();
                using SKData data = image.Encode(SKEncodedImageFormat.Png, quality: 100);
                data.SaveTo(stream);
            }
            else
            {
                using MemoryStream bytes = new();
                using (SKCanvas canvas = SKSvgCanvas.Create(new SKRect(0, 0, Width, LossHeight + RateHeight), bytes))
                {
                    Draw(canvas, history, title ?? "", scale: 1);
                }

                // A browser that has not the font takes one of the same widths, not one with serifs.
                string svg = Encoding.UTF8.GetString(bytes.GetBuffer(), 0, (int)bytes.Length);
                svg = svg.Replace($"font-family=\"{LabelFont.Name}\"", $"font-family=\"{LabelFont.Name}, Verdana, sans-serif\"", StringComparison.Ordinal);
                stream.Write(Encoding.UTF8.GetBytes(svg));
            }
        });
    }

    private static void Draw(SKCanvas canvas, IReadOnlyList<TrainingProgress> history, string title, int scale)
    {
        canvas.Clear(SKColors.White);
        Plot losses = Losses(history);
        Plot rates = Rates(history);
        if (title.Length > 0)
        {
            losses.Title(title);
        }

        AxisLimits limits = losses.Axes.GetLimits();
        foreach (Plot plot in (Plot[])[losses, rates])
        {
            plot.Axes.SetLimitsX(limits.Left, limits.Right);
            plot.Axes.Left.MinimumSize = plot.Axes.Left.MaximumSize = LeftWidth;
            plot.Axes.Right.MinimumSize = plot.Axes.Right.MaximumSize = RightWidth;
            plot.Axes.Left.Label.Bold = plot.Axes.Bottom.Label.Bold = false;
            plot.Axes.Left.Label.FontSize = plot.Axes.Bottom.Label.FontSize = 14;
            LabelFont.Use(plot, title);
        }

        canvas.Scale(scale);
        Render(losses, 0, LossHeight);
        Render(rates, LossHeight, LossHeight + RateHeight);

        void Render(Plot plot, int top, int bottom)
        {
            using SKAutoCanvasRestore restore = new(canvas);
            canvas.ClipRect(new SKRect(0, top, Width, bottom)); // a plot clears the canvas first
            plot.Render(canvas, new PixelRect(0, Width, bottom, top));
        }
    }

    private static Plot Losses(IReadOnlyList<TrainingProgress> history)
    {
        Plot plot = new();
        CurvePoint[] training = Curve.Of(history, step => step.Loss);
        CurvePoint[] smooth = Curve.Smoothed(training);
        CurvePoint[] validation = Curve.Of(history, step => step.ValidationLoss);
        if (training.Length > 0)
        {
            Scatter raw = Add(plot, training, smooth.Length > 0 ? s_training.WithAlpha(0.3) : s_training, "training loss");
            raw.LineWidth = smooth.Length > 0 ? 1 : 2;
        }

        if (smooth.Length > 0)
        {
            Add(plot, smooth, s_training, "training loss, moving average").LineWidth = 2.5f;
        }

        if (validation.Length > 0)
        {
            Scatter line = Add(plot, validation, s_validation, "validation loss");
            line.LineWidth = 2;
            line.MarkerSize = 7;
        }

        plot.YLabel("loss (nats per token)");
        plot.Legend.Orientation = Orientation.Horizontal;
        plot.Legend.ShadowColor = plot.Legend.OutlineColor = Colors.Transparent;
        plot.Legend.TightHorizontalWrapping = true;
        plot.ShowLegend(Edge.Top).Padding = new PixelPadding(0); // beside the curves, since within it would hide a part of some
        return plot;
    }

    private static Plot Rates(IReadOnlyList<TrainingProgress> history)
    {
        Plot plot = new();
        CurvePoint[] rates = Curve.Of(history, step => step.LearningRate);
        if (rates.Length > 0)
        {
            Add(plot, rates, s_rate, "").LineWidth = 2;
        }

        plot.Axes.Left.TickGenerator = new ScottPlot.TickGenerators.NumericAutomatic
        {
            TargetTickCount = 3,
            LabelFormatter = Numbers.Short,
        };
        plot.YLabel("learning rate");
        plot.XLabel("optimizer step");
        return plot;
    }

    private static Scatter Add(Plot plot, CurvePoint[] curve, Color color, string name)
    {
        CurvePoint[] points = Curve.Thin(curve, MostPoints);
        Scatter line = plot.Add.Scatter(points.Select(point => point.X).ToArray(), points.Select(point => point.Y).ToArray(), color);
        line.MarkerSize = points.Length == 1 ? 7 : 0; // a line of one point would not be seen
        line.LegendText = name;
        return line;
    }
}
