using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>The progress line: one that is written over in a terminal, plain lines elsewhere.</summary>
public sealed class ProgressLineTests : IDisposable
{
    private readonly Clock _clock = new();
    private readonly StringWriter _writer = new() { NewLine = "\n" };

    public void Dispose() => _writer.Dispose();

    [Fact]
    public void A_line_has_everything_and_loses_the_least_important_first()
    {
        TrainingProgress step = SampleRun.Step(4) with { TokensPerSecond = 1234.4, Remaining = new TimeSpan(1, 2, 3) };
        string whole = ProgressLine.Format(step, memory: 3_141_000_000);
        Assert.Equal("step 4/20  epoch 0.80  loss 0.7500  lr 8.50e-04  grad 4.500  1,234 tokens/s  3.1 GB  1:02:03 left", whole);
        Assert.Equal(whole, ProgressLine.Format(step, 3_141_000_000, whole.Length));
        Assert.Equal("step 4/20  epoch 0.80  loss 0.7500  lr 8.50e-04  grad 4.500  1,234 tokens/s  1:02:03 left", ProgressLine.Format(step));
        Assert.Equal(ProgressLine.Format(step), ProgressLine.Format(step, 3_141_000_000, whole.Length - 1));
        Assert.Equal("step 4/20  loss 0.7500  1:02:03 left", ProgressLine.Format(step, 0, 40));
        Assert.Equal("step 4/20  loss 0.7500", ProgressLine.Format(step, 0, 30));
        Assert.Equal("step ", ProgressLine.Format(step, 0, 5));
        Assert.Contains("  skipped  ", ProgressLine.Format(SampleRun.Skipped(1)), StringComparison.Ordinal);
    }

    [Fact]
    public void Plain_lines_are_the_first_the_tenths_those_after_30_seconds_the_validations_and_the_end()
    {
        ProgressLine line = Line(live: false);
        line.OnTrainBegin(SampleRun.Start(100));
        for (int step = 1; step <= 100; step++)
        {
            _clock.Advance(step is > 31 and < 39 ? 16 : 1);
            line.OnStep(SampleRun.Step(step, 100) with { ValidationLoss = step == 50 ? 1.25 : null });
        }

        line.OnTrainEnd(SampleRun.Summary(100), null);

        string[] lines = _writer.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(
            ["1", "10", "20", "30", "33", "35", "37", "40", "50", "50", "60", "70", "80", "90", "100", "finished"],
            lines.Select(text => text.Split(' ', '/') is ["step", var step, ..] ? step : text.Split(' ')[0]));
        Assert.Equal("step 50/100  validation loss 1.2500", lines[9]);
        Assert.Matches(@"^step 10/100  epoch 2\.00  loss 0\.3000  .* \d+\.\d GB  0:45 left$", lines[1]);
        Assert.Equal("finished 100 steps in 0:50, last loss 0.0300", lines[^1]);
        Assert.DoesNotContain('\r', _writer.ToString());
    }

    [Fact]
    public void A_live_line_is_written_over_at_most_ten_times_a_second_and_fits_the_window()
    {
        ProgressLine line = Line(live: true, width: 40);
        line.OnTrainBegin(SampleRun.Start(100));
        for (int step = 1; step <= 100; step++)
        {
            line.OnStep(SampleRun.Step(step, 100) with { ValidationLoss = null });
            _clock.Advance(0.01);
        }

        string[] shown = _writer.ToString().Split('\r', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(["1", "11", "21", "31", "41", "51", "61", "71", "81", "91", "100"], shown.Select(text => text.Split(' ', '/')[1]));
        Assert.All(shown, text => Assert.True(text.Length < 40, text));
        Assert.DoesNotContain('\n', _writer.ToString());
    }

    [Fact]
    public void What_is_shorter_leaves_nothing_of_what_was_longer()
    {
        ProgressLine line = Line(live: true);
        line.OnTrainBegin(SampleRun.Start());
        line.OnStep(SampleRun.Step(1) with { TokensPerSecond = 1_000_000 });
        _clock.Advance(1);
        line.OnStep(SampleRun.Step(2) with { TokensPerSecond = 1 });
        line.WriteLine("a note");
        line.OnStep(SampleRun.Step(20));
        line.OnTrainEnd(null, new IOException("gone"));
        Assert.Equal(["a note", "step 20/20  validation loss 0.2000", "failed after step 20 of 20 in 0:10, last loss 0.1500"], Screen());
    }

    [Fact]
    public void A_window_that_became_narrower_is_not_overflowed()
    {
        int width = 100;
        ProgressLine line = new(_writer, live: true, _clock, () => width);
        line.OnStep(SampleRun.Step(1));
        width = 30;
        _clock.Advance(1);
        line.OnStep(SampleRun.Step(2));
        Assert.True(_writer.ToString().Split('\r')[^1].Length < 30);
    }

    [Fact]
    public void A_run_without_steps_shows_nothing()
    {
        ProgressLine line = Line(live: true);
        line.OnTrainBegin(SampleRun.Start());
        line.OnTrainEnd(null, new OperationCanceledException());
        Assert.Equal("", _writer.ToString());
    }

    [Fact]
    public void A_writer_that_is_no_terminal_gets_plain_lines()
    {
        SampleRun.Play(new ProgressLine(_writer));
        Assert.DoesNotContain('\r', _writer.ToString());
        Assert.StartsWith("step 1/20  ", _writer.ToString(), StringComparison.Ordinal);
    }

    private ProgressLine Line(bool live, int width = 200) => new(_writer, live, _clock, () => width);

    /// <summary>What a terminal shows after all that was written.</summary>
    private string[] Screen()
    {
        List<char[]> rows = [new char[200]];
        int column = 0;
        foreach (char letter in _writer.ToString())
        {
            if (letter == '\n')
            {
                rows.Add(new char[200]);
            }

            column = letter is '\r' or '\n' ? 0 : column + 1;
            if (letter is not ('\r' or '\n'))
            {
                rows[^1][column - 1] = letter;
            }
        }

        return [.. rows.Select(row => new string(row).TrimEnd('\0', ' ')).Where(row => row.Length > 0)];
    }

    private sealed class Clock : TimeProvider
    {
        private long _now;

        public override long TimestampFrequency => 1000;

        public void Advance(double seconds) => _now += (long)(seconds * 1000);

        public override long GetTimestamp() => _now;
    }
}
