using System.Text;
using System.Text.Json;
using MLNetLora.Jinja;

namespace MLNetLora.Text;

/// <summary>What a checkpoint folder says about its chat template.</summary>
/// <param name="Path">Where the template was found, for messages.</param>
/// <param name="Template">The template.</param>
/// <param name="WithTools">The template for conversations with tools, where it is another.</param>
/// <param name="SpecialTokens">bos_token, eos_token and their like, which templates may write.</param>
internal sealed record TemplateFiles(string Path, string Template, string? WithTools, IReadOnlyDictionary<string, object?> SpecialTokens)
{
    /// <summary>ChatML as Qwen1's own code writes it: with a system message where the conversation brings none.</summary>
    public const string Qwen1 =
        "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}" + ChatMl;

    /// <summary>ChatML and nothing else.</summary>
    public const string ChatMl =
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    /// <summary>Reads a folder.</summary>
    /// <exception cref="TokenizerException">A file cannot be read or is not valid JSON.</exception>
    public static TemplateFiles Read(string folder)
    {
        string file = System.IO.Path.Combine(folder, "chat_template.jinja");
        string toolFile = System.IO.Path.Combine(folder, "additional_chat_templates", "tool_use.jinja");
        string configuration = System.IO.Path.Combine(folder, "tokenizer_config.json");
        bool configured = File.Exists(configuration);
        IReadOnlyDictionary<string, object?> tokens = configured
            ? TokenizerConfigFile.Parse(configuration, SpecialTokensOf)
            : new Dictionary<string, object?>();
        if (File.Exists(file))
        {
            return new TemplateFiles(file, Text(file), File.Exists(toolFile) ? Text(toolFile) : null, tokens);
        }

        if (configured && TokenizerConfigFile.Parse(configuration, Templates) is { } found)
        {
            return new TemplateFiles(configuration, found.Template, found.WithTools, tokens);
        }

        string model = System.IO.Path.Combine(folder, Models.QwenConfig.FileName);
        string? type = File.Exists(model)
            ? TokenizerConfigFile.Parse(model, root => root.TryGetProperty("model_type", out JsonElement value) ? value.GetString() : null)
            : null;
        return new TemplateFiles(folder, type == "qwen" ? Qwen1 : ChatMl, null, tokens);
    }

    private static string Text(string path) => Encoding.UTF8.GetString(TokenizerFiles.ReadBytes(path).Span);

    private static (string Template, string? WithTools)? Templates(JsonElement root)
    {
        if (!root.TryGetProperty("chat_template", out JsonElement template) || template.ValueKind == JsonValueKind.Null)
        {
            return null;
        }

        if (template.ValueKind == JsonValueKind.String)
        {
            return template.GetString() is { } text && !string.IsNullOrWhiteSpace(text) ? (text, null) : null;
        }

        IEnumerable<(string? Name, string? Template)> entries = template.ValueKind == JsonValueKind.Array
            ? template.EnumerateArray().Select(entry => (entry.GetProperty("name").GetString(), entry.GetProperty("template").GetString()))
            : template.EnumerateObject().Select(entry => ((string?)entry.Name, entry.Value.GetString()));
        Dictionary<string, string> named = new(StringComparer.Ordinal);
        foreach ((string? name, string? text) in entries)
        {
            if (name is null || text is null || !named.TryAdd(name, text))
            {
                throw new FormatException($"chat_template has an entry {name} that is repeated, or without name or template.");
            }
        }

        if (!named.TryGetValue("default", out string? otherwise))
        {
            throw new FormatException($"chat_template has {string.Join(", ", named.Keys.Take(8))}, but no \"default\".");
        }

        return (otherwise, named.GetValueOrDefault("tool_use"));
    }

    private static Dictionary<string, object?> SpecialTokensOf(JsonElement root)
    {
        Dictionary<string, object?> tokens = new(StringComparer.Ordinal);
        foreach (JsonProperty property in root.EnumerateObject())
        {
            if (!property.Name.EndsWith("_token", StringComparison.Ordinal))
            {
                continue;
            }

            JsonElement value = property.Value.ValueKind == JsonValueKind.Object && property.Value.TryGetProperty("content", out JsonElement content)
                ? content
                : property.Value;
            // Names such as add_bos_token are settings, not tokens.
            if (value.ValueKind == JsonValueKind.String)
            {
                tokens[property.Name] = new TaggedText(value.GetString()!, Origin.Template);
            }
        }
        return tokens;
    }
}
