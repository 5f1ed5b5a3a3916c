using System.Diagnostics;
using System.Globalization;
using MLNetLora.Cli.Output;

namespace MLNetLora.Cli.Scoring;

/// <summary>How far it is, on the standard error: one line that is written over in a terminal, else a line every half minute.</summary>
/// <param name="screen">Where.</param>
/// <param name="total">Rows in all.</param>
/// <param name="before">Rows that were answered before.</param>
/// <param name="now">How long it has run; null for a clock.</param>
internal sealed class ScoreProgress(Screen screen, long total, long before, Func<TimeSpan>? now = null)
{
    private static readonly TimeSpan s_between = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan s_betweenLive = TimeSpan.FromSeconds(1);

    private readonly LiveLine _line = new(screen);
    private readonly Func<TimeSpan> _now = now ?? Clock();
    private TimeSpan _last;
    private long _tokens;

    /// <summary>Hears of a row.</summary>
    /// <param name="done">Rows that are answered, those before included.</param>
    /// <param name="newTokens">Tokens of this row's answer.</param>
    public void Add(long done, int newTokens)
    {
        _tokens += newTokens;
        TimeSpan elapsed = _now();
        if (elapsed - _last < (screen.HasErrorColor ? s_betweenLive : s_between))
        {
            return;
        }

        _last = elapsed;
        double rate = (done - before) / elapsed.TotalSeconds;
        string left = Left(TimeSpan.FromSeconds((total - done) / rate));
        string text = string.Create(
            CultureInfo.InvariantCulture,
            $"{done:N0} of {total:N0} rows  {rate:0.##} rows/s  {_tokens / elapsed.TotalSeconds:N0} tokens/s  {left} left");
        _line.Show(text);
    }

    /// <summary>Ends the line.</summary>
    public void End() => _line.End();

    private static string Left(TimeSpan left) => left.TotalHours >= 1
        ? string.Create(CultureInfo.InvariantCulture, $"{(int)left.TotalHours} h {left.Minutes} min")
        : left.TotalMinutes >= 1 ? string.Create(CultureInfo.InvariantCulture, $"{(int)left.TotalMinutes} min")
        : string.Create(CultureInfo.InvariantCulture, $"{(int)Math.Ceiling(left.TotalSeconds)} s");

    private static Func<TimeSpan> Clock()
    {
        Stopwatch watch = Stopwatch.StartNew();
        return () => watch.Elapsed;
    }
}
