namespace MLNetLora.Cli.Tests;

/// <summary>2: what was given cannot be used and nothing was done; 1: the run failed.</summary>
public sealed class ExitCodeTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("no option", "train --no-such-option")]
    [InlineData("There is no configuration", "train nowhere.yaml")]
    [InlineData("it must be", "train -m NANO -d DATA -o OUT --rank many")]
    [InlineData("--rank is 0", "train -m NANO -d DATA -o OUT --rank 0")]
    [InlineData("There is no folder", "train -m ./nowhere -d DATA -o OUT")]
    [InlineData("nowhere.json", "train -m NANO -d nowhere.json -o OUT")]
    [InlineData("bad.json", "train -m NANO -d BAD -o OUT")]
    [InlineData("no_such_layer", "train -m NANO -d DATA -o OUT --target-modules no_such_layer")]
    [InlineData("CUDA", "train -m NANO -d DATA -o OUT --device cuda:97")]
    [InlineData("nowhere", "train -m NANO -d DATA -o OUT --initial-adapter nowhere")]
    [InlineData("--resume-from is", "train -m NANO -d DATA -o OUT --resume-from nowhere")]
    [InlineData("--warnings-as-errors", "train -m NANO -d DATA -o OUT --max-length 40 --warnings-as-errors")]
    [InlineData("cannot be made", "train -m NANO -d DATA -o BAD/out")]
    [InlineData("bad.json", "preflight -m NANO -d BAD")]
    [InlineData("There is no folder", "evaluate -m ./nowhere -d DATA")]
    [InlineData("bad.json", "evaluate -m NANO -d BAD")]
    [InlineData("CUDA", "generate -m NANO --device cuda:97 Hello")]
    [InlineData("nowhere.zip", "generate -m nowhere.zip Hello")]
    [InlineData("bad.zip", "generate -m ZIP Hello")]
    [InlineData("nowhere", "generate -m NANO -a nowhere Hello")]
    [InlineData("nowhere.jsonl", "generate -m NANO --in nowhere.jsonl")]
    [InlineData("bad.json", "generate -m NANO --in BAD --out OUT/answers.jsonl")]
    [InlineData("There is no folder", "chat -m ./nowhere")]
    [InlineData("There is no folder", "merge --base ./nowhere --adapter a --out OUT")]
    [InlineData("nowhere", "merge --base NANO --adapter nowhere --out OUT")]
    [InlineData("no folder", "inspect ./nowhere")]
    [InlineData("bad.zip", "inspect ZIP")]
    [InlineData("no hub id", "download ./nowhere")]
    [InlineData("is not known", "new-checkpoint --size Qwen9 --out OUT")]
    [InlineData("at least one layer", "new-checkpoint --size Qwen2.5-0.5B --layers 0 --out OUT")]
    public async Task What_cannot_be_used_ends_with_2_and_leaves_nothing(string expected, string line)
    {
        Dictionary<string, string> places = new()
        {
            ["NANO"] = Repository.Nano,
            ["DATA"] = Repository.Data,
            ["OUT"] = _folder.At("made/out"),
            ["BAD"] = _folder.Write("bad.json", "[{\"instruction\": 5}]"),
            ["ZIP"] = _folder.Write("bad.zip", "no zip"),
        };
        string[] words = [.. line.Split(' ').Select(word => word.Split('/') is [var place, .. var rest] && places.TryGetValue(place, out string? path)
            ? Path.Combine([path, .. rest])
            : word)];
        Outcome run = await Cli.Run(words);
        Assert.True(run.Code == ExitCode.Usage, $"{run.Code}: {run.Error}");
        Assert.Contains(run.Error.Split('\n'), said => said.StartsWith("error: ", StringComparison.Ordinal));
        Assert.Contains(expected, run.Error, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("--verbose shows", run.Error, StringComparison.Ordinal); // which is for what nobody foresaw
        Assert.Empty(run.Out);
        Assert.False(Directory.Exists(_folder.At("made")));
    }

    [Fact]
    public async Task What_is_found_after_the_run_has_begun_ends_with_1()
    {
        string rows = _folder.Write("rows.jsonl", "{\"instruction\": \"Hello\"}\n{\"instruction\": 5}\n");
        Outcome run = await Cli.Run("generate", "-m", Repository.Nano, "--in", rows, "--generation-batch-size", "1", "--max-new-tokens", "2");
        Assert.Equal(ExitCode.Failure, run.Code);
        Assert.Single(run.Lines);
        Outcome diverged = await Cli.Run("train", "-m", Repository.Nano, "-d", Repository.Data, "-o", _folder.At("out"), "--max-steps", "20", "--lr", "1e30",
            "--max-grad-norm", "0", "--gradient-accumulation-steps", "1");
        Assert.Equal(ExitCode.Failure, diverged.Code);
    }
}
