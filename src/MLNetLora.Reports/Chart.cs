using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace MLNetLora.Reports;

/// <summary>A curve of a chart.</summary>
/// <param name="Name">What it is called.</param>
/// <param name="Style">The class that gives it its colour and width: raw, main, second.</param>
/// <param name="Points">Its points, ascending; at least one.</param>
/// <param name="Dots">Whether its points are marked.</param>
internal sealed record ChartCurve(string Name, string Style, CurvePoint[] Points, bool Dots = false);

/// <summary>
/// A chart as HTML: curves are an SVG picture that is stretched to whatever room there is, with lines that keep their width; numbers and names are text of the
/// page beside it, of one size on wide and narrow screens and in the colours of the page. That is what a picture of a plotting library could not be.
/// </summary>
internal static class Chart
{
    private const int Size = 1000; // units of the picture, in both directions
    private const int MostPoints = 1200;

    /// <summary>Writes a chart; nothing where no curve has a point.</summary>
    /// <param name="html">Where to.</param>
    /// <param name="title">What it shows.</param>
    /// <param name="curves">Its curves; those without points are left out.</param>
    /// <param name="total">Steps of the whole run, to which the chart reaches.</param>
    /// <param name="large">Whether it is the main one.</param>
    public static void Write(StringBuilder html, string title, IEnumerable<ChartCurve> curves, int total, bool large = false)
    {
        ChartCurve[] shown = [.. curves.Where(curve => curve.Points.Length > 0)];
        if (shown.Length == 0)
        {
            return;
        }

        // From step 0, so that the first step is no point on the edge.
        Axis x = Axis.Of([0, Math.Max(total, shown.Max(curve => curve.Points[^1].X))], 5, whole: true);
        Axis y = Axis.Of([.. shown.SelectMany(curve => curve.Points).Select(point => point.Y)], large ? 6 : 3, room: 0.06);
        string kind = large ? "chart large" : "chart";
        Invariant(html, $"<figure class=\"{kind}\"><figcaption><span class=\"name\">{Escape(title)}</span>");
        foreach (ChartCurve curve in shown.Where(_ => shown.Length > 1))
        {
            html.Append("<span class=\"key ").Append(curve.Style).Append("\">").Append(Escape(curve.Name)).Append("</span>");
        }

        html.Append("</figcaption><div class=\"plot\">");
        Invariant(html, $"<svg viewBox=\"0 0 {Size} {Size}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{Escape(title)} over steps\">");
        html.Append("<path class=\"grid\" d=\"");
        foreach (double tick in y.Ticks)
        {
            Invariant(html, $"M0 {Down(y, tick):0.#}H{Size}");
        }

        html.Append("\"/>");
        foreach (ChartCurve curve in shown)
        {
            Line(html, curve, x, y);
        }

        html.Append("</svg>");
        foreach (double tick in y.Ticks)
        {
            Invariant(html, $"<span class=\"y\" style=\"top:{Down(y, tick) / Size:0.##%}\">{Numbers.Short(tick)}</span>");
        }

        foreach (double tick in x.Ticks)
        {
            Invariant(html, $"<span class=\"x\" style=\"left:{x.Share(tick):0.##%}\">{Numbers.Short(tick)}</span>");
        }

        html.Append("<div class=\"cursor\" hidden></div><div class=\"tip\" hidden></div>");
        html.Append("<script type=\"application/json\">").Append(Data(shown, x)).Append("</script></div></figure>\n");
    }

    /// <summary>Text that stays text in HTML, in attributes too.</summary>
    public static string Escape(string text) => HtmlEncoder.Default.Encode(text);

    private static void Line(StringBuilder html, ChartCurve curve, Axis x, Axis y)
    {
        CurvePoint[] points = Curve.Thin(curve.Points, MostPoints);
        html.Append("<path class=\"").Append(curve.Style).Append("\" d=\"");
        foreach ((int i, CurvePoint point) in points.Index())
        {
            Invariant(html, $"{(i == 0 ? 'M' : 'L')}{x.Share(point.X) * Size:0.#} {Down(y, point.Y):0.#}");
        }

        html.Append("\"/>");
        if (curve.Dots || points.Length == 1)
        {
            // Lines of no length with round ends: circles would be stretched with the picture.
            html.Append("<path class=\"dots ").Append(curve.Style).Append("\" d=\"");
            foreach (CurvePoint point in points)
            {
                Invariant(html, $"M{x.Share(point.X) * Size:0.#} {Down(y, point.Y):0.#}h0");
            }

            html.Append("\"/>");
        }
    }

    /// <summary>What the script of the page shows under the pointer.</summary>
    private static string Data(ChartCurve[] curves, Axis x) => JsonSerializer.Serialize(new
    {
        low = x.Low,
        high = x.High,
        curves = curves.Select(curve =>
        {
            CurvePoint[] points = Curve.Thin(curve.Points, MostPoints);
            return new { name = curve.Name, x = points.Select(point => point.X), y = points.Select(point => Numbers.Short(point.Y)) };
        }),
    });

    /// <summary>Where a number stands in the picture, whose zero is above.</summary>
    private static double Down(Axis y, double value) => (1 - y.Share(value)) * Size;

    private static void Invariant(StringBuilder html, FormattableString text) => html.Append(text.ToString(CultureInfo.InvariantCulture));
}
