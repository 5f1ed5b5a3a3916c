using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Tests.TextGeneration;

namespace MLNetLora.Tests.Checkpoints;

/// <summary>A model by its folder or by its hub id, and that an id leads nowhere but into the cache.</summary>
[Collection(Alone.Name)]
public sealed class ModelFolderTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly HubCache _cache;

    public ModelFolderTests() => _cache = new HubCache(_folder.File("hub"));

    public void Dispose()
    {
        _cache.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void A_hub_id_is_the_snapshot_that_main_names()
    {
        string checkpoint = TinyCheckpoint.Write(_folder.File("tiny"));
        string main = _cache.Add("Some/Model-1.5_B", "aaaa", checkpoint);
        string other = _cache.Add("Some/Model-1.5_B", "bbbb", checkpoint, isMain: false);
        Directory.SetLastWriteTimeUtc(main, new DateTime(2020, 1, 1, 0, 0, 0, DateTimeKind.Utc));

        Assert.Equal(main, ModelFolder.Find("Some/Model-1.5_B"));
        Assert.Equal(main, Checkpoint.Open(ModelFolder.Find("Some/Model-1.5_B")).Folder);
        Assert.Equal([main, other], ModelFolder.Snapshots("Some/Model-1.5_B"));
    }

    [Theory]
    [InlineData("")]
    [InlineData("..")]
    [InlineData("../../blobs")]
    [InlineData("cccc")]
    public void A_main_that_names_no_snapshot_leaves_the_newest(string main)
    {
        string checkpoint = TinyCheckpoint.Write(_folder.File("tiny"));
        string newest = _cache.Add("Some/Model", "aaaa", checkpoint);
        Directory.SetLastWriteTimeUtc(_cache.Add("Some/Model", "bbbb", checkpoint), new DateTime(2020, 1, 1, 0, 0, 0, DateTimeKind.Utc));
        File.WriteAllText(Path.Combine(_cache.Folder, "models--Some--Model", "refs", "main"), main);

        Assert.Equal(newest, ModelFolder.Find("Some/Model"));
    }

    [Fact]
    public void An_id_that_the_cache_does_not_hold_is_told_with_the_cache()
    {
        string message = Refusal("Some/Unknown");

        Assert.Contains($"'Some/Unknown' is neither a folder nor in the Hugging Face cache ({_cache.Folder})", message);
        Assert.Contains("hf download Some/Unknown", message);
        Directory.CreateDirectory(Path.Combine(_cache.Folder, "models--Some--Unknown", "snapshots"));
        Assert.Equal(message, Refusal("Some/Unknown"));
    }

    [Theory]
    [InlineData("")]
    [InlineData("NoSuchName")]
    [InlineData("a/b/c")]
    [InlineData("/Model")]
    [InlineData("Some/")]
    [InlineData("../no-such-model")]
    [InlineData("./no-such-model")]
    [InlineData("Some/Mod\0el")]
    [InlineData("Some/Mo del")]
    [InlineData("Some\\Model")]
    [InlineData("~/Model")]
    public void What_is_no_folder_and_no_id_is_not_looked_for_in_the_cache(string model)
    {
        _cache.Add("Some/Model", "aaaa", TinyCheckpoint.Write(_folder.File("tiny")));

        Assert.False(ModelFolder.IsHubId(model));
        string message = Refusal(model);
        Assert.StartsWith("There is no folder '", message, StringComparison.Ordinal);
        Assert.DoesNotContain('\0', message);
    }

    [Theory]
    [InlineData("Some/..")]
    [InlineData("../Model")]
    [InlineData("../..")]
    [InlineData("Some/.")]
    public void Dots_are_no_name(string model) => Assert.False(ModelFolder.IsHubId(model));

    [Fact]
    public void A_folder_wins_over_an_id()
    {
        // What looks like an id is a folder only from the working directory.
        string owner = $"mlnetlora-{Guid.NewGuid():N}";
        string snapshot = _cache.Add($"{owner}/model", "aaaa", TinyCheckpoint.Write(_folder.File("tiny")));
        Assert.Equal(snapshot, ModelFolder.Find($"{owner}/model"));
        Directory.CreateDirectory(Path.Combine(owner, "model"));
        try
        {
            Assert.Equal(Path.GetFullPath(Path.Combine(owner, "model")), ModelFolder.Find($"{owner}/model"));
        }
        finally
        {
            Directory.Delete(owner, recursive: true);
        }
    }

    [Fact]
    public void A_snapshot_whose_blob_is_gone_is_told()
    {
        string snapshot = _cache.Add("Some/Model", "aaaa", TinyCheckpoint.Write(_folder.File("tiny")));
        Directory.Delete(Path.Combine(_cache.Folder, "models--Some--Model", "blobs"), recursive: true);

        Assert.Contains(Path.Combine(snapshot, "config.json"),
            Assert.Throws<CheckpointException>(() => Checkpoint.Open(ModelFolder.Find("Some/Model"))).Message);
    }

    [Theory]
    [InlineData("HF_HUB_CACHE", "/a/hub", "/a/hub")]
    [InlineData("HUGGINGFACE_HUB_CACHE", "/b/hub", "/b/hub")]
    [InlineData("HF_HOME", "/c", "/c/hub")]
    [InlineData("XDG_CACHE_HOME", "/d", "/d/huggingface/hub")]
    [InlineData("HF_HOME", "~/models", "~/models/hub")]
    [InlineData("HF_HUB_CACHE", "$MLNETLORA_TEST_FOLDER/x/${MLNETLORA_TEST_FOLDER}", "/e/x/e")]
    [InlineData("HF_HOME", "", "~/.cache/huggingface/hub")]
    public void The_cache_is_where_huggingface_hub_has_it(string variable, string value, string expected)
    {
        string[] names = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "MLNETLORA_TEST_FOLDER"];
        string?[] before = [.. names.Select(Environment.GetEnvironmentVariable)];
        try
        {
            foreach (string name in names)
            {
                Environment.SetEnvironmentVariable(name, null);
            }

            Environment.SetEnvironmentVariable("MLNETLORA_TEST_FOLDER", "/e");
            Environment.SetEnvironmentVariable(variable, value);
            string home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
            Assert.Equal(Path.GetFullPath(expected.Replace("~", home, StringComparison.Ordinal)), ModelFolder.Cache());
        }
        finally
        {
            foreach ((string name, string? value1) in names.Zip(before))
            {
                Environment.SetEnvironmentVariable(name, value1);
            }
        }
    }

    private static string Refusal(string model) => Assert.Throws<CheckpointException>(() => ModelFolder.Find(model)).Message;
}
