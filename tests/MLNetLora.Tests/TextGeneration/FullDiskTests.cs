using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>
/// What the operating system refuses to write, as on a full disk: the old files stay as they were and nothing half-written is left. In a process of its own,
/// in which no file may grow beyond some size.
/// </summary>
public sealed class FullDiskTests : IDisposable
{
    // What .NET calls a file that may not grow. Of a disk that is full it says IOException.
    private const string Refused = "ArgumentOutOfRangeException: Specified file length was too large";

    private readonly Workbench _bench = new();

    private string Zip => _bench.PathOf("model.zip");

    public void Dispose() => _bench.Dispose();

    [LinuxTheory]
    [InlineData("zip", 500)]
    [InlineData("adapter", 100)]
    [InlineData("merge", 100_000)]
    public void The_old_one_stays_and_nothing_is_left_of_the_new_one(string what, long limit)
    {
        using QwenLoraTransformer model = _bench.Model();
        model.Save(Zip);
        Directory.CreateDirectory(_bench.PathOf("target"));
        string target = what == "zip" ? _bench.PathOf("target/model.zip") : _bench.PathOf("target");
        Assert.Equal(["saved"], LoadProbe.FullDisk(Zip, what, target, 1 << 30)); // what is saved under a limit at all, and what stays
        Dictionary<string, byte[]> before = Contents();
        Assert.NotEmpty(before);
        Assert.Contains(before.Values, content => content.Length > limit);

        string end = Assert.Single(LoadProbe.FullDisk(Zip, what, target, limit));
        Assert.StartsWith(Refused, end, StringComparison.Ordinal);
        Dictionary<string, byte[]> after = Contents();
        Assert.Equal(before.Keys.Order(StringComparer.Ordinal), after.Keys.Order(StringComparer.Ordinal));
        Assert.All(before, file => Assert.Equal(file.Value, after[file.Key]));
    }

    [LinuxTheory]
    [InlineData("zip", 500)]
    [InlineData("adapter", 100)]
    [InlineData("merge", 100_000)]
    public void Where_nothing_was_nothing_is_left(string what, long limit)
    {
        using QwenLoraTransformer model = _bench.Model();
        model.Save(Zip);
        Directory.CreateDirectory(_bench.PathOf("target"));
        string end = Assert.Single(LoadProbe.FullDisk(Zip, what, what == "zip" ? _bench.PathOf("target/model.zip") : _bench.PathOf("target"), limit));
        Assert.StartsWith(Refused, end, StringComparison.Ordinal);
        Assert.Empty(Contents());
    }

    private Dictionary<string, byte[]> Contents() =>
        Directory.GetFiles(_bench.PathOf("target")).ToDictionary(path => Path.GetFileName(path), File.ReadAllBytes);
}
