using System.Text.Json.Nodes;
using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Tests.TextGeneration;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.Checkpoints;

/// <summary>Hub ids with a revision: what is one, and which snapshot of a cache is meant.</summary>
[Collection(Alone.Name)]
public sealed class HubIdTests : IDisposable
{
    private const string Id = "Some/Model";
    private const string First = "aaaaa11111aaaaa11111aaaaa11111aaaaa11111";
    private const string Second = "aaaaa22222aaaaa22222aaaaa22222aaaaa22222";

    private readonly TemporaryFolder _folder = new();
    private readonly HubCache _cache;
    private readonly string _first;
    private readonly string _second;

    public HubIdTests()
    {
        _cache = new HubCache(_folder.File("hub"));
        string checkpoint = TinyCheckpoint.Write(_folder.File("tiny"));
        _first = _cache.Add(Id, First, checkpoint, isMain: false);
        _second = _cache.Add(Id, Second, checkpoint);
        string refs = Path.Combine(_cache.Folder, "models--Some--Model", "refs");
        Directory.CreateDirectory(Path.Combine(refs, "refs", "pr"));
        File.WriteAllText(Path.Combine(refs, "v1"), First + "\n");
        File.WriteAllText(Path.Combine(refs, "refs", "pr", "7"), First);
        File.WriteAllText(Path.Combine(refs, "gone"), new string('b', 40));
    }

    public void Dispose()
    {
        _cache.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [InlineData("v1")]
    [InlineData("refs/pr/7")]
    [InlineData(First)]
    [InlineData("aaaaa1")]
    [InlineData("AAAAA1")]
    public void A_branch_a_tag_a_commit_and_its_first_digits_name_a_snapshot(string revision)
    {
        Assert.Equal(_first, ModelFolder.Find($"{Id}@{revision}"));
        Assert.Equal(_first, Assert.Single(ModelFolder.Snapshots($"{Id}@{revision}")));
        Assert.Equal(_second, ModelFolder.Find($"{Id}@main"));
        Assert.Equal(_second, ModelFolder.Find(Id));
    }

    [Theory]
    [InlineData("v2")]
    [InlineData("gone")] // a branch whose snapshot was deleted
    [InlineData("aaaa")] // too few digits for a commit
    [InlineData("bbbbb")]
    public void A_revision_that_the_cache_does_not_hold_is_told(string revision)
    {
        string message = Assert.Throws<CheckpointException>(() => ModelFolder.Find($"{Id}@{revision}")).Message;
        Assert.Contains($"'{Id}@{revision}' is neither a folder nor in the Hugging Face cache", message);
        Assert.Contains($"hf download {Id} --revision {revision}", message);
    }

    [Fact]
    public void First_digits_of_several_commits_are_refused() =>
        Assert.Contains($"Some/Model@aaaaa may be any of {First}, {Second}", Assert.Throws<CheckpointException>(() => ModelFolder.Find($"{Id}@aaaaa")).Message);

    [Theory]
    [InlineData("")]
    [InlineData("..")]
    [InlineData("../../blobs")]
    [InlineData("a/../b")]
    [InlineData("a..b")]
    [InlineData("/v1")]
    [InlineData("v1/")]
    [InlineData("a//b")]
    [InlineData(".hidden")]
    [InlineData("a/.b")]
    [InlineData("v1.lock")]
    [InlineData("v1.")]
    [InlineData("a b")]
    [InlineData("a:b")]
    [InlineData("a\\b")]
    [InlineData("a\0b")]
    [InlineData("größe")]
    public void What_git_would_not_name_so_is_no_revision(string revision)
    {
        Assert.False(ModelFolder.IsHubId($"{Id}@{revision}"));
        Assert.False(HubId.IsRevision(revision));
        string message = Assert.Throws<CheckpointException>(() => ModelFolder.Find($"{Id}@{revision}")).Message;
        Assert.StartsWith("There is no folder '", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Some/Model", "Some/Model", null)]
    [InlineData("Some/Model@v1", "Some/Model", "v1")]
    [InlineData("Some/Model@refs/pr/7", "Some/Model", "refs/pr/7")]
    [InlineData("Some/Model@a@b", "Some/Model", "a@b")]
    public void An_id_has_a_name_and_a_revision(string text, string name, string? revision)
    {
        Assert.True(HubId.TryParse(text, out HubId id));
        Assert.Equal((name, revision, text), (id.Name, id.Revision, id.ToString()));
    }

    [Fact]
    public void A_very_long_revision_is_none() => Assert.False(HubId.IsRevision(new string('a', 251)));

    [Fact]
    public void A_model_remembers_the_revision_that_it_was_trained_on()
    {
        using Workbench bench = new();
        _cache.Add("Test/base", First, bench.BaseFolder, isMain: false);
        string other = _cache.Add("Test/base", Second, TinyCheckpoint.Write(bench.PathOf("other"), seed: 2));
        string zip;
        using (QwenLoraTransformer model = bench.Model(options => options.ModelPath = $"Test/base@{First[..8]}"))
        {
            zip = bench.Save(model);
        }

        using (QwenLoraTransformer loaded = bench.Context.TextGeneration.Load(zip))
        {
            Assert.Equal(First, Path.GetFileName(loaded.BaseFolder));
        }

        // An override may name another one, which is looked at first and is not the one.
        Directory.Delete(Path.Combine(_cache.Folder, "models--Test--base", "snapshots", First), recursive: true);
        Directory.Delete(bench.BaseFolder, recursive: true);
        bench.Context.TextGeneration.UseBaseModel("Test/base@main");
        string message = Assert.Throws<CheckpointException>(() => bench.Context.TextGeneration.Load(zip).Dispose()).Message;
        Assert.Contains($"{other} (ml.TextGeneration.UseBaseModel): ", message);
        Assert.Contains($"Test/base@{First[..8]} (as given at training, from the Hugging Face cache): there is no such folder, and the Hugging Face", message);
    }

    [Fact]
    public void An_adapter_says_the_revision_as_PEFT_does()
    {
        Checkpoint checkpoint = Checkpoint.Open(_first);
        LoraAdapter made = TinyCheckpoint.Adapter(_first);
        LoraAdapter adapter = new(made.Options, $"{Id}@refs/pr/7", made.Factors);
        JsonNode config = JsonNode.Parse(adapter.ToPeftConfigJson())!;
        Assert.Equal((Id, "refs/pr/7"), ((string?)config["base_model_name_or_path"], (string?)config["revision"]));

        adapter.SaveAsPeft(_folder.File("peft"));
        Assert.Equal($"{Id}@refs/pr/7", LoraAdapter.LoadPeft(_folder.File("peft"), checkpoint).BaseModel);
        Assert.Null(JsonNode.Parse(made.ToPeftConfigJson())!["revision"]);
    }
}
