using System.Diagnostics;
using System.Text.Json;
using MLNetLora.Cli.Output;
using MLNetLora.Cli.Scoring;
using MLNetLora.Tests;

namespace MLNetLora.Cli.Tests;

/// <summary>Many rows into a file: what stands in it, and that a run in parts comes to what one in one go does.</summary>
public sealed class ScoreTests : IDisposable
{
    private static readonly string[] s_noManifests =
    [
        "{}",
        """{"format": 1, "shard": {"index": 0, "count": 1}}""",
        """{"format": 1, "shard": {"index": 0, "count": 1}, "input": {"files": [null], "rows": 4}, "settings": {}}""",
        """{"format": 1, "shard": {"index": 0, "count": 1}, "input": {"files": [], "rows": 4}, "settings": {"model": null}}""",
    ];

    private readonly TemporaryFolder _folder = new();

    private string Answers => _folder.At("answers.jsonl");

    private string Rows => _folder.At("rows.jsonl");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_row_keeps_its_fields_and_gets_an_answer_or_an_error()
    {
        _folder.Write("rows.jsonl", $$"""
            {"id": "a\u0041 b", "instruction": "Hello", "answer": "the right one", "meta": {"row": [1, 2]} }
            {"instruction": broken}
            {"id": 3, "something": "else"}
            {"id": 4, "instruction": "{{string.Concat(Enumerable.Repeat("word ", 600))}}"}
            """);
        Outcome run = await Score();
        Assert.Equal(ExitCode.Failure, run.Code);
        Assert.Contains("3 of 4 rows could not be answered", run.Error, StringComparison.Ordinal);
        string[] lines = File.ReadAllLines(Answers);
        Assert.StartsWith(
            "{\"row\":1,\"id\":\"a\\u0041 b\",\"instruction\":\"Hello\",\"data_answer\":\"the right one\",\"meta\":{\"row\":[1,2]},\"answer\":\"",
            lines[0], StringComparison.Ordinal);
        JsonElement[] rows = [.. lines.Select(line => JsonDocument.Parse(line).RootElement)];
        Assert.Equal([1, 2, 3, 4], rows.Select(row => row.GetProperty("row").GetInt32()));
        Assert.Equal(["answer", "error", "error", "error"],
            rows.Select(row => row.TryGetProperty("answer", out _) ? "answer" : row.TryGetProperty("error", out _) ? "error" : "neither"));
        Assert.Contains("line 2, row 2: not valid JSON", rows[1].GetProperty("error").GetString(), StringComparison.Ordinal);
        Assert.Contains("\"instruction\" is missing", rows[2].GetProperty("error").GetString(), StringComparison.Ordinal);
        Assert.Equal(3, rows[2].GetProperty("id").GetInt32());
        Assert.StartsWith("Row 4: the prompt has ", rows[3].GetProperty("error").GetString(), StringComparison.Ordinal);
        Assert.Equal((6, "length"), (rows[0].GetProperty("new_tokens").GetInt32(), rows[0].GetProperty("finish_reason").GetString()));
        Assert.False(File.Exists(Answers + ".partial"));

        JsonElement hello = JsonDocument.Parse((await Cli.Run("generate", "-m", Repository.Nano, "--max-new-tokens", "6", "--json", "Hello")).Out).RootElement;
        Assert.Equal(hello.GetProperty("answer").GetString(), rows[0].GetProperty("answer").GetString());
    }

    [Fact]
    public async Task Conversations_are_asked_without_the_answer_that_they_end_with()
    {
        _folder.Write("rows.jsonl", """
            {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}
            {"messages": [{"role": "assistant", "content": "Hi"}]}
            """);
        Assert.Equal(ExitCode.Failure, (await Score()).Code);
        string[] lines = File.ReadAllLines(Answers);
        Assert.StartsWith("{\"row\":1,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"},{\"role\":\"assistant\"", lines[0], StringComparison.Ordinal);
        string hello = (await Cli.Run("generate", "-m", Repository.Nano, "--max-new-tokens", "6", "Hello")).Succeeded().Out.Trim();
        Assert.Equal(hello, JsonDocument.Parse(lines[0]).RootElement.GetProperty("answer").GetString()!.Trim());
        Assert.Contains("nobody asks anything", JsonDocument.Parse(lines[1]).RootElement.GetProperty("error").GetString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("rows.json", "[{\n  \"instruction\": \"Hello\",\n  \"id\": 1\n}]", "{\"row\":1,\"instruction\":\"Hello\",\"id\":1,\"answer\":")]
    [InlineData("rows.csv", "instruction,id\nHello,1\n", "{\"row\":1,\"instruction\":\"Hello\",\"id\":\"1\",\"answer\":")]
    [InlineData("rows.txt", "\nHello\n", "{\"row\":1,\"instruction\":\"Hello\",\"answer\":")]
    public async Task Rows_may_be_written_in_any_way(string name, string text, string expected)
    {
        (await Score("--in", _folder.Write(name, text))).Succeeded();
        Assert.StartsWith(expected, File.ReadAllText(Answers), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Several_files_are_numbered_on_and_an_empty_one_is_passed_over()
    {
        _folder.Write("part-0.jsonl", "{\"instruction\": \"a\"}\n");
        _folder.Write("part-1.jsonl", "");
        _folder.Write("part-2.jsonl", "{\"prompt\": \"b\"}\n");
        (await Score("--in", _folder.At("part-*.jsonl"))).Succeeded();
        Assert.Equal([(0, false), (1, false)], File.ReadAllLines(Answers).Select(line => ScoredRow.Read(System.Text.Encoding.UTF8.GetBytes(line))!.Value));
        Assert.Equal(ExitCode.Usage, (await Score("--in", _folder.At("part-1.jsonl"), "--out", _folder.At("none.jsonl"))).Code);
    }

    [Fact]
    public async Task What_is_done_is_not_done_again()
    {
        WriteRows(5);
        (await Score()).Succeeded();
        DateTime written = File.GetLastWriteTimeUtc(Answers);
        Outcome again = (await Score("--generation-batch-size", "3", "--threads", "1")).Succeeded(); // neither changes an answer
        Assert.Contains("All 5 answers are in", again.Error, StringComparison.Ordinal);
        Assert.Equal(written, File.GetLastWriteTimeUtc(Answers));
    }

    [Theory]
    [InlineData(-1, "had 5 answers, and has 4 now")]
    [InlineData(-1000000, "had 5 answers, and has 0 now")]
    [InlineData(3, "had 5 answers, and has 5 now")]
    public async Task What_was_done_and_is_no_longer_whole_is_told_of(int longer, string expected)
    {
        WriteRows(5);
        (await Score()).Succeeded();
        using (FileStream file = new(Answers, FileMode.Open))
        {
            file.SetLength(Math.Max(0, file.Length + longer));
        }

        await Refused(expected);
        (await Score("--overwrite")).Succeeded();
    }

    [Fact]
    public async Task A_run_in_parts_is_a_run_in_one_go()
    {
        WriteRows(12);
        await Score("--temperature", "1"); // without a seed
        byte[] whole = File.ReadAllBytes(Answers);
        Assert.Equal(12, File.ReadAllLines(Answers).Length);
        int[] lengths = [0, 1, 40, whole.Length / 3, whole.Length / 2, whole.Length - 1, whole.Length];
        foreach (int length in lengths)
        {
            Interrupted(whole[..length]);
            await Score("--temperature", "1");
            Assert.Equal(whole, File.ReadAllBytes(Answers));
            Assert.False(File.Exists(Answers + ".partial"));
            Assert.True(ScoreManifest.Read(Answers)!.IsComplete);
        }

        // Ended when the file had its name and the manifest did not say so yet.
        ScoreManifest complete = ScoreManifest.Read(Answers)!;
        (complete with { IsComplete = false }).Write(Answers);
        await Score("--temperature", "1");
        Assert.Equal(whole, File.ReadAllBytes(Answers));
        Assert.Equal(complete.Failed, ScoreManifest.Read(Answers)!.Failed);

        // A last line that the disk has lost the half of, and a line that somebody has changed.
        string[] lines = File.ReadAllLines(Answers);
        Interrupted([.. System.Text.Encoding.UTF8.GetBytes(string.Join('\n', lines[..5])), .. "\n\0\0\0\n"u8]);
        await Score("--temperature", "1");
        Assert.Equal(whole, File.ReadAllBytes(Answers));
        Interrupted(System.Text.Encoding.UTF8.GetBytes(string.Join('\n', lines[..2].Concat(lines[3..]))));
        Outcome changed = await Score("--temperature", "1");
        Assert.Equal(ExitCode.Usage, changed.Code);
        Assert.Contains("line 3 is not the answer to row 3", changed.Error, StringComparison.Ordinal);
    }

    [LinuxFact]
    public async Task A_process_that_is_killed_again_and_again_comes_to_the_same()
    {
        const int kills = 4;
        WriteRows(150);
        (await Score("--max-new-tokens", "24", "--out", _folder.At("whole.jsonl"))).Succeeded();
        long length = new FileInfo(_folder.At("whole.jsonl")).Length;
        FileInfo partial = new(Answers + ".partial");
        Random random = new(3);
        for (int i = 0; i < kills; i++)
        {
            long enough = length * (i + 1) / (kills + 3) * (50 + random.Next(50)) / 100;
            using Process process = Process.Start(new ProcessStartInfo("dotnet", [
                typeof(CommandLine).Assembly.Location, "score", "-m", Repository.Nano, "--threads", "1", "--in", Rows, "--out", Answers,
                "--max-new-tokens", "24"])
            { RedirectStandardError = true })!;
            do
            {
                await Task.Delay(1);
                partial.Refresh();
            }
            while (!process.HasExited && (!partial.Exists || partial.Length < enough));

            process.Kill(); // SIGKILL
            await process.WaitForExitAsync();
            Assert.False(File.Exists(Answers), "It had ended before it could be killed.");
        }

        Outcome last = (await Score("--max-new-tokens", "24")).Succeeded();
        Assert.Contains("rows are answered already", last.Error, StringComparison.Ordinal);
        Assert.Equal(File.ReadAllBytes(_folder.At("whole.jsonl")), File.ReadAllBytes(Answers));
    }

    [Fact]
    public async Task Another_run_s_file_is_refused_unless_it_may_go()
    {
        WriteRows(3);
        (await Score()).Succeeded();
        await Refused("its maximum_new_tokens was 6 and is now 7", "--max-new-tokens", "7");
        await Refused("its system_prompt was unset and is now Be kind.", "--system-prompt", "Be kind.");
        await Refused("it is shard 0/1, and now 0/2 is asked for", "--shard", "0/2");
        WriteRows(4);
        await Refused("the files of --in have changed");
        await Refused("no-such-model", "--overwrite", "-m", _folder.At("no-such-model"));
        (await Score("--overwrite")).Succeeded();
        Assert.Equal(4, File.ReadAllLines(Answers).Length);
        File.Delete(ScoreManifest.PathOf(Answers));
        await Refused("nothing says to which rows and settings it belongs");
        foreach (string manifest in s_noManifests)
        {
            File.WriteAllText(ScoreManifest.PathOf(Answers), manifest);
            await Refused("is no manifest of this version");
        }
    }

    [Fact]
    public async Task Two_processes_do_not_write_one_file()
    {
        WriteRows(3);
        await Score();
        Interrupted([]);
        using FileStream other = new(Answers + ".partial", FileMode.Open, FileAccess.ReadWrite, FileShare.None);
        Outcome run = await Score();
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Contains("Another process may be writing it", run.Error, StringComparison.Ordinal);
        byte[] manifest = File.ReadAllBytes(ScoreManifest.PathOf(Answers));
        run = await Score("--overwrite", "--max-new-tokens", "5");
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Contains("Another process may be writing it", run.Error, StringComparison.Ordinal);
        Assert.Equal(manifest, File.ReadAllBytes(ScoreManifest.PathOf(Answers)));
        Assert.True(File.Exists(Answers + ".partial"));
    }

    [Theory]
    [InlineData("rows.jsonl", "rows.jsonl")]
    [InlineData("rows.jsonl.partial", "rows.jsonl")]
    [InlineData("rows.jsonl.manifest.json", "rows.jsonl")]
    [InlineData("rows.*", "rows.jsonl")]
    [InlineData("link.jsonl", "rows.jsonl")]
    public async Task The_rows_are_not_written_over(string rows, string answers)
    {
        WriteRows(3);
        foreach (string other in (string[])["rows.jsonl.partial", "rows.jsonl.manifest.json"])
        {
            File.Copy(Rows, _folder.At(other));
        }

        File.CreateSymbolicLink(_folder.At("link.jsonl"), Rows);
        byte[] before = File.ReadAllBytes(Rows);
        Outcome run = await Score("--in", _folder.At(rows), "--out", _folder.At(answers), "--overwrite");
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Contains("holds the rows that are to be answered", run.Error, StringComparison.Ordinal);
        Assert.All(Directory.EnumerateFiles(_folder.Path), path => Assert.Equal(before, File.ReadAllBytes(path)));
    }

    [Fact]
    public async Task A_pipe_is_no_file_of_rows()
    {
        if (OperatingSystem.IsWindows())
        {
            return; // has no such files
        }

        Outcome run = await Score("--in", "/dev/null", "--max-new-tokens", "3");
        Assert.Contains("has no rows", run.Error, StringComparison.Ordinal);
        using Process pipe = Process.Start("mkfifo", [_folder.At("rows.fifo")]);
        await pipe.WaitForExitAsync();
        using FileStream held = new(_folder.At("rows.fifo"), FileMode.Open, FileAccess.ReadWrite);
        run = await Score("--in", _folder.At("rows.fifo"));
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Contains("is no file but a pipe", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_line_without_end_is_not_read_into_memory()
    {
        _folder.Write("endless.jsonl", "");
        using (FileStream sparse = new(_folder.At("endless.jsonl"), FileMode.Open))
        {
            sparse.SetLength(ScoreFile.LongestLine + 10L); // zeros, which take no room
        }

        await NotJoined("it has more than 256 MiB", _folder.At("endless.jsonl"));
    }

    [Fact]
    public async Task An_interruption_ends_with_its_code_and_the_same_command_goes_on()
    {
        WriteRows(3);
        using Interruption interruption = new();
        Screen screen = new() { In = TextReader.Null, Out = TextWriter.Null, Error = TextWriter.Null, Interruption = interruption };
        interruption.Interrupt(ExitCode.Terminated);
        string[] arguments = ["score", "-m", Repository.Nano, "--in", Rows, "--out", Answers, "--max-new-tokens", "6"];
        Assert.Equal(ExitCode.Terminated, await CommandLine.RunAsync(arguments, screen));
        Assert.False(File.Exists(Answers));
        (await Score()).Succeeded();
        Assert.Equal(3, File.ReadAllLines(Answers).Length);
    }

    [Fact]
    public async Task Shards_joined_are_the_whole()
    {
        WriteRows(11);
        (await Score("--temperature", "1")).Succeeded();
        string shards = _folder.At("shard-{shard}.jsonl");
        for (int i = 0; i < 3; i++)
        {
            (await Score("--temperature", "1", "--shard", $"{i}/3", "--out", shards)).Succeeded();
        }

        Assert.Equal(
            [1, 4, 7, 10],
            File.ReadAllLines(_folder.At("shard-0.jsonl")).Select(line => JsonDocument.Parse(line).RootElement.GetProperty("row").GetInt32()));
        string[] parts = [_folder.At("shard-1.jsonl"), _folder.At("shard-0.jsonl"), _folder.At("shard-2.jsonl")];
        Outcome joined = (await Join(parts)).Succeeded();
        Assert.Contains("11 answers are in", joined.Error, StringComparison.Ordinal);
        Assert.Equal(File.ReadAllBytes(Answers), File.ReadAllBytes(_folder.At("joined.jsonl")));

        await NotJoined("is there already", parts);
        File.Delete(_folder.At("joined.jsonl"));
        await NotJoined("Row 2 is in none of the files", parts[1..]);
        await NotJoined("another file, or itself before, has too", [.. parts, parts[0]]);
        await NotJoined("another number of shards", [.. parts, Answers]);
        ScoreManifest manifest = ScoreManifest.Read(parts[0])!;
        (manifest with { IsComplete = false }).Write(parts[0]);
        await NotJoined("shard 1/3 has not ended", parts);
        (manifest with { Settings = new Dictionary<string, string>(manifest.Settings) { ["top_k"] = "5" } }).Write(parts[0]);
        await NotJoined("its top_k was 5 and is now null", parts);
        File.WriteAllText(parts[0], "{\"instruction\": \"a\"}\n");
        File.Delete(ScoreManifest.PathOf(parts[0]));
        await NotJoined("no answer of 'mlnetlora score'", parts);
        Assert.False(File.Exists(_folder.At("joined.jsonl")));
    }

    [Fact]
    public async Task The_end_of_the_rows_is_missed_too()
    {
        WriteRows(4);
        for (int i = 0; i < 2; i++)
        {
            (await Score("--shard", $"{i}/2", "--out", _folder.At("shard-{shard}.jsonl"))).Succeeded();
        }

        File.WriteAllLines(_folder.At("shard-1.jsonl"), File.ReadAllLines(_folder.At("shard-1.jsonl"))[..1]);
        await NotJoined("Row 4 and those behind it, up to 4, are in none", _folder.At("shard-0.jsonl"), _folder.At("shard-1.jsonl"));
    }

    [Fact]
    public async Task A_shard_may_have_no_rows()
    {
        WriteRows(2);
        (await Score("--shard", "2/3")).Succeeded();
        Assert.Empty(File.ReadAllText(Answers));
    }

    [Theory]
    [InlineData("There are no rows: give --in")]
    [InlineData("--in and --shard must go", "--join", "a.jsonl", "--shard", "0/2")]
    [InlineData("--shard is x; it must be I/N", "--in", "rows.jsonl", "--shard", "x")]
    [InlineData("is not a file", "--in", "/nowhere/rows.jsonl")]
    public async Task What_makes_no_sense_is_refused(string expected, params string[] arguments)
    {
        Outcome run = await Cli.Run(["score", "-m", Repository.Nano, "--out", Answers, .. arguments]);
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Contains(expected, run.Error, StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFileSystemEntries(_folder.Path));
    }

    private async Task Refused(string expected, params string[] arguments)
    {
        byte[] before = File.ReadAllBytes(Answers);
        Outcome run = await Score(arguments);
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Contains(expected, run.Error, StringComparison.Ordinal);
        Assert.Equal(before, File.ReadAllBytes(Answers));
    }

    private async Task NotJoined(string expected, params string[] parts)
    {
        Outcome run = await Join(parts);
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Contains(expected, run.Error, StringComparison.Ordinal);
    }

    private Task<Outcome> Join(params string[] parts) => Cli.Run(["score", "--out", _folder.At("joined.jsonl"), "--join", .. parts]);

    private Task<Outcome> Score(params string[] arguments)
    {
        string[] given = ["score", .. arguments];
        foreach ((string option, string value) in ((string, string)[])[("-m", Repository.Nano), ("--in", Rows), ("--out", Answers), ("--max-new-tokens", "6")])
        {
            given = given.Contains(option) ? given : [.. given, option, value];
        }

        return Cli.Run(given);
    }

    /// <summary>Makes of a whole file what a process leaves that was killed.</summary>
    private void Interrupted(byte[] written)
    {
        File.Delete(Answers);
        File.WriteAllBytes(Answers + ".partial", written);
        (ScoreManifest.Read(Answers)! with { IsComplete = false }).Write(Answers);
    }

    private void WriteRows(int count) => _folder.Write("rows.jsonl", string.Concat(Enumerable.Range(0, count).Select(
        i => $"{{\"id\": {i}, \"instruction\": \"Say {i}.\", \"input\": \"{new string('x', i % 7 * 9)}\"}}\n")));
}
