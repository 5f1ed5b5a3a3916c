using System.Text;
using System.Text.RegularExpressions;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>Event files of TensorBoard, read by a reader of the test's own.</summary>
public sealed partial class TensorBoardLogTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("", 0x00000000u)]
    [InlineData("123456789", 0xe3069283u)] // the check value of CRC-32C
    [InlineData("The quick brown fox jumps over the lazy dog", 0x22620404u)]
    public void The_checksum_is_that_of_the_standard(string text, uint expected)
    {
        Assert.Equal(expected, EventFile.Checksum(Encoding.ASCII.GetBytes(text)));
        Assert.Equal(expected, EventReader.Checksum(Encoding.ASCII.GetBytes(text)));
    }

    [Fact]
    public void The_checksum_of_RFC_3720_s_blocks_is_the_one_there()
    {
        Assert.Equal(0x8a9136aau, EventFile.Checksum(new byte[32]));
        Assert.Equal(0x62a8ab43u, EventFile.Checksum([.. Enumerable.Repeat((byte)0xff, 32)]));
        Assert.Equal(0x46dd794eu, EventFile.Checksum([.. Enumerable.Range(0, 32).Select(i => (byte)i)]));
    }

    [Fact]
    public void A_run_has_the_tags_of_transformers()
    {
        SampleRun.Play(new TensorBoardLog(_folder.File("runs")), steps: 5);

        string file = Assert.Single(Directory.GetFiles(_folder.File("runs")));
        Assert.Matches(FileName(), Path.GetFileName(file));
        Event[] events = EventReader.Read(file);
        Assert.Equal(("brain.Event:2", 0L), (events[0].Version!, events[0].Step));
        Assert.All(events, at => Assert.InRange(at.WallTime, 1.7e9, 1e11));
        string text = Assert.IsType<string>(events[1].Values["args/text_summary"]);
        Assert.Contains("| LearningRate | 0.001 |\n", text, StringComparison.Ordinal);
        Assert.Contains("| SystemPrompt | a \\| b c |\n", text, StringComparison.Ordinal);
        Assert.DoesNotContain("BatchSize", text, StringComparison.Ordinal);
        Event[] steps = events[2..^1];
        Assert.Equal([1L, 2, 3, 4, 5], steps.Select(step => step.Step));
        Assert.Equal(
            ["train/loss", "train/grad_norm", "train/learning_rate", "train/epoch", "train/num_input_tokens_seen", "train/tokens_per_second"],
            steps[0].Values.Keys);
        Assert.Equal((1.5f, 2.5f, 160f), ((float)steps[1].Values["train/loss"], (float)steps[1].Values["train/grad_norm"],
            (float)steps[1].Values["train/num_input_tokens_seen"]));
        Assert.Equal(0.8f, steps[4].Values["eval/loss"]);
        Assert.Equal((5L, 2.5f), (events[^1].Step, (float)events[^1].Values["train/train_runtime"]));
        Assert.Equal(6.85f / 5, (float)events[^1].Values["train/train_loss"], 1e-5f);
    }

    [Fact]
    public void A_resumed_run_has_a_file_of_its_own_that_takes_back_the_steps_it_makes_again()
    {
        SampleRun.Play(new TensorBoardLog(_folder.Path), steps: 5);
        string first = Assert.Single(Directory.GetFiles(_folder.Path));
        TensorBoardLog log = new(_folder.Path);
        log.OnTrainBegin(SampleRun.Start(firstStep: 4));
        log.OnStep(SampleRun.Step(4));

        Event[] events = EventReader.Read(Assert.Single(Directory.GetFiles(_folder.Path), file => file != first));
        Assert.Equal((1, 4L), (Assert.Single(events, at => at.Session is not null).Session!.Value, events.Single(at => at.Session is not null).Step));
        Assert.Equal(4, events[^1].Step);
    }

    [Fact]
    public void A_resumed_run_counts_on()
    {
        TensorBoardLog log = new(_folder.Path);
        log.OnTrainBegin(SampleRun.Resumed(firstStep: 4));
        log.OnStep(SampleRun.Step(4));
        log.OnTrainEnd(null, new IOException("gone"));
        log.OnTrainBegin(SampleRun.Resumed(firstStep: 6));
        log.OnTrainEnd(null, new OperationCanceledException());

        Event[][] files = [.. Directory.GetFiles(_folder.Path).Select(EventReader.Read).OrderBy(events => events[^1].Step)];
        Assert.Equal(4 * 80f, files[0][^2].Values["train/num_input_tokens_seen"]);
        Assert.Equal((5L, 2.5f), (files[1][^1].Step, files[1][^1].Values["train/train_runtime"]));
    }

    [Fact]
    public void A_file_comes_last_by_its_name_also_where_the_clock_was_put_back()
    {
        Directory.CreateDirectory(_folder.Path);
        string[] older = [_folder.File("events.out.tfevents.5000000000.host.1.0"), _folder.File("events.out.tfevents.then.host.1.0")];
        Array.ForEach(older, path => File.WriteAllBytes(path, []));
        for (int run = 1; run <= 2; run++)
        {
            new TensorBoardLog(_folder.Path).OnTrainBegin(SampleRun.Start());
            string newest = Directory.GetFiles(_folder.Path).Except(older).Order(StringComparer.Ordinal).Last();
            Assert.StartsWith(FormattableString.Invariant($"events.out.tfevents.{5_000_000_000 + run}."), Path.GetFileName(newest), StringComparison.Ordinal);
        }
    }

    [LinuxFact]
    public void A_folder_that_takes_no_file_is_an_error_when_the_run_begins() =>
        Assert.ThrowsAny<IOException>(() => new TensorBoardLog("/proc/self").OnTrainBegin(SampleRun.Start()));

    [Fact]
    public void A_file_that_cannot_be_written_is_told_once()
    {
        List<string> warnings = [];
        TensorBoardLog log = new(_folder.File("runs"));
        log.OnTrainBegin(SampleRun.Start() with { Warn = warnings.Add });
        Directory.Delete(_folder.File("runs"), recursive: true);
        log.OnStep(SampleRun.Step(1));
        log.OnStep(SampleRun.Step(2));
        Assert.Contains("tfevents", Assert.Single(warnings), StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_no_finite_number_is_left_out()
    {
        TensorBoardLog log = new(_folder.Path);
        log.OnTrainBegin(SampleRun.Start());
        log.OnStep(SampleRun.Skipped(1));
        Event[] events = EventReader.Read(Assert.Single(Directory.GetFiles(_folder.Path)));
        Assert.DoesNotContain("train/grad_norm", events[^1].Values.Keys);
        Assert.Contains("train/loss", events[^1].Values.Keys);
    }

    [GeneratedRegex(@"^events\.out\.tfevents\.[0-9]{10}\.[A-Za-z0-9_-]+\.[0-9]+\.[0-9]+$")]
    private static partial Regex FileName();
}
