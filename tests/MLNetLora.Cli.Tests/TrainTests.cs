using System.Text.Json;
using MLNetLora.Cli.Output;

namespace MLNetLora.Cli.Tests;

/// <summary>train, in this process, on the nano checkpoint: a few steps each.</summary>
public sealed class TrainTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_run_leaves_adapter_zip_logs_and_says_where()
    {
        Outcome run = (await Train("--merge", "--validation-size", "0.2", "--seed", "7")).Succeeded();
        foreach (string file in (string[])["adapter_config.json", "adapter_model.safetensors", "merged/model.safetensors", "merged/tokenizer.json",
            "model.zip", "metrics.jsonl", "run.html", "loss.png"])
        {
            Assert.True(File.Exists(Path.Combine(Out, file)), file);
        }

        Assert.NotEmpty(Directory.EnumerateFiles(Path.Combine(Out, "runs")));
        Assert.Contains("28,672 of 4,422,400 parameters", run.Out, StringComparison.Ordinal);
        Assert.Contains("19, and 5 for validation", run.Out, StringComparison.Ordinal);
        Assert.Contains("step 2/2  validation loss", run.Out, StringComparison.Ordinal);
        Assert.Contains($"mlnetlora chat --model {Repository.Nano} --adapter {Out}", run.Out, StringComparison.Ordinal);
        Assert.DoesNotContain('\e', run.Out);
        Assert.Empty(run.Error);
        using JsonDocument config = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(Out, "adapter_config.json")));
        Assert.Equal(8, config.RootElement.GetProperty("r").GetInt32());
    }

    [Fact]
    public async Task The_page_shows_rows_as_they_were_answered_and_are()
    {
        Outcome run = (await Train("--validation-size", "5", "--sample-answers", "2", "--seed", "7")).Succeeded();
        Assert.Contains("answering 2 rows as before and as now", run.Out, StringComparison.Ordinal);
        string page = File.ReadAllText(Path.Combine(Out, "run.html"));
        Assert.Equal(2, page.Split("<article class=\"sample\">").Length - 1);
        Assert.Equal(2, page.Split("<dt>before</dt>").Length - 1);
        (await Train("--overwrite", "--sample-answers", "0")).Succeeded();
        Assert.DoesNotContain("class=\"sample\"", File.ReadAllText(Path.Combine(Out, "run.html")), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_folder_with_results_is_refused_before_training_unless_it_may_be_overwritten()
    {
        (await Train("--zip", "false")).Succeeded();
        Assert.False(File.Exists(Path.Combine(Out, "model.zip")));
        Outcome again = await Train();
        Assert.Equal((ExitCode.Usage, ""), (again.Code, again.Out));
        Assert.Contains("has results already (adapter_config.json)", again.Error, StringComparison.Ordinal);
        (await Train("--overwrite", "--rank", "4")).Succeeded();
        Assert.Contains("\"r\": 4", File.ReadAllText(Path.Combine(Out, "adapter_config.json")), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Results_are_replaced_by_a_run_that_begins_and_by_no_other()
    {
        (await Train()).Succeeded();
        string adapter = Path.Combine(Out, "adapter_model.safetensors");
        byte[] before = File.ReadAllBytes(adapter);
        Assert.NotEqual(0, (await Train("--overwrite", "--rank", "0")).Code);
        Assert.NotEqual(0, (await Train("--overwrite", "--target-modules", "no_such_layer")).Code);
        Assert.Equal(before, File.ReadAllBytes(adapter));
        Assert.True(Directory.Exists(Path.Combine(Out, "checkpoint-2")));
        Assert.Contains("the run reads", (await Train("--overwrite", "--initial-adapter", Out)).Error, StringComparison.Ordinal);
        Assert.Equal(before, File.ReadAllBytes(adapter));
        Assert.Contains("one of them must go", (await Train("--overwrite", "--resume")).Error, StringComparison.Ordinal);
        Assert.DoesNotContain(Directory.EnumerateFileSystemEntries(Out), path => Path.GetFileName(path).StartsWith('.'));
    }

    [Fact]
    public async Task A_dry_run_knows_of_validation_rows() => (await Cli.Run("train", "-m", Repository.Nano, "-d", Repository.Data, "-o", Out,
        "--validation-size", "0.5", "--load-best-model-at-end", "--dry-run")).Succeeded();

    [Fact]
    public async Task Every_weight_can_be_trained_and_the_checkpoint_answers()
    {
        (await Cli.Run("train", "-m", Repository.Nano, "-d", Repository.Data, "-o", Out, "--method", "full", "--max-steps", "1", "--max-length",
            "64")).Succeeded();
        Assert.True(File.Exists(Path.Combine(Out, "model", "config.json")));
        string config = _folder.Write("run.yaml", $"method: full\noutput: {Out}\nmodel_path: {Repository.Nano}\n");
        Assert.NotEmpty((await Cli.Run("generate", "--config", config, "--max-new-tokens", "2", "Hello")).Succeeded().Out.Trim());
    }

    [Fact]
    public async Task A_dry_run_trains_nothing_and_says_where_everything_comes_from()
    {
        string config = _folder.Write("run.yaml", $"lora_rank: 16\nddp_timeout: 5\noutput_dir: {Out}\npacking: true\n");
        Outcome run = (await Cli.Run("train", config, "--model", Repository.Nano, "--set", "lora_alpha=32", "--dropout", "0", "--dry-run")).Succeeded();
        Assert.Matches($@"rank +16 +{System.Text.RegularExpressions.Regex.Escape(config)}:1 \(lora_rank\)", run.Out);
        Assert.Matches(@"alpha +32 +command line \(lora_alpha\)", run.Out);
        Assert.Matches(@"dropout +0 +command line", run.Out);
        Assert.Matches(@"packing_length +512 +packing", run.Out);
        Assert.Matches(@"batch_size +1 +default", run.Out);
        Assert.Contains("ignored: ddp_timeout (one process", run.Error, StringComparison.Ordinal);
        Assert.False(Directory.Exists(Out));
    }

    [Theory]
    [InlineData("rank is 0", "--rank", "0")]
    [InlineData("Rank is 0", "--rank", "0", "--dry-run")]
    [InlineData("--rank is many; it must be a whole number.", "--rank", "many")]
    [InlineData("there is no option --rnak. The nearest one is --rank.", "--rnak", "8")]
    [InlineData("nearest one is lora_rank", "--set", "lora_rnk=8")]
    [InlineData("--set lora_rank: it must be KEY=VALUE", "--set", "lora_rank")]
    [InlineData("says the same, --rank", "--rank", "8", "--set", "r=8")]
    [InlineData("nowhere.yaml", "nowhere.yaml")]
    public async Task What_is_wrong_with_the_line_is_said_and_ends_with_2(string expected, params string[] arguments)
    {
        Outcome run = await Cli.Run(["train", "--model", Repository.Nano, "--data", Repository.Data, "--output", Out, .. arguments]);
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Contains(expected, run.Error, StringComparison.OrdinalIgnoreCase);
        Assert.Empty(run.Out);
        Assert.DoesNotContain("   at ", run.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("give --model", "--data", "x.json")]
    [InlineData("give --output", "--data", "x.json", "--model", "m")]
    public async Task What_is_missing_is_asked_for(string expected, params string[] arguments)
    {
        Outcome run = await Cli.Run(["train", .. arguments]);
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Contains(expected, run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_cannot_be_used_is_one_paragraph_and_its_stack_only_where_it_is_asked_for()
    {
        string data = _folder.Write("bad.json", "[{\"instruction\": 5}]");
        Outcome run = await Cli.Run("train", "-m", Repository.Nano, "-d", data, "-o", Out);
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.StartsWith("error: ", run.Error, StringComparison.Ordinal);
        Assert.Contains("bad.json", run.Error, StringComparison.Ordinal);
        Assert.Single(run.Error.Trim().Split('\n'));
        Outcome verbose = await Cli.Run("train", "-m", Repository.Nano, "-d", data, "-o", Out, "--verbose");
        Assert.Contains("   at ", verbose.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Options_of_the_peers_are_translated()
    {
        Outcome run = (await Cli.Run("train", "--model_name_or_path", Repository.Nano, "--lora_rank=4", "--learning_rate", "1e-3", "--use_rslora",
            "--dry-run")).Succeeded();
        Assert.Matches(@"rank +4 ", run.Out);
        Assert.Matches(@"learning_rate +0\.001 ", run.Out);
        Assert.Matches(@"use_rs_lora +true ", run.Out);
    }

    [Fact]
    public async Task Lists_and_maps_are_given_as_words()
    {
        Outcome run = (await Cli.Run("train", "-m", "m", "--target-modules", "q_proj", "v_proj", "--modules-to-save", "embed_tokens,lm_head",
            "--rank-pattern", "{down_proj: 16}", "--layers-to-transform", "0,1", "--dry-run")).Succeeded();
        Assert.Contains("[q_proj, v_proj]", run.Out, StringComparison.Ordinal);
        Assert.Contains("[embed_tokens, lm_head]", run.Out, StringComparison.Ordinal);
        Assert.Contains("down_proj: 16", run.Out, StringComparison.Ordinal);
        Assert.Contains("[0, 1]", run.Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Lines_of_progress_come_as_often_as_is_asked_for()
    {
        Outcome run = (await Train("--max-steps", "4", "--set", "logging_steps=2")).Succeeded();
        Assert.Equal(["step 2/4", "step 4/4"], run.Lines.Where(line => line.StartsWith("step ", StringComparison.Ordinal)).Select(line => line[..8]));
    }

    [Fact]
    public async Task The_first_rows_alone_are_read_where_that_is_asked_for()
    {
        Outcome run = (await Train("--max-steps", "1", "--maximum-rows", "5")).Succeeded();
        Assert.Matches(@"rows +5\b", run.Out);
    }

    [Fact]
    public async Task Rows_for_validation_are_drawn_by_the_seed_and_not_learned()
    {
        Microsoft.ML.MLContext ml = new();
        Microsoft.ML.IDataView all = Microsoft.ML.InstructionDataExtensions.LoadFromInstructionFile(ml.Data, Repository.Data);
        (Microsoft.ML.IDataView rows, Microsoft.ML.IDataView validation) = Running.RowFiles.Split(ml, all, 0.25, seed: 3);
        string[] learned = Questions(ml, rows);
        string[] kept = Questions(ml, validation);
        Assert.Equal((18, 6), (learned.Length, kept.Length));
        Assert.Equal(kept, Questions(ml, validation)); // in every pass
        Assert.Equal(Questions(ml, all).Order(), learned.Concat(kept).Order());
        Assert.NotEqual(kept, Questions(ml, Running.RowFiles.Split(ml, all, 0.25, seed: 4).Validation));
        Assert.Equal(2, Questions(ml, Running.RowFiles.Split(ml, all, 2, seed: 4).Validation).Length);
        Outcome none = await Train("--validation-size", "24");
        Assert.Equal(ExitCode.Usage, none.Code);
        Assert.Contains("none is left to learn from", none.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_interrupted_run_saves_the_last_whole_step_and_says_how_to_go_on()
    {
        using Interruption interruption = new();
        using StringWriter error = new();
        using InterruptingWriter output = new("step 1/", () => interruption.Interrupt(ExitCode.Interrupted));
        Screen screen = new() { In = TextReader.Null, Out = output, Error = error, Interruption = interruption };
        int code = await CommandLine.RunAsync(
            ["train", "-m", Repository.Nano, "-d", Repository.Data, "-o", Out, "--max-steps", "1000", "--rank", "8", "--max-length", "64"], screen);
        Assert.Equal(ExitCode.Interrupted, code);
        Assert.Single(Directory.EnumerateDirectories(Out, "checkpoint-*"));
        Assert.False(File.Exists(Path.Combine(Out, "adapter_model.safetensors")) || File.Exists(Path.Combine(Out, "model.zip")));
        Assert.Contains("Stopping after this step", error.ToString(), StringComparison.Ordinal);
        Assert.Matches(@"Stopped after step \d+ of 1000", error.ToString());
        Assert.Contains("The same command with --resume goes on from there.", error.ToString(), StringComparison.Ordinal);
        Assert.False(interruption.Interrupt(ExitCode.Interrupted)); // the second is the system's
    }

    [Fact]
    public async Task A_run_that_was_interrupted_ends_as_one_that_was_not()
    {
        string[] arguments =
        [
            "train", "-m", Repository.Nano, "-d", Repository.Data, "--max-steps", "3", "--rank", "4", "--seed", "7", "--max-length", "64",
            "--zip", "false", "--threads", "1",
        ];
        using Interruption interruption = new();
        using InterruptingWriter output = new("step 1/", () => interruption.Interrupt(ExitCode.Interrupted));
        Screen screen = new() { In = TextReader.Null, Out = output, Error = TextWriter.Null, Interruption = interruption };
        Assert.Equal(ExitCode.Interrupted, await CommandLine.RunAsync([.. arguments, "-o", Out], screen));
        foreach (string sign in (string[])["", "steps"]) // before anything was read, and when everything was
        {
            using Interruption early = new();
            using InterruptingWriter begun = new(sign, () => early.Interrupt(ExitCode.Interrupted));
            using StringWriter error = new();
            _ = sign.Length == 0 && early.Interrupt(ExitCode.Interrupted);
            Screen again = new() { In = TextReader.Null, Out = begun, Error = error, Interruption = early };
            Assert.Equal(ExitCode.Interrupted, await CommandLine.RunAsync([.. arguments, "-o", Out, "--resume"], again));
            Assert.Contains($"Stopped before another step was made; {Out} is as it was.", error.ToString(), StringComparison.Ordinal);
            Assert.False(File.Exists(Path.Combine(Out, "adapter_model.safetensors")));
        }

        Outcome rest = (await Cli.Run([.. arguments, "-o", Out, "--resume"])).Succeeded();
        Assert.Matches(@"steps +3, from step \d", rest.Out);
        (await Cli.Run([.. arguments, "-o", _folder.At("whole")])).Succeeded();
        Assert.Equal(
            File.ReadAllBytes(_folder.At("whole/adapter_model.safetensors")), File.ReadAllBytes(Path.Combine(Out, "adapter_model.safetensors")));
    }

    [Fact]
    public async Task A_run_is_gone_on_with_and_another_folder_s_too()
    {
        (await Train("--save-steps", "1", "--save-total-limit", "1", "--resume")).Succeeded(); // where there is none, it begins
        string[] kept = [.. Directory.EnumerateDirectories(Out, "checkpoint-*").Select(path => Path.GetFileName(path)!)];
        Assert.Contains("checkpoint-2", kept);
        byte[] trained = File.ReadAllBytes(Path.Combine(Out, "adapter_model.safetensors"));
        (await Train("--save-steps", "1", "--resume")).Succeeded();
        Assert.Equal(trained, File.ReadAllBytes(Path.Combine(Out, "adapter_model.safetensors")));

        string config = _folder.Write("run.yaml", "resume_from_checkpoint: true\n");
        Assert.Contains("has all its steps", (await Train("--config", config, "--save-steps", "1")).Succeeded().Out, StringComparison.Ordinal);

        string other = _folder.At("other");
        Outcome changed = await Train("--resume-from", Path.Combine(Out, "checkpoint-2"), "--max-steps", "3", "--output", other);
        Assert.NotEqual(0, changed.Code);
        Assert.Contains("--max-steps is 3, and was 2", changed.Error, StringComparison.Ordinal);
        Outcome more = (await Train("--resume-from", Path.Combine(Out, "checkpoint-2"), "--max-steps", "3", "--output", other,
            "--resume-with-changes")).Succeeded();
        Assert.Contains("step 3/3", more.Out, StringComparison.Ordinal);
        Assert.Contains("resume_from names another", (await Train("--resume", "--resume-from", Out)).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_interruption_before_the_first_step_saves_nothing()
    {
        using Interruption interruption = new();
        using StringWriter error = new();
        interruption.Interrupt(ExitCode.Terminated);
        Screen screen = new() { In = TextReader.Null, Out = TextWriter.Null, Error = error, Interruption = interruption };
        Assert.Equal(ExitCode.Terminated, await CommandLine.RunAsync(["train", "-m", Repository.Nano, "-d", Repository.Data, "-o", Out], screen));
        Assert.False(File.Exists(Path.Combine(Out, "adapter_config.json")));
        Assert.Contains("nothing to save", error.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Preflight_shows_what_would_be_learned()
    {
        Outcome run = (await Cli.Run("preflight", "-m", Repository.Nano, "-d", Repository.Data, "--max-length", "32")).Succeeded();
        Assert.Contains("24 rows", run.Out, StringComparison.Ordinal);
        Assert.Contains("cut off", run.Out, StringComparison.Ordinal);
        Assert.Contains("❮", run.Out, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("save_strategy: epoch")]
    [InlineData("save_steps: 50")]
    public async Task What_writes_nothing_needs_no_folder_for_the_checkpoints_of_its_file(string line)
    {
        string config = _folder.Write("run.yaml", line + "\n");
        (await Cli.Run("preflight", "-m", Repository.Nano, "-d", Repository.Data, "--config", config)).Succeeded();
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

    private static string[] Questions(Microsoft.ML.MLContext ml, Microsoft.ML.IDataView rows) =>
        [.. ml.Data.CreateEnumerable<Row>(rows, reuseRowObject: false).Select(row => row.Instruction)];

    private sealed class Row
    {
        public string Instruction { get; set; } = "";
    }
}
