using System.Text;
using MLNetLora.Checkpoints;

namespace MLNetLora.Tests.Checkpoints;

/// <summary>Files that belong together are replaced together, or the folder is one that nothing opens.</summary>
public sealed class FileSetTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void An_older_set_stays_as_it_was_when_writing_fails()
    {
        Write("old", "prompt.json");
        using (FileSet files = new(_folder.Path))
        {
            files.Write("weights", stream => stream.Write("new"u8));
            Assert.Throws<IOException>(() => files.Write("config.json", _ => throw new IOException("the disk is full")));
        }

        Assert.Equal(["config.json: old", "prompt.json: old", "weights: old"], Content());
    }

    [Fact]
    public void A_set_takes_the_place_of_an_older_one_whole()
    {
        Write("old", "prompt.json");
        using (FileSet files = new(_folder.Path))
        {
            files.WriteText("config.json", "new");
            files.Write("weights", stream => stream.Write("new"u8));
            files.Remove("prompt.json");
            Assert.Equal("old", File.ReadAllText(_folder.File("weights")));
            files.Commit("config.json");
        }

        Assert.Equal(["config.json: new", "weights: new"], Content());
    }

    [Fact]
    public void What_is_interrupted_between_two_files_is_no_folder_that_anything_opens()
    {
        Write("old");
        Directory.CreateDirectory(_folder.File("z"));
        using (FileSet files = new(_folder.Path))
        {
            files.WriteText("config.json", "new");
            files.Write("weights", stream => stream.Write("new"u8));
            files.WriteText("z", "a folder is there already");
            Assert.ThrowsAny<Exception>(() => files.Commit("config.json"));
        }

        Assert.Equal(["weights: new"], Content());
    }

    [Fact]
    public void What_does_not_fit_on_the_drive_is_refused_at_once()
    {
        using FileSet files = new(_folder.Path);
        files.RequireSpace(1);
        FileSet.FreeSpace = 999_999_999;
        try
        {
            files.RequireSpace(999_999_999);
            Assert.Contains(
                $"{_folder.Path} lies on a drive with 1.0 GB left, and 2.5 GB would be written",
                Assert.Throws<OptionException>(() => files.RequireSpace(2_500_000_000)).Message,
                StringComparison.Ordinal);
        }
        finally
        {
            FileSet.FreeSpace = null;
        }
    }

    private void Write(string text, params string[] further)
    {
        foreach (string name in (string[])["config.json", "weights", .. further])
        {
            File.WriteAllText(_folder.File(name), text, new UTF8Encoding(false));
        }
    }

    private string[] Content() =>
        [.. Directory.GetFiles(_folder.Path).Order(StringComparer.Ordinal).Select(file => $"{Path.GetFileName(file)}: {File.ReadAllText(file)}")];
}
