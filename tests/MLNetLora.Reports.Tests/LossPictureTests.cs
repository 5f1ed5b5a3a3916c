using System.Xml.Linq;
using MLNetLora.Tests;
using MLNetLora.Tests.Training;
using MLNetLora.Training;
using SkiaSharp;

namespace MLNetLora.Reports.Tests;

/// <summary>Pictures of runs, looked at pixel by pixel and element by element.</summary>
public sealed class LossPictureTests : IDisposable
{
    private static readonly XNamespace s_svg = "http://www.w3.org/2000/svg";

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_png_has_curves_and_letters_on_white()
    {
        string path = _folder.File("new/loss.png");
        LossPicture.Save(path, SampleRun.Summary(200).Steps, "A run");

        using SKBitmap picture = SKBitmap.Decode(path);
        Assert.Equal((1800, 1220), (picture.Width, picture.Height));
        Assert.Equal(SKColors.White, picture.GetPixel(2, 2));
        Assert.True(Count(picture, new SKRectI(160, 150, 1760, 860), IsBlue) > 2000);
        Assert.True(Count(picture, new SKRectI(160, 150, 1760, 860), IsRed) > 1000);
        Assert.True(Count(picture, new SKRectI(160, 960, 1760, 1120), pixel => pixel.Green > pixel.Red + 20 && pixel.Green > pixel.Blue + 60) > 1000);

        // Letters, whatever fonts the machine has: numbers left of the axis and below it, names of the axes, the legend, the title.
        foreach (SKRectI area in (SKRectI[])[new(60, 150, 145, 860), new(160, 872, 1760, 900), new(2, 150, 50, 860), new(160, 1165, 1760, 1215),
            new(160, 60, 1760, 110), new(160, 10, 1760, 50)])
        {
            int dark = Count(picture, area, pixel => pixel.Red < 110 && pixel.Green < 110 && pixel.Blue < 110);
            Assert.True(dark > 150, $"{area}: {dark} dark pixels");
        }
    }

    [Fact]
    public void An_svg_has_the_same_in_text_and_lines()
    {
        string path = _folder.File("loss.svg");
        LossPicture.Save(path, SampleRun.Summary(200).Steps, "<A> & B");

        XElement root = XDocument.Load(path).Root!;
        Assert.Equal((s_svg + "svg", "900"), (root.Name, root.Attribute("width")!.Value));
        string[] texts = [.. root.Descendants(s_svg + "text").Select(text => text.Value.Trim())];
        string[] expected = ["<A> & B", "loss (nats per token)", "learning rate", "optimizer step", "training loss", "training loss, moving average",
            "validation loss", "100"];
        Assert.All(expected, text => Assert.Contains(text, texts));
        Assert.All(root.Descendants(s_svg + "text"), text => Assert.EndsWith(", sans-serif", text.Attribute("font-family")!.Value));
        Assert.Contains(root.Descendants(s_svg + "path"), path => path.Attribute("stroke")?.Value == "#2563EB");
    }

    [Fact]
    public void Without_validation_and_average_their_names_are_missing()
    {
        string path = _folder.File("loss.svg");
        LossPicture.Save(path, [.. SampleRun.Summary(4).Steps]);
        string[] texts = [.. XDocument.Load(path).Descendants(s_svg + "text").Select(text => text.Value.Trim())];
        Assert.Contains("training loss", texts);
        Assert.DoesNotContain("validation loss", texts);
        Assert.DoesNotContain("training loss, moving average", texts);
    }

    [Fact]
    public void One_step_and_steps_without_numbers_are_drawn_too()
    {
        string path = _folder.File("loss.png");
        LossPicture.Save(path, [SampleRun.Step(1)]);
        using (SKBitmap picture = SKBitmap.Decode(path))
        {
            Assert.True(Count(picture, new SKRectI(160, 100, 1760, 860), IsBlue) > 50);
        }

        LossPicture.Save(path, [SampleRun.Step(1) with { Loss = double.NaN, LearningRate = double.NaN }]);
        Assert.True(new FileInfo(path).Length > 1000);
    }

    [Fact]
    public void What_cannot_be_drawn_leaves_an_older_picture()
    {
        string path = _folder.File("loss.png");
        LossPicture.Save(path, [SampleRun.Step(1)]);
        byte[] before = File.ReadAllBytes(path);
        Assert.Contains("no step", Assert.Throws<OptionException>(() => LossPicture.Save(path, [])).Message, StringComparison.Ordinal);
        Assert.Contains(".png or .svg", Assert.Throws<OptionException>(() => LossPicture.Save(_folder.File("loss.jpg"), [SampleRun.Step(1)])).Message,
            StringComparison.Ordinal);
        Assert.Equal(before, File.ReadAllBytes(path));
        Assert.Equal([path], Directory.GetFiles(_folder.Path));
    }

    [Fact]
    public void Threads_may_draw_at_the_same_time()
    {
        IReadOnlyList<TrainingProgress> steps = SampleRun.Summary(100).Steps;
        Parallel.For(0, 8, i => LossPicture.Save(_folder.File($"{i}.png"), steps, "A run"));
        byte[] first = File.ReadAllBytes(_folder.File("0.png"));
        Assert.All(Enumerable.Range(1, 7), i => Assert.Equal(first, File.ReadAllBytes(_folder.File($"{i}.png"))));
    }

    private static bool IsBlue(SKColor pixel) => pixel.Blue > pixel.Red + 60;

    private static bool IsRed(SKColor pixel) => pixel.Red > pixel.Blue + 60;

    private static int Count(SKBitmap picture, SKRectI area, Func<SKColor, bool> isMeant)
    {
        int count = 0;
        for (int y = area.Top; y < area.Bottom; y++)
        {
            for (int x = area.Left; x < area.Right; x++)
            {
                count += isMeant(picture.GetPixel(x, y)) ? 1 : 0;
            }
        }

        return count;
    }
}
