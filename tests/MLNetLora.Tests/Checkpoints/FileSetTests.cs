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
        using (FileSet files = new(_folder.Path))
        {
            files.WriteText("config.json", "new");
            files.Write("weights", stream => stream.Write("new"u8));
            files.WriteText("z", "it is gone before it is in its place");
            File.Delete(Directory.GetFiles(_folder.Path, "z.*.tmp").Single());
            Assert.Throws<FileNotFoundException>(() => files.Commit("config.json"));
        }

        Assert.Equal(["weights: new"], Content());
    }

    [Fact]
    public void A_folder_in_the_place_of_a_file_is_found_before_anything_is_replaced()
    {
        Write("old");
        Directory.CreateDirectory(_folder.File("z"));
        using (FileSet files = new(_folder.Path))
        {
            files.WriteText("config.json", "new");
            files.Write("weights", stream => stream.Write("new"u8));
            files.WriteText("z", "a folder is there already");
            Assert.Contains("z is a folder", Assert.Throws<IOException>(() => files.Commit("config.json")).Message);
        }

        Assert.Equal(["config.json: old", "weights: old"], Content());
    }

    [Fact]
    public void Two_sets_at_once_do_not_mix()
    {
        for (int round = 0; round < 200; round++)
        {
            Parallel.For(0, 4, i =>
            {
                using FileSet files = new(_folder.Path);
                files.WriteText("config.json", $"{i}");
                files.WriteText("weights", $"{i}");
                files.Commit("config.json");
            });
            Assert.Equal(File.ReadAllText(_folder.File("config.json")), File.ReadAllText(_folder.File("weights")));
        }
    }

    [Fact]
    public void What_killed_processes_left_goes_after_a_day()
    {
        string old = $"weights.{Guid.NewGuid():N}.tmp";
        string[] others = [$"weights.{Guid.NewGuid():N}.tmp", $"other.{Guid.NewGuid():N}.tmp", "weights.tmp", "weights.of-somebody-who-counts-to-thirty-2.tmp"];
        foreach (string name in others.Append(old))
        {
            File.WriteAllText(_folder.File(name), "");
            File.SetLastWriteTimeUtc(_folder.File(name), DateTime.UtcNow - (name == others[0] ? TimeSpan.FromHours(20) : TimeSpan.FromDays(2)));
        }

        AtomicFile.Write(_folder.File("weights"), stream => stream.Write("new"u8));
        Assert.Equal([.. others.Append("weights").Order()], Directory.GetFiles(_folder.Path).Select(Path.GetFileName).Order());
    }

    [LinuxFact]
    public void A_private_file_stays_private()
    {
        if (OperatingSystem.IsWindows())
        {
            return; // for the analyzer; the test is skipped there
        }

        File.WriteAllText(_folder.File("a"), "old");
        File.SetUnixFileMode(_folder.File("a"), UnixFileMode.UserRead | UnixFileMode.UserWrite);
        AtomicFile.Write(_folder.File("a"), stream => stream.Write("new"u8));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(_folder.File("a")));
    }

    [LinuxFact]
    public void A_copy_has_no_more_bytes_than_the_file_says_and_ends_with_its_token()
    {
        File.CreateSymbolicLink(_folder.File("LICENSE"), "/dev/zero");
        string target = Directory.CreateDirectory(_folder.File("target")).FullName;
        using FileSet files = new(target);
        files.Copy(_folder.File("LICENSE"), CancellationToken.None);
        File.WriteAllText(_folder.File("notes.json"), "{}");
        Assert.Throws<OperationCanceledException>(() => files.Copy(_folder.File("notes.json"), new CancellationToken(canceled: true)));
        files.Commit("LICENSE");
        Assert.Equal(["LICENSE"], Directory.GetFiles(target).Select(Path.GetFileName));
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
                $"{_folder.Path} lies on a drive with 1000.0 MB left, and 2.5 GB would be written",
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
