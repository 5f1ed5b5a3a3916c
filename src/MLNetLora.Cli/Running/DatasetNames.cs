using System.Text.Json;
using MLNetLora.Cli.Configuration;

namespace MLNetLora.Cli.Running;

/// <summary>Files by the names that LLaMA-Factory gives them in dataset_info.json; what is a file or a pattern already stays as it is.</summary>
internal static class DatasetNames
{
    private const string FileName = "dataset_info.json";
    private const int LongestFile = 16 << 20;

    /// <summary>What a description may call the fields, which are recognized here by these names.</summary>
    private static readonly Dictionary<string, string[]> s_fields = new()
    {
        ["prompt"] = ["instruction"],
        ["query"] = ["input"],
        ["response"] = ["output"],
        ["history"] = ["history"],
        ["messages"] = ["conversations", "messages"],
        ["system"] = ["system"],
        ["tools"] = ["tools"],
        ["role_tag"] = ["from", "role"],
        ["content_tag"] = ["value", "content"],
        ["user_tag"] = ["human", "user"],
        ["assistant_tag"] = ["gpt", "assistant"],
        ["observation_tag"] = ["observation", "tool"],
        ["function_tag"] = ["function_call"],
        ["system_tag"] = ["system"],
    };

    /// <summary>The files that are meant.</summary>
    /// <param name="names">Files, patterns and names.</param>
    /// <param name="folder">The folder of dataset_info.json.</param>
    /// <exception cref="ConfigException">A name is none, or its description asks for what is not there.</exception>
    public static IReadOnlyList<string> Resolve(IReadOnlyList<string> names, string folder) => [.. names.Select(name => Resolve(name, folder))];

    private static string Resolve(string name, string folder)
    {
        if (File.Exists(name) || Path.HasExtension(name) || name.IndexOfAny(['/', '\\', '*', '?']) >= 0)
        {
            return name;
        }

        string path = Path.Combine(folder, FileName);
        if (!File.Exists(path))
        {
            throw new ConfigException($"The data '{name}' is no file, and there is no {path} that could say which file it names.");
        }

        try
        {
            if (new FileInfo(path).Length > LongestFile)
            {
                throw new ConfigException($"{path} has more than {LongestFile} bytes.");
            }

            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path));
            JsonElement all = document.RootElement;
            if (all.ValueKind != JsonValueKind.Object || !all.TryGetProperty(name, out JsonElement entry) || entry.ValueKind != JsonValueKind.Object)
            {
                string nearest = all.ValueKind == JsonValueKind.Object && all.EnumerateObject().Any()
                    ? $" The nearest one is {Casing.Nearest(name, all.EnumerateObject().Select(item => item.Name))}."
                    : "";
                throw new ConfigException($"{path} has no '{name}'.{nearest}");
            }

            return FileOf(entry, name, path, folder);
        }
        catch (JsonException e)
        {
            throw new ConfigException($"{path} is not JSON: {e.Message}", e);
        }
    }

    private static string FileOf(JsonElement entry, string name, string path, string folder)
    {
        if (!entry.TryGetProperty("file_name", out JsonElement file) || file.ValueKind != JsonValueKind.String)
        {
            throw new ConfigException($"{path}: '{name}' has no file_name. Data sets of a hub are not downloaded; download it, and give the file.");
        }

        foreach (string refused in (string[])["ranking", "subset", "split", "num_samples"])
        {
            if (entry.TryGetProperty(refused, out JsonElement value) && value.ValueKind is not (JsonValueKind.Null or JsonValueKind.False)
                && !(refused == "split" && value.ToString() == "train"))
            {
                throw new ConfigException($"{path}: '{name}' has {refused}, which is not supported. Write a file with the rows that are meant.");
            }
        }

        foreach (string part in (string[])["columns", "tags"])
        {
            if (!entry.TryGetProperty(part, out JsonElement map) || map.ValueKind != JsonValueKind.Object)
            {
                continue;
            }

            foreach (JsonProperty field in map.EnumerateObject())
            {
                if (!s_fields.TryGetValue(field.Name, out string[]? known) || !known.Contains(field.Value.ToString()))
                {
                    string may = known is null ? "which is not read" : $"where it must be {Values.Choices(known)}";
                    throw new ConfigException($"{path}: '{name}' has {field.Name}: {field.Value} in {part}, {may}. Rename the fields of the file.");
                }
            }
        }

        return Path.Combine(folder, file.GetString()!);
    }
}
