using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using MLNetLora.Training;

namespace MLNetLora.Reports;

/// <summary>The page of a run. It asks nothing of any network, and its policy forbids it to: what a data set or an answer holds stays text.</summary>
internal static class RunPage
{
    private static readonly string s_style = Read("run.css");
    private static readonly string s_script = Read("run.js");
    private static readonly string s_policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-"
        + Convert.ToBase64String(SHA256.HashData(Encoding.UTF8.GetBytes(s_script))) + "'";

    /// <summary>The page.</summary>
    public static string Of(RunRecord run)
    {
        StringBuilder html = new();
        string name = run.Start is { ModelPath.Length: > 0 } start ? Name(start.ModelPath) : "Training run";
        html.Append("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
        html.Append("<meta http-equiv=\"Content-Security-Policy\" content=\"").Append(s_policy).Append("\">");
        html.Append("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
        html.Append(run.IsLive ? "<meta http-equiv=\"refresh\" content=\"30\">" : "");
        html.Append("<title>").Append(Escape(name)).Append("</title><style>").Append(s_style).Append("</style></head><body><main>\n");
        Head(html, run, name);
        Figures(html, run);
        Curves(html, run);
        Warnings(html, run);
        Samples(html, run);
        Checkpoints(html, run);
        Data(html, run);
        Options(html, run);
        Foot(html, run);
        html.Append("</main><script>").Append(s_script).Append("</script></body></html>\n");
        return html.ToString();
    }

    private static void Head(StringBuilder html, RunRecord run, string name)
    {
        string state = run.IsLive ? "running" : run.Outcome ?? "log";
        html.Append("<header><h1>").Append(Escape(name)).Append("</h1><span class=\"state ").Append(Escape(state)).Append("\">").Append(Escape(state));
        html.Append("</span></header>\n");
        List<string> parts = [];
        if (run.Start is { } start)
        {
            parts.AddRange(new[]
            {
                start.Method.Length > 0 ? $"method {start.Method}" : "",
                start.Device.Length > 0 ? $"on {start.Device}" : "",
                $"seed {start.Seed.ToString(CultureInfo.InvariantCulture)}",
                start.StartTime != default ? $"begun {start.StartTime.ToString("yyyy-MM-dd HH:mm zzz", CultureInfo.InvariantCulture)}" : "",
                start.FirstStep > 1 ? $"resumed at step {Numbers.Whole(start.FirstStep)}" : "",
            }.Where(part => part.Length > 0));
        }

        html.Append("<p class=\"about\">").Append(Escape(string.Join(" · ", parts))).Append("</p>\n");
        if (run.Error is { } error)
        {
            html.Append("<p class=\"error\">").Append(Escape(error)).Append("</p>\n");
        }
    }

    private static void Figures(StringBuilder html, RunRecord run)
    {
        html.Append("<dl class=\"figures\">");
        TrainingProgress? last = run.Steps.LastOrDefault();
        Figure("steps", Numbers.Whole(last?.Step ?? 0), $"of {Numbers.Whole(run.TotalSteps)}");
        if (last is not null)
        {
            Figure("epochs", Numbers.Short(Math.Round(last.Epoch, 2)));
            Figure("last loss", Loss(run.Steps.LastOrDefault(step => double.IsFinite(step.Loss))?.Loss));
        }

        TrainingProgress[] validated = [.. run.Steps.Where(step => step.ValidationLoss is not null)];
        if (validated.Length > 0)
        {
            TrainingProgress best = validated.MinBy(step => step.ValidationLoss)!;
            Figure("validation loss", Loss(validated[^1].ValidationLoss));
            Figure("lowest validation loss", Loss(best.ValidationLoss), $"step {Numbers.Whole(best.Step)}");
        }

        if (run.Duration > TimeSpan.Zero)
        {
            Figure("time", Numbers.Clock(run.Duration));
        }

        if (run.IsLive && last is not null)
        {
            Figure("time left", Numbers.Clock(last.Remaining));
        }

        CurvePoint[] speeds = Curve.Of(run.Steps, step => step.TokensPerSecond);
        if (speeds.Length > 0)
        {
            // Tokens over time, not the mean of speeds: slow steps count for the time they take. A log without tokens has only the speeds.
            double seconds = run.Steps.Where(step => step.Tokens > 0).Sum(step => step.Tokens / step.TokensPerSecond);
            double mean = seconds > 0 ? run.Steps.Sum(step => (double)step.Tokens) / seconds : speeds.Average(speed => speed.Y);
            Figure("tokens per second", Numbers.Short(Math.Round(mean)));
        }

        if (run.Start is { TrainableParameters: > 0 } start)
        {
            string share = (100.0 * start.TrainableParameters / start.AllParameters).ToString("0.##", CultureInfo.InvariantCulture);
            Figure("trained parameters", Numbers.Whole(start.TrainableParameters), $"{share}%");
        }

        html.Append("</dl>\n");

        void Figure(string name, string value, string note = "") => html.Append("<div><dt>").Append(name).Append("</dt><dd>").Append(Escape(value))
            .Append(note.Length > 0 ? $" <small>{Escape(note)}</small>" : "").Append("</dd></div>");
    }

    private static void Curves(StringBuilder html, RunRecord run)
    {
        CurvePoint[] training = Curve.Of(run.Steps, step => step.Loss);
        CurvePoint[] smooth = Curve.Smoothed(training);
        html.Append("<section class=\"charts\">");
        Chart.Write(html, "Loss, nats per token",
        [
            new ChartCurve("training", smooth.Length > 0 ? "raw" : "main", training),
            new ChartCurve("training, moving average", "main", smooth),
            new ChartCurve("validation", "second", Curve.Of(run.Steps, step => step.ValidationLoss), Dots: true),
        ], run.TotalSteps, large: true);
        Chart.Write(html, "Learning rate", [new ChartCurve("learning rate", "main", Curve.Of(run.Steps, step => step.LearningRate))], run.TotalSteps);
        Chart.Write(html, "Gradient norm", [new ChartCurve("gradient norm", "main", Curve.Of(run.Steps, step => step.GradientNorm))], run.TotalSteps);
        Chart.Write(html, "Tokens per second", [new ChartCurve("tokens/s", "main", Curve.Of(run.Steps, step => step.TokensPerSecond))], run.TotalSteps);
        html.Append("</section>\n");
        if (run.Steps.Count == 0)
        {
            html.Append("<p class=\"about\">No step has been made yet.</p>\n");
        }
    }

    private static void Warnings(StringBuilder html, RunRecord run)
    {
        if (run.Warnings.Count > 0)
        {
            html.Append("<section class=\"warnings\"><h2>Warnings</h2><ul>");
            foreach (string warning in run.Warnings)
            {
                html.Append("<li>").Append(Escape(warning)).Append("</li>");
            }

            html.Append("</ul></section>\n");
        }
    }

    private static void Samples(StringBuilder html, RunRecord run)
    {
        if (run.Samples.Count == 0)
        {
            return;
        }

        html.Append("<section><h2>Sample answers</h2>");
        foreach (SampleAnswer sample in run.Samples)
        {
            html.Append("<article class=\"sample\"><h3>").Append(Escape(sample.Question)).Append("</h3><dl>");
            bool isRight = sample.After is not null && sample.After.Trim() == sample.Expected?.Trim();
            Answer("before", sample.Before, "");
            Answer("after", sample.After, isRight ? " right" : "");
            Answer("expected", isRight ? null : sample.Expected, "");
            html.Append("</dl></article>");
        }

        html.Append("</section>\n");

        void Answer(string name, string? text, string kind)
        {
            if (text is not null)
            {
                string note = kind.Length > 0 ? " <span class=\"same\">as expected</span>" : "";
                html.Append("<div class=\"").Append(name).Append(kind).Append("\"><dt>").Append(name).Append(note).Append("</dt><dd>");
                html.Append(text.Length > 0 ? Escape(text) : "<i>empty</i>").Append("</dd></div>");
            }
        }
    }

    private static void Checkpoints(StringBuilder html, RunRecord run)
    {
        if (run.Checkpoints.Count > 0)
        {
            html.Append("<section><h2>Checkpoints</h2>");
            Table(html, "step", "folder", run.Checkpoints.Select(checkpoint => (Numbers.Whole(checkpoint.Step), checkpoint.Folder)));
            html.Append("</section>\n");
        }
    }

    private static void Data(StringBuilder html, RunRecord run)
    {
        if (run.Start is not { Rows: > 0 } start)
        {
            return;
        }

        html.Append("<section><h2>Data</h2><dl class=\"figures\">");
        (string Name, long Value)[] figures =
        [
            ("training rows", start.Rows),
            ("validation rows", start.ValidationRows),
            ("tokens", start.Tokens),
            ("learned tokens", start.LabelTokens),
        ];
        foreach ((string name, long value) in figures)
        {
            html.Append("<div><dt>").Append(name).Append("</dt><dd>").Append(Numbers.Whole(value)).Append("</dd></div>");
        }

        html.Append("</dl>");
        if (start.DataStatistics.Length > 0)
        {
            html.Append("<pre>").Append(Escape(start.DataStatistics)).Append("</pre>");
        }

        html.Append("</section>\n");
    }

    private static void Options(StringBuilder html, RunRecord run)
    {
        if (run.Start is not { Options.Count: > 0 } start)
        {
            return;
        }

        html.Append("<section><h2>Options</h2>");
        Table(html, "option", "value", start.Options.Where(option => !option.IsDefault).Select(option => (option.Name, option.Value)));
        html.Append("<details><summary>Options at their defaults</summary>");
        Table(html, "option", "value", start.Options.Where(option => option.IsDefault).Select(option => (option.Name, option.Value)));
        html.Append("</details></section>\n");
    }

    private static void Foot(StringBuilder html, RunRecord run)
    {
        string version = typeof(TrainingCallback).Assembly.GetName().Version?.ToString(3) ?? "";
        string time = DateTimeOffset.Now.ToString("yyyy-MM-dd HH:mm:ss zzz", CultureInfo.InvariantCulture);
        html.Append("<footer>Written by MLNetLora ").Append(version).Append(", ").Append(Escape(time));
        html.Append(run.IsLive ? "; this page loads itself anew every 30 s" : "").Append(".</footer>\n");
    }

    private static void Table(StringBuilder html, string left, string right, IEnumerable<(string Left, string Right)> rows)
    {
        html.Append("<table><thead><tr><th>").Append(left).Append("</th><th>").Append(right).Append("</th></tr></thead><tbody>");
        foreach ((string name, string value) in rows)
        {
            html.Append("<tr><td>").Append(Escape(name)).Append("</td><td>").Append(Escape(value)).Append("</td></tr>");
        }

        html.Append("</tbody></table>");
    }

    /// <summary>A folder by its own name alone; a hub id as it is.</summary>
    private static string Name(string model) => Path.IsPathRooted(model) && Path.GetFileName(model.TrimEnd('/', '\\')) is { Length: > 0 } name ? name : model;

    private static string Loss(double? value) => value is { } loss && double.IsFinite(loss) ? loss.ToString("F4", CultureInfo.InvariantCulture) : "–";

    private static string Escape(string text) => Chart.Escape(text);

    private static string Read(string name)
    {
        using StreamReader reader = new(typeof(RunPage).Assembly.GetManifestResourceStream(name)!);
        return reader.ReadToEnd().ReplaceLineEndings("\n");
    }
}
