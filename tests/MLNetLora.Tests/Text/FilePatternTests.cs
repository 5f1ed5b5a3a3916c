using MLNetLora.Text;

namespace MLNetLora.Tests.Text;

/// <summary>Patterns over folders that are linked.</summary>
public sealed class FilePatternTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public FilePatternTests()
    {
        Directory.CreateDirectory(_folder.File("b/c"));
        foreach (string name in (string[])["1.jsonl", "b/2.jsonl", "b/c/3.jsonl"])
        {
            File.WriteAllText(_folder.File(name), $"{{\"text\":\"{name}\"}}");
        }
    }

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Folders_linked_in_a_circle_are_read_once()
    {
        Directory.CreateSymbolicLink(_folder.File("b/up"), _folder.Path);
        Directory.CreateSymbolicLink(_folder.File("b/c/self"), ".");
        Directory.CreateSymbolicLink(_folder.File("a"), _folder.File("b"));
        Assert.Equal(["1.jsonl", "b/2.jsonl", "b/c/3.jsonl"], Found("**/*.jsonl"));
        Assert.Equal(["1.jsonl", "b/2.jsonl", "b/c/3.jsonl"], Found("**/**/?.jsonl"));
        Assert.Equal(["1.jsonl", "b/2.jsonl", "b/c/3.jsonl"], Found("**"));
        Assert.Equal(["b/2.jsonl"], Found("?/*.jsonl"));
        Assert.Equal(["a/2.jsonl"], Found("a/*.jsonl"));
    }

    [Fact]
    public void A_linked_folder_elsewhere_is_read_and_a_linked_file_once()
    {
        using TemporaryFolder elsewhere = new();
        File.WriteAllText(elsewhere.File("4.jsonl"), "{\"text\":\"4\"}");
        Directory.CreateSymbolicLink(_folder.File("b/disk"), elsewhere.Path);
        Directory.CreateSymbolicLink(_folder.File("b/disk2"), elsewhere.Path);
        File.CreateSymbolicLink(_folder.File("0.jsonl"), _folder.File("b/2.jsonl"));
        File.CreateSymbolicLink(_folder.File("5.jsonl"), elsewhere.File("4.jsonl"));
        Assert.Equal(["1.jsonl", "5.jsonl", "b/2.jsonl", "b/c/3.jsonl"], Found("**/*.jsonl"));
        Assert.Equal(["b/disk/4.jsonl"], Found("b/*/4.jsonl"));
        Assert.Equal(["0.jsonl", "1.jsonl", "5.jsonl"], Found("*.jsonl"));
    }

    private IEnumerable<string> Found(string pattern) =>
        DatasetFiles.Find(_folder.File(pattern)).Select(file => Path.GetRelativePath(_folder.Path, file).Replace('\\', '/'));
}
