using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Text;

namespace MLNetLora.Tests.Checkpoints;

/// <summary>Small files are never read beyond what such a file can have; a device is never replaced by a file.</summary>
public sealed class BoundedFileTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(4096)]
    [InlineData(4097)]
    [InlineData(9999)]
    [InlineData(10_000)]
    public void A_file_of_any_allowed_length_is_read_whole(int length)
    {
        byte[] bytes = new byte[length];
        new Random(1).NextBytes(bytes);
        File.WriteAllBytes(_folder.File("a"), bytes);
        Assert.Equal(bytes, BoundedFile.Read(_folder.File("a"), 10_000)!.Value.ToArray());
    }

    [Fact]
    public void One_byte_more_is_too_much()
    {
        File.WriteAllBytes(_folder.File("a"), new byte[10_001]);
        Assert.Null(BoundedFile.Read(_folder.File("a"), 10_000));
    }

    [LinuxTheory]
    [InlineData("config.json")]
    [InlineData("generation_config.json")]
    [InlineData("tokenizer_config.json")]
    [InlineData("tokenizer.json")]
    [InlineData("chat_template.jinja")]
    [InlineData("mlnetlora_prompt.json")]
    [InlineData("adapter_config.json")]
    public void A_file_without_end_is_a_typed_error(string name)
    {
        foreach (string file in Directory.EnumerateFiles(Repository.Nano))
        {
            File.Copy(file, _folder.File(Path.GetFileName(file)));
        }

        LoraAdapter.Create(new() { Rank = 2 }, Checkpoint.Open(_folder.Path), 1).SaveAsPeft(_folder.File("adapter"));
        string folder = name.StartsWith("adapter", StringComparison.Ordinal) || name.StartsWith("mlnetlora", StringComparison.Ordinal) ? "adapter/" : "";
        File.Delete(_folder.File(folder + name));
        File.CreateSymbolicLink(_folder.File(folder + name), "/dev/zero");

        MLNetLoraException error = Assert.ThrowsAny<MLNetLoraException>(() =>
        {
            Checkpoint checkpoint = Checkpoint.Open(_folder.Path);
            QwenTokenizer.Load(_folder.Path);
            ChatTemplate.Load(_folder.Path);
            LoraAdapter.LoadPeft(_folder.File("adapter"), checkpoint);
        });
        Assert.Contains($"{name} has more than", error.Message);
    }

    [LinuxFact]
    public void A_file_is_not_put_in_the_place_of_a_device()
    {
        Assert.Contains("is a device", Assert.Throws<IOException>(() => AtomicFile.Write("/dev/mlnetlora", _ => { })).Message);
        File.CreateSymbolicLink(_folder.File("linked"), "/dev");
        Assert.Contains("is a device", Assert.Throws<IOException>(() => AtomicFile.Write(_folder.File("linked/mlnetlora"), _ => { })).Message);
        AtomicFile.Write($"/dev/shm/mlnetlora-{Environment.ProcessId}", _ => { });
        File.Delete($"/dev/shm/mlnetlora-{Environment.ProcessId}");
    }
}
