using System.Text;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;
using MLNetLora.Cli.Scoring;

namespace MLNetLora.Cli.Tests;

/// <summary>The parts of score.</summary>
public class ScoringTests
{
    [Theory]
    [InlineData("0/4", 0, 4)]
    [InlineData("3/4", 3, 4)]
    [InlineData("0/1", 0, 1)]
    public void A_shard_is_given(string text, int index, int count) => Assert.Equal(new Shard(index, count), Shard.Parse(text, _ => "9"));

    [Theory]
    [InlineData("JOB_COMPLETION_INDEX=3", 3)]
    [InlineData("SLURM_ARRAY_TASK_ID=2", 2)]
    [InlineData("SLURM_ARRAY_TASK_ID=4;SLURM_ARRAY_TASK_MIN=1", 3)]
    [InlineData("SLURM_ARRAY_TASK_ID=0;SLURM_ARRAY_TASK_MIN=0", 0)]
    public void A_shard_is_what_the_scheduler_says(string variables, int index) => Assert.Equal(new Shard(index, 4), Shard.Parse("4", Variables(variables)));

    [Theory]
    [InlineData("4/4", "", "counted from 0, so that the last one is 3")]
    [InlineData("-1/4", "", "counted from 0")]
    [InlineData("1/0", "", "it must be I/N")]
    [InlineData("1/2/3", "", "it must be I/N")]
    [InlineData("a/b", "", "it must be I/N")]
    [InlineData("", "", "it must be I/N")]
    [InlineData("4", "", "none of JOB_COMPLETION_INDEX, SLURM_ARRAY_TASK_ID says which")]
    [InlineData("4", "JOB_COMPLETION_INDEX=4", "JOB_COMPLETION_INDEX=4 says shard 4 of 4")]
    [InlineData("4", "SLURM_ARRAY_TASK_ID=x", "SLURM_ARRAY_TASK_ID=x says shard x of 4")]
    public void What_is_no_shard(string text, string variables, string expected) =>
        Assert.Contains(expected, Assert.Throws<ConfigException>(() => Shard.Parse(text, Variables(variables))).Message, StringComparison.Ordinal);

    [Fact]
    public void Shards_have_every_row_once()
    {
        for (int rows = 0; rows < 12; rows++)
        {
            Shard[] shards = [new(0, 5), new(1, 5), new(2, 5), new(3, 5), new(4, 5)];
            Assert.Equal(rows, shards.Sum(shard => shard.Rows(rows)));
            IEnumerable<long> all = shards.SelectMany(shard => Enumerable.Range(0, (int)shard.Rows(rows)).Select(place => shard.Row(place)));
            Assert.Equal(Enumerable.Range(0, rows).Select(row => (long)row), all.Order());
            Assert.All(shards, shard => Assert.All(Enumerable.Range(0, (int)shard.Rows(rows)), place => Assert.True(shard.Has(shard.Row(place)))));
        }
    }

    [Theory]
    [InlineData("""{"row":3,"answer":"a"}""", 2L, false)]
    [InlineData("""{"row":1,"data_error":"x","error":"a"}""", 0L, true)]
    [InlineData("""{"row":1,"meta":{"error":1},"answer":"a"}""", 0L, false)]
    public void A_line_says_whose_it_is(string line, long row, bool isError) => Assert.Equal((row, isError), ScoredRow.Read(Encoding.UTF8.GetBytes(line)));

    [Theory]
    [InlineData("")]
    [InlineData("{}")]
    [InlineData("[1]")]
    [InlineData("""{"answer":"a","row":3}""")]
    [InlineData("""{"row":"3","answer":"a"}""")]
    [InlineData("""{"row":3,"answer":"a" """)]
    [InlineData("""{"row":3}""")]
    [InlineData("""{"row":3,"answer":"a"}{""")]
    public void What_is_no_line(string line) => Assert.Null(ScoredRow.Read(Encoding.UTF8.GetBytes(line)));

    [Fact]
    public void Fields_are_kept_as_they_are_written_on_one_line()
    {
        string fields = "{ \"a\" : 1.50,\n\t\"row\": \"x \\\" \\\\\", \"data_row\": [ 1 , { \"b c\" : null } ],\r\n \"error\":\"two  spaces\\n\", \"a\": 2 }";
        string line = Encoding.UTF8.GetString(ScoredRow.Of(new(6, null, fields, new DatasetException("no \ud800")), null, new DatasetException("no \ud800")));
        Assert.Equal(
            "{\"row\":7,\"a\":1.50,\"data_row\":\"x \\\" \\\\\",\"data_data_row\":[1,{\"b c\":null}],\"data_error\":\"two  spaces\\n\",\"data_a\":2,"
            + "\"error\":\"no \ufffd\"}\n",
            line);
    }

    [Fact]
    public void Results_come_in_order_and_none_waits_for_too_many()
    {
        const int ahead = 6;
        List<int> taken = [];
        int begun = 0;
        OrderedWork.Run(
            Enumerable.Range(0, 200).Select(i =>
            {
                begun++;
                Assert.True(begun - taken.Count <= ahead);
                return i;
            }),
            4,
            ahead,
            (i, _) =>
            {
                Thread.SpinWait(i % 17 * 500);
                return i * 2;
            },
            taken.Add,
            default);
        Assert.Equal(Enumerable.Range(0, 200).Select(i => i * 2), taken);
    }

    [Theory]
    [InlineData("items")]
    [InlineData("work")]
    [InlineData("take")]
    public void What_fails_ends_all(string what)
    {
        List<int> taken = [];
        InvalidOperationException error = Assert.Throws<InvalidOperationException>(() => OrderedWork.Run(
            Items(), 3, 9, (i, token) => i == 20 && what == "work" ? throw new InvalidOperationException(what) : i, Take, default));
        Assert.Equal(what, error.Message);
        Assert.Equal(Enumerable.Range(0, taken.Count), taken);
        Assert.InRange(taken.Count, 0, 30);

        IEnumerable<int> Items() => Enumerable.Range(0, 1000).Select(i => i == 20 && what == "items" ? throw new InvalidOperationException(what) : i);

        void Take(int i)
        {
            taken.Add(i == 20 && what == "take" ? throw new InvalidOperationException(what) : i);
        }
    }

    [Fact]
    public void A_token_ends_all()
    {
        using CancellationTokenSource source = new();
        Assert.ThrowsAny<OperationCanceledException>(() => OrderedWork.Run(
            Enumerable.Range(0, 1000), 3, 9, (i, token) =>
            {
                if (i == 20)
                {
                    source.Cancel();
                }

                token.ThrowIfCancellationRequested();
                return i;
            },
            i => Assert.InRange(i, 0, 40),
            source.Token));
    }

    [Fact]
    public void Progress_says_how_fast_and_how_long_still()
    {
        using StringWriter error = new();
        TimeSpan now = TimeSpan.Zero;
        ScoreProgress progress = new(new Screen { In = TextReader.Null, Out = TextWriter.Null, Error = error }, 10_000, 1_000, () => now);
        progress.Add(1_001, 10);
        now = TimeSpan.FromSeconds(60);
        progress.Add(1_120, 590);
        now = TimeSpan.FromSeconds(70);
        progress.Add(1_140, 10);
        progress.End();
        Assert.Equal("1,120 of 10,000 rows  2 rows/s  10 tokens/s  1 h 14 min left\n", error.ToString().ReplaceLineEndings("\n"));
    }

    [Fact]
    public void Progress_in_a_terminal_is_one_line()
    {
        using StringWriter error = new();
        TimeSpan now = TimeSpan.FromSeconds(2);
        ScoreProgress progress = new(new Screen { In = TextReader.Null, Out = TextWriter.Null, Error = error, HasErrorColor = true }, 8, 0, () => now);
        progress.Add(4, 10);
        progress.Add(5, 10);
        now = TimeSpan.FromSeconds(4);
        progress.Add(6, 10);
        progress.End();
        Assert.Equal(
            "\r\e[K4 of 8 rows  2 rows/s  5 tokens/s  2 s left\r\e[K6 of 8 rows  1.5 rows/s  8 tokens/s  2 s left",
            error.ToString().TrimEnd('\n', '\r'));
    }

    private static Func<string, string?> Variables(string text)
    {
        Dictionary<string, string> all = text.Split(';', StringSplitOptions.RemoveEmptyEntries).Select(pair => pair.Split('='))
            .ToDictionary(pair => pair[0], pair => pair[1]);
        return all.GetValueOrDefault;
    }
}
