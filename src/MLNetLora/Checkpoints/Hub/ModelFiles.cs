using System.Text.Json;

namespace MLNetLora.Checkpoints;

/// <summary>Which files of a repository this library needs. What is left out: weights in other formats, such as pickles, GGUF and ONNX, and second copies of
/// the weights in folders.</summary>
internal static class ModelFiles
{
    public const string ConfigName = "config.json";
    private const string TemplateFolder = "additional_chat_templates/";
    private const int MostFiles = 100_000;
    private const int LongestName = 200; // of a part of a path; file systems take 255 bytes

    private static readonly string[] s_names =
    [
        ConfigName, "generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json",
        "added_tokens.json", "chat_template.jinja", "chat_template.json", "README.md", "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE",
    ];

    /// <summary>The small files of a listing, and of the weights the one file or the index of many.</summary>
    /// <exception cref="HubException">It has no weights that can be used, or a name that leads out of the folder.</exception>
    public static IReadOnlyList<HubFile> Needed(HubListing listing, string model)
    {
        if (listing.Files.Count > MostFiles)
        {
            throw new HubException($"The hub lists more than {MostFiles} files of {model}; no model has so many.");
        }

        HashSet<string> paths = [];
        foreach (HubFile file in listing.Files)
        {
            RequirePlain(file.Path, model);
            if (!paths.Add(file.Path))
            {
                throw new HubException($"The hub lists {file.Path} of {model} twice. Nothing was downloaded.");
            }
        }

        string name = paths.Contains(WeightFiles.SingleName) ? WeightFiles.SingleName : WeightFiles.IndexName;
        HubFile? weights = listing.Files.FirstOrDefault(file => file.Path == name);
        if (weights is null || !paths.Contains(ConfigName))
        {
            string kinds = string.Join(", ", listing.Files.Select(file => Path.GetExtension(file.Path)).Where(IsWeight).Distinct().Order());
            throw new HubException(weights is not null || kinds.Length == 0
                ? $"{model} is no model that this library reads: it has {(weights is null ? "no model.safetensors" : "no config.json")}."
                : $"{model} has no weights in safetensors, but only {kinds} files. Take the repository that has model.safetensors, or convert them.");
        }

        return [.. listing.Files.Where(file => IsSmallFile(file.Path)), weights];
    }

    /// <summary>The files that an index of weights names.</summary>
    /// <exception cref="HubException">It is no index, or names a file that the repository does not have.</exception>
    public static IReadOnlyList<HubFile> Shards(string index, HubListing listing, string model)
    {
        Dictionary<string, HubFile> files = listing.Files.ToDictionary(file => file.Path);
        try
        {
            return [.. ShardNames(index).Select(name => IsShard(name) && files.TryGetValue(name, out HubFile? file)
                ? file
                : throw new HubException($"{WeightFiles.IndexName} of {model} names '{HubErrors.Shown(name)}', which is no .safetensors file beside it."))];
        }
        catch (CheckpointException e)
        {
            throw new HubException($"{WeightFiles.IndexName} of {model} is damaged on the hub: {e.Message}", e);
        }
    }

    /// <summary>Whether a folder holds everything that a checkpoint is read from; a download by another program may have stopped in between.</summary>
    public static bool IsWhole(string folder)
    {
        bool hasTokenizer = File.Exists(Path.Combine(folder, "tokenizer.json")) || File.Exists(Path.Combine(folder, "vocab.json"))
            || File.Exists(Path.Combine(folder, "qwen.tiktoken"));
        if (!hasTokenizer || !File.Exists(Path.Combine(folder, ConfigName)))
        {
            return false;
        }

        string index = Path.Combine(folder, WeightFiles.IndexName);
        try
        {
            return File.Exists(Path.Combine(folder, WeightFiles.SingleName))
                || (File.Exists(index) && ShardNames(index).All(name => IsShard(name) && File.Exists(Path.Combine(folder, name))));
        }
        catch (CheckpointException)
        {
            return true; // whoever opens it says what is wrong with the index
        }
    }

    /// <summary>Refuses a path that leads out of the folder, or that no file system has; a server may list anything.</summary>
    public static void RequirePlain(string path, string model)
    {
        if (path.Length == 0 || !path.Split('/').All(IsPlain))
        {
            string shown = new([.. path.Take(LongestName).Select(c => char.IsControl(c) ? '?' : c)]);
            throw new HubException($"The hub lists a file '{shown}' of {model}, which is no plain path. Nothing was downloaded.");
        }
    }

    private static bool IsPlain(string part) => part.Length is > 0 and <= LongestName && part is not ("." or "..")
        && !part.Any(c => char.IsControl(c) || c is '\\' or ':');

    private static bool IsSmallFile(string path) => s_names.Contains(path)
        || (path.EndsWith(".tiktoken", StringComparison.Ordinal) && !path.Contains('/', StringComparison.Ordinal))
        || (path.StartsWith(TemplateFolder, StringComparison.Ordinal) && path.EndsWith(".jinja", StringComparison.Ordinal)
            && path.AsSpan(TemplateFolder.Length).IndexOf('/') < 0);

    private static bool IsShard(string name) => name.EndsWith(".safetensors", StringComparison.Ordinal) && name.AsSpan().IndexOfAny('/', '\\', '\0') < 0;

    private static bool IsWeight(string extension) => extension is ".bin" or ".pt" or ".pth" or ".gguf" or ".onnx" or ".h5" or ".msgpack" or ".safetensors";

    private static IEnumerable<string> ShardNames(string index)
    {
        ConfigFile map = ConfigFile.Open(index).Section("weight_map") ?? throw new CheckpointException($"{index} has no weight_map.");
        return map.Root.EnumerateObject()
            .Select(item => item.Value.ValueKind == JsonValueKind.String ? item.Value.GetString()! : "")
            .Distinct();
    }
}
