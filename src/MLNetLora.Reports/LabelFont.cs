using ScottPlot;
using SkiaSharp;

namespace MLNetLora.Reports;

/// <summary>The letters of pictures: on a machine without fonts, as many containers are, a picture would have none, and elsewhere it would look otherwise on
/// every machine.</summary>
internal sealed class LabelFont : IFontResolver
{
    /// <summary>The name under which ScottPlot knows it. SVG files name it too; browsers without it take the same metrics from Verdana.</summary>
    public const string Name = "DejaVu Sans";

    private static readonly SKData s_data = Read();

    private static readonly Lazy<bool> s_registered = new(() =>
    {
        ScottPlot.Fonts.FontResolvers.Insert(0, new LabelFont());
        return true;
    });

    private LabelFont()
    {
    }

    /// <summary>Makes all text of a plot be written in it; a title that it has not the letters for, in the machine's best font for that.</summary>
    public static void Use(Plot plot, string title)
    {
        _ = s_registered.Value;
        plot.Font.Set(Name);
        using SKTypeface own = SKTypeface.FromData(s_data);
        if (!own.ContainsGlyphs(title))
        {
            plot.Axes.Title.Label.FontName = ScottPlot.Fonts.Detect(title);
        }
    }

    /// <inheritdoc/>
    public SKTypeface? CreateTypeface(string fontName, FontWeight weight, FontSlant slant, FontSpacing spacing) =>
        fontName == Name ? SKTypeface.FromData(s_data) : null;

    /// <inheritdoc/>
    public SKTypeface? CreateTypeface(string fontName, bool bold, bool italic) => fontName == Name ? SKTypeface.FromData(s_data) : null;

    private static SKData Read()
    {
        using Stream stream = typeof(LabelFont).Assembly.GetManifestResourceStream("labels.ttf")!;
        return SKData.Create(stream);
    }
}
