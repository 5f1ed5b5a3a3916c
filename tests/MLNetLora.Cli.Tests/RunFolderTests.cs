using MLNetLora.Cli.Output;
using MLNetLora.Training;

namespace MLNetLora.Cli.Tests;

/// <summary>What a training finds in its folder, leaves there, and what is made of it afterwards.</summary>
public sealed class RunFolderTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_run_that_came_from_another_folder_goes_on_in_its_own()
    {
        (await Train("--save-steps", "1", "--max-steps", "1")).Succeeded();
        using Interruption interruption = new();
        using StringWriter error = new();
        using InterruptingWriter output = new("step 2/", () => interruption.Interrupt(ExitCode.Interrupted));
        Screen screen = new() { In = TextReader.Null, Out = output, Error = error, Interruption = interruption };
        string[] line = ["train", "-m", Repository.Nano, "-d", Repository.Data, "-o", _folder.At("other"), "--batch-size", "2",
            "--gradient-accumulation-steps", "1", "--rank", "8", "--max-steps", "3", "--set", "logging_steps=1", "--resume-with-changes"];
        Assert.Equal(ExitCode.Interrupted, await CommandLine.RunAsync([.. line, "--resume-from", Out], screen));
        Assert.Contains("The same command with --resume in the place of --resume-from", error.ToString(), StringComparison.Ordinal);
        Assert.Contains("step 3/3", (await Cli.Run([.. line, "--resume"])).Succeeded().Out, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("lora")]
    [InlineData("full")]
    public async Task A_run_of_every_weight_that_is_at_work_is_not_replaced(string method)
    {
        string running = Path.Combine(Out, "model", "checkpoint-1");
        Directory.CreateDirectory(running);
        using RunFolder held = RunFolder.Open(Path.Combine(Out, "model"), "folder");
        Outcome run = await Cli.Run("train", "-m", Repository.Nano, "-d", Repository.Data, "-o", Out, "--max-steps", "1", "--method", method, "--overwrite");
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Contains("another run is writing to it", run.Error, StringComparison.Ordinal);
        Assert.True(Directory.Exists(running));
    }

    [Theory]
    [InlineData("metrics.jsonl", true)]
    [InlineData("run.html", true)]
    [InlineData("loss.png", true)]
    [InlineData("trainer_state.json", true)]
    [InlineData("runs", false)]
    public async Task A_place_of_a_log_that_is_taken_is_found_before_the_model_is_opened(string name, bool byFolder)
    {
        if (byFolder)
        {
            Directory.CreateDirectory(Path.Combine(Out, name));
        }
        else
        {
            Directory.CreateDirectory(Out);
            File.WriteAllText(Path.Combine(Out, name), "");
        }

        Outcome run = await Cli.Run("train", "-m", "./nowhere", "-d", Repository.Data, "-o", Out);
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Contains($"{Path.Combine(Out, name)} is a {(byFolder ? "folder" : "file")}", run.Error, StringComparison.Ordinal);
        Assert.Equal([name], Directory.EnumerateFileSystemEntries(Out).Select(path => Path.GetFileName(path)!));
    }

    [Fact]
    public async Task An_output_that_cannot_be_written_any_more_is_said_once_and_the_run_goes_on()
    {
        using StringWriter error = new();
        using InterruptingWriter output = new("", () => { }) { IsFull = true };
        Screen screen = new() { In = TextReader.Null, Out = output, Error = error };
        Assert.Equal(ExitCode.Success, await CommandLine.RunAsync(["train", "-m", Repository.Nano, "-d", Repository.Data, "-o", Out, "--rank", "4",
            "--max-steps", "2", "--gradient-accumulation-steps", "1", "--set", "logging_steps=1"], screen));
        Assert.Single(error.ToString().Split('\n'), line => line.Contains("The standard output could not be written", StringComparison.Ordinal));
        Assert.True(File.Exists(Path.Combine(Out, "adapter_model.safetensors")));
    }

    [Fact]
    public async Task A_log_that_cannot_be_written_any_more_is_said_once_and_the_run_goes_on()
    {
        using StringWriter error = new();
        using InterruptingWriter output = new("step 1/", () =>
        {
            File.Delete(Path.Combine(Out, "metrics.jsonl"));
            Directory.CreateDirectory(Path.Combine(Out, "metrics.jsonl"));
        });
        Screen screen = new() { In = TextReader.Null, Out = output, Error = error };
        Assert.Equal(0, await CommandLine.RunAsync(["train", "-m", Repository.Nano, "-d", Repository.Data, "-o", Out, "--max-steps", "4", "--rank", "4",
            "--max-length", "64", "--set", "logging_steps=1"], screen));
        string[] said = error.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Single(said);
        Assert.StartsWith($"warning: {Path.Combine(Out, "metrics.jsonl")} could not be written, and the training goes on", said[0], StringComparison.Ordinal);
        Assert.True(File.Exists(Path.Combine(Out, "adapter_model.safetensors")));
    }

    [Fact]
    public async Task What_a_killed_run_left_half_written_goes_when_the_next_one_begins()
    {
        Directory.CreateDirectory(Out);
        string unfinished = Path.Combine(Out, $"run.html.{Guid.NewGuid():N}.tmp");
        string[] others = [Path.Combine(Out, $"mine.html.{Guid.NewGuid():N}.tmp"), Path.Combine(Out, "run.html.tmp")];
        Array.ForEach([unfinished, .. others], path => File.WriteAllText(path, "<html>"));
        (await Train("--max-steps", "1")).Succeeded();
        Assert.False(File.Exists(unfinished));
        Assert.All(others, path => Assert.True(File.Exists(path)));
    }

    [Fact]
    public async Task An_unfinished_run_answers_with_its_newest_checkpoint_and_says_so()
    {
        string config = _folder.Write("run.yaml", $"model_path: {Repository.Nano}\noutput: {Out}\nmax_new_tokens: 5\n");
        string[] ask = ["--config", config, "Hello"];
        Outcome bare = (await Cli.Run(["generate", .. ask])).Succeeded();
        Assert.Contains($"There is nothing of a training in {Out}: {Repository.Nano} answers as it is.", bare.Error, StringComparison.Ordinal);
        (await Train("--save-steps", "1", "--lr", "0.5", "--target-modules", "all-linear")).Succeeded();
        Outcome whole = (await Cli.Run(["generate", .. ask])).Succeeded();
        Assert.Empty(whole.Error);
        foreach (string name in (string[])["adapter_config.json", "adapter_model.safetensors"])
        {
            File.Delete(Path.Combine(Out, name));
        }

        Outcome unfinished = (await Cli.Run(["generate", .. ask])).Succeeded();
        Assert.Contains($"The training in {Out} has not ended: what it was after step 2 answers ({Path.Combine(Out, "checkpoint-2")}).", unfinished.Error,
            StringComparison.Ordinal);
        Assert.Equal(whole.Out, unfinished.Out);
        Assert.NotEqual(bare.Out, unfinished.Out);
        Outcome evaluated = (await Cli.Run("evaluate", config, "-d", Repository.Data, "--maximum-rows", "2", "--loss-only")).Succeeded();
        Assert.Contains("has not ended", evaluated.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_is_shown_to_be_copied_is_quoted_for_the_shell()
    {
        string output = _folder.At("it's mine (1)");
        Outcome run = (await Train("--output", output, "--max-steps", "1")).Succeeded();
        Assert.Contains($"--adapter {ShellWord.Of(output)}", run.Out, StringComparison.Ordinal);
        Assert.Equal(@"'it'\''s $HOME'", ShellWord.ForUnix("it's $HOME"));
        Assert.Equal("\"it's mine\"", ShellWord.ForWindows("it's mine"));
        Assert.Equal("out/公司-1.zip", ShellWord.Of("out/公司-1.zip"));
        Assert.NotEqual("a;b", ShellWord.Of("a;b"));
    }

    private string Out => _folder.At("out");

    private Task<Outcome> Train(params string[] more)
    {
        string[] steps = more.Contains("--max-steps") ? [] : ["--max-steps", "2"];
        string[] rank = more.Contains("--rank") ? [] : ["--rank", "8"];
        string[] output = more.Contains("--output") ? [] : ["-o", Out];
        return Cli.Run(["train", "-m", Repository.Nano, "-d", Repository.Data, .. output, "--batch-size", "2", "--gradient-accumulation-steps", "1", .. steps,
            .. rank, .. more]);
    }
}
