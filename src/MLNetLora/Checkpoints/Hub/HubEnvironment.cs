using System.Text.RegularExpressions;

namespace MLNetLora.Checkpoints;

/// <summary>What the machine says of hubs: the environment variables of huggingface_hub and modelscope, read as those read them; and what a test puts in
/// the place of clocks and disks.</summary>
internal sealed partial class HubEnvironment
{
    private const int LongestToken = 10_000; // bytes

    /// <summary>What the process has.</summary>
    public static HubEnvironment Process { get; } = new();

    /// <summary>A variable by its name; null where it is not set.</summary>
    public Func<string, string?> Variable { get; init; } = Environment.GetEnvironmentVariable;

    /// <summary>Waits before something is tried again.</summary>
    public Func<TimeSpan, CancellationToken, Task> Delay { get; init; } = Task.Delay;

    /// <summary>What a drive has left, in bytes, by a folder on it; null where it does not tell.</summary>
    public Func<string, long?> FreeSpace { get; init; } = DriveSpace;

    /// <summary>Stands between a download and the file that it is written to.</summary>
    public Func<Stream, Stream> Disk { get; init; } = stream => stream;

    /// <summary>Bytes of a part of a large file. Each connection holds one in memory; a smaller one would wait longer for answers than for bytes.</summary>
    public int PartBytes { get; init; } = 8 << 20;

    /// <summary>The folder of the Hugging Face cache, absolute, as huggingface_hub finds it; it need not exist.</summary>
    public string Cache => Path.GetFullPath(Folder("HF_HUB_CACHE") ?? Folder("HUGGINGFACE_HUB_CACHE") ?? Path.Combine(HuggingFaceHome, "hub"));

    /// <summary>Whether a variable asks for something: 1, true, yes or on.</summary>
    public bool IsOn(string name) => IsTrue(Text(name));

    /// <summary>Whether the machine is to be used without a network.</summary>
    public bool IsOffline => IsTrue(Text("HF_HUB_OFFLINE") ?? Text("TRANSFORMERS_OFFLINE"));

    /// <summary>The user's token for Hugging Face; null where there is none, or it is to be sent only where a program asks for it.</summary>
    public string? HuggingFaceToken => IsOn("HF_HUB_DISABLE_IMPLICIT_TOKEN") ? null : Clean(Text("HF_TOKEN") ?? Text("HUGGING_FACE_HUB_TOKEN")) ?? TokenFile();

    /// <summary>A variable that is set and not empty.</summary>
    public string? Text(string name) => Variable(name) is { Length: > 0 } value ? value : null;

    /// <summary>A token without what an editor or a shell left around it; null where nothing is left.</summary>
    public static string? Clean(string? token) => token?.Trim() is { Length: > 0 } text ? text : null;

    private static string UserFolder => Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);

    private string HuggingFaceHome => Folder("HF_HOME") ?? Path.Combine(Folder("XDG_CACHE_HOME") ?? Path.Combine(UserFolder, ".cache"), "huggingface");

    /// <summary>A variable that holds a folder, with ~ for the user's folder and $NAME, ${NAME} for other variables, as Python expands them; null
    /// where it is not set.</summary>
    private string? Folder(string name)
    {
        if (Text(name) is not { } value)
        {
            return null;
        }

        value = value == "~" || value.StartsWith("~/", StringComparison.Ordinal) ? UserFolder + value[1..] : value;
        return VariableName().Replace(value, match => Variable(match.Groups["name"].Value) ?? match.Value);
    }

    private string? TokenFile()
    {
        string file = Folder("HF_TOKEN_PATH") ?? Path.Combine(HuggingFaceHome, "token");
        try
        {
            return File.Exists(file) ? Clean(BoundedFile.ReadText(file, LongestToken)) : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new HubException($"The token of Hugging Face cannot be read from {file}: {e.Message} Set HF_TOKEN, or HF_HUB_DISABLE_IMPLICIT_TOKEN=1 to go "
                + "without.", e);
        }
    }

    private static bool IsTrue(string? value) => value?.ToUpperInvariant() is "1" or "ON" or "YES" or "TRUE";

    private static long? DriveSpace(string folder)
    {
        try
        {
            return new DriveInfo(folder).AvailableFreeSpace;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return null;
        }
    }

    [GeneratedRegex(@"\$(\{(?<name>\w+)\}|(?<name>\w+))")]
    private static partial Regex VariableName();
}
