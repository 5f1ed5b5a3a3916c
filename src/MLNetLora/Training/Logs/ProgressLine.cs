using System.Globalization;
using MLNetLora.Text;

namespace MLNetLora.Training;

/// <summary>
/// Shows a run on a terminal as one line that is written over: step, epoch, loss, learning rate, gradient norm, tokens per second, memory and the time that is
/// left. Where the output is no terminal, plain lines: the first step, each tenth of the run, after 30 s without one, validations, and the end.
/// </summary>
public sealed class ProgressLine : TrainingCallback
{
    private const int WidthWithoutWindow = 80;

    private static readonly TimeSpan s_liveEvery = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan s_plainEvery = TimeSpan.FromSeconds(30);

    private readonly TextWriter _writer;
    private readonly bool _live;
    private readonly TimeProvider _time;
    private readonly Func<int> _width;
    private long? _shown; // when the last line was
    private int _onScreen; // columns of the live line that is on the screen
    private TrainingProgress? _last;

    /// <summary>A progress line.</summary>
    /// <param name="writer">Where to; null (default): the console.</param>
    /// <param name="live">Whether one line is written over. Null (default): where the writer is the console, its output goes to a terminal, and TERM is not
    /// dumb.</param>
    public ProgressLine(TextWriter? writer = null, bool? live = null)
        : this(writer ?? Console.Out, live ?? Terminal.IsLive(writer ?? Console.Out), TimeProvider.System, Terminal.Width)
    {
    }

    internal ProgressLine(TextWriter writer, bool live, TimeProvider time, Func<int> width) => (_writer, _live, _time, _width) = (writer, live, time, width);

    /// <summary>A step as a line of text without an end of line: <c>step 12/72  epoch 0.50  loss 2.1234  …</c>.</summary>
    /// <param name="progress">The step.</param>
    /// <param name="memory">Bytes of memory that the process uses; null leaves them out.</param>
    /// <param name="width">Most columns; parts are left out, the least important first, until the rest fits.</param>
    public static string Format(TrainingProgress progress, long? memory = null, int width = int.MaxValue)
    {
        ArgumentNullException.ThrowIfNull(progress);
        (int Rank, string Text)[] parts =
        [
            (0, Invariant($"step {progress.Step}/{progress.TotalSteps}")),
            (4, Invariant($"epoch {progress.Epoch:F2}")),
            (1, Invariant($"loss {progress.Loss:F4}")),
            (5, Invariant($"lr {progress.LearningRate:0.00e+00}")),
            (6, progress.WasSkipped ? "skipped" : Invariant($"grad {progress.GradientNorm:F3}")),
            (3, Invariant($"{progress.TokensPerSecond:N0} tokens/s")),
            (7, memory is { } bytes ? Invariant($"{bytes / 1e9:F1} GB") : ""),
            (2, $"{Clock(progress.Remaining)} left"),
        ];
        for (int most = parts.Length; ; most--)
        {
            string line = string.Join("  ", parts.Where(part => part.Rank < most && part.Text.Length > 0).Select(part => part.Text));
            if (line.Length <= width || most == 1)
            {
                return line.Length <= width ? line : line[..Math.Max(0, width)];
            }
        }
    }

    /// <summary>A time as people read it: 0:07, 12:30, 5:00:00.</summary>
    internal static string Clock(TimeSpan time) => time.TotalHours < 1
        ? Invariant($"{time.Minutes}:{time.Seconds:D2}")
        : Invariant($"{(long)time.TotalHours}:{time.Minutes:D2}:{time.Seconds:D2}");

    /// <summary>Writes a line of its own while a run goes on: the live line makes room for it, and comes back with the next step.</summary>
    /// <param name="text">The line.</param>
    public void WriteLine(string text)
    {
        Clear();
        _writer.WriteLine(text);
        _writer.Flush();
    }

    /// <inheritdoc/>
    public override void OnTrainBegin(TrainingStart start) => (_shown, _onScreen, _last) = (null, 0, null);

    /// <inheritdoc/>
    public override void OnStep(TrainingProgress progress)
    {
        ArgumentNullException.ThrowIfNull(progress);
        int before = _last?.Step ?? progress.Step - 1;
        bool isTenth = progress.Step * 10L / progress.TotalSteps > before * 10L / progress.TotalSteps;
        bool isDue = _shown is not { } shown || _time.GetElapsedTime(shown) >= (_live ? s_liveEvery : s_plainEvery);
        if (isDue || progress.Step == progress.TotalSteps || (!_live && isTenth))
        {
            Show(progress);
        }

        _last = progress;
        if (progress.ValidationLoss is { } loss)
        {
            WriteLine(Invariant($"step {progress.Step}/{progress.TotalSteps}  validation loss {loss:F4}"));
        }
    }

    /// <inheritdoc/>
    public override void OnTrainEnd(TrainingSummary? summary, Exception? failure)
    {
        if (_last is not { } last)
        {
            return;
        }

        string outcome = RunOutcome.Of(summary, failure);
        string steps = outcome == RunOutcome.Finished ? Invariant($"{last.TotalSteps} steps") : Invariant($"step {last.Step} of {last.TotalSteps}");
        string after = outcome == RunOutcome.Finished ? "finished" : $"{outcome} after";
        WriteLine(Invariant($"{after} {steps} in {Clock(summary?.Duration ?? last.Elapsed)}, last loss {last.Loss:F4}"));
    }

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    private void Show(TrainingProgress progress)
    {
        _shown = _time.GetTimestamp();
        long memory = Environment.WorkingSet;
        if (!_live)
        {
            _writer.WriteLine(Format(progress, memory));
            _writer.Flush();
            return;
        }

        // One write, over what was there and not after clearing it, so that nothing flickers; the last column stays empty, since some terminals wrap in it.
        int width = Math.Max(1, _width() - 1);
        string line = Format(progress, memory, width);
        _writer.Write("\r" + line.PadRight(Math.Min(_onScreen, width)));
        _writer.Flush();
        _onScreen = line.Length;
    }

    internal void Clear()
    {
        if (_onScreen > 0)
        {
            _writer.Write("\r" + new string(' ', _onScreen) + "\r");
            _onScreen = 0;
        }
    }

    /// <summary>What is known of the terminal.</summary>
    private static class Terminal
    {
        public static bool IsLive(TextWriter writer)
        {
            bool isTerminal = (ReferenceEquals(writer, Console.Out) && !Console.IsOutputRedirected)
                || (ReferenceEquals(writer, Console.Error) && !Console.IsErrorRedirected);
            return isTerminal && Environment.GetEnvironmentVariable("TERM") != "dumb";
        }

        public static int Width()
        {
            try
            {
                return Console.WindowWidth is > 0 and var width ? width : WidthWithoutWindow;
            }
            catch (IOException)
            {
                return WidthWithoutWindow; // no window, on Windows
            }
        }
    }
}
