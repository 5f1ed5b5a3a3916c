using System.Text;
using System.Text.Json;

namespace MLNetLora.Text;

/// <summary>
/// How a checkpoint writes conversations. Every Qwen writes ChatML, <c>&lt;|im_start|&gt;ROLE\nTEXT&lt;|im_end|&gt;\n</c>; they differ in the system message that stands first where the
/// conversation brings none. It is read from the checkpoint's own chat template, never guessed from its name.
/// </summary>
/// <param name="DefaultSystem">The system message of a conversation without one; null where such a conversation begins with the user (Qwen3).</param>
public sealed record ChatFormat(string? DefaultSystem)
{
    private const string System = "<|im_start|>system";
    private const string End = "<|im_end|>";

    /// <summary>ChatML without a default system message: what a checkpoint without a chat template gets.</summary>
    public static ChatFormat Plain { get; } = new(DefaultSystem: null);

    /// <summary>ChatML as Qwen1's own code writes it.</summary>
    public static ChatFormat Qwen1 { get; } = new("You are a helpful assistant.");

    /// <summary>
    /// Reads a checkpoint folder: chat_template.jinja, else chat_template in tokenizer_config.json; without either, <see cref="Qwen1"/> where config.json says model_type qwen,
    /// else <see cref="Plain"/>.
    /// </summary>
    /// <param name="folder">The checkpoint folder.</param>
    /// <exception cref="TokenizerException">A file cannot be read.</exception>
    /// <exception cref="TemplateException">The template does not write ChatML.</exception>
    public static ChatFormat Load(string folder)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        string file = Path.Combine(folder, "chat_template.jinja");
        string configuration = Path.Combine(folder, "tokenizer_config.json");
        string? template = File.Exists(file) ? Encoding.UTF8.GetString(TokenizerFiles.ReadBytes(file).Span)
            : File.Exists(configuration) ? TokenizerConfigFile.Parse(configuration, DefaultTemplate)
            : null;
        if (!string.IsNullOrWhiteSpace(template))
            return FromTemplate(template);
        string model = Path.Combine(folder, "config.json");
        string? type = File.Exists(model) ? TokenizerConfigFile.Parse(model, root => root.TryGetProperty("model_type", out JsonElement value) ? value.GetString() : null) : null;
        return type == "qwen" ? Qwen1 : Plain;
    }

    /// <summary>The format that a chat template writes.</summary>
    /// <param name="template">A Jinja template.</param>
    /// <exception cref="TemplateException">The template does not write ChatML.</exception>
    public static ChatFormat FromTemplate(string template)
    {
        ArgumentNullException.ThrowIfNull(template);
        if (!template.Contains("<|im_start|>", StringComparison.Ordinal) || !template.Contains(End, StringComparison.Ordinal))
            throw new TemplateException("The checkpoint's chat template does not write <|im_start|> and <|im_end|>: it is not a Qwen template. Use a Qwen checkpoint or replace its chat_template.");
        for (int at = template.IndexOf(System, StringComparison.Ordinal); at >= 0; at = template.IndexOf(System, at + 1, StringComparison.Ordinal))
        {
            // The default is the system message that stands in the template as a literal, rather than being taken from the messages.
            char quote = at > 0 && template[at - 1] is '\'' or '"' ? template[at - 1] : '{';
            if (Literal(template.AsSpan(at + System.Length), quote) is { } text)
                return new ChatFormat(text);
        }
        return Plain;
    }

    /// <summary>chat_template of tokenizer_config.json: a string, or named templates of which "default" counts.</summary>
    private static string? DefaultTemplate(JsonElement root)
    {
        if (!root.TryGetProperty("chat_template", out JsonElement template))
            return null;
        if (template.ValueKind != JsonValueKind.Array)
            return template.GetString();
        return template.EnumerateArray().Where(named => named.GetProperty("name").GetString() == "default").Select(named => named.GetProperty("template").GetString()).FirstOrDefault();
    }

    /// <summary>The text from the line break behind the role to &lt;|im_end|&gt;; null where the literal ends before.</summary>
    private static string? Literal(ReadOnlySpan<char> text, char quote)
    {
        if (text.StartsWith("\\n", StringComparison.Ordinal))
            text = text[2..];
        else if (text.StartsWith("\n", StringComparison.Ordinal))
            text = text[1..];
        else
            return null;
        StringBuilder literal = new();
        for (int i = 0; i < text.Length && text[i] != quote; i++)
        {
            if (text[i..].StartsWith(End, StringComparison.Ordinal))
                return literal.Length > 0 ? literal.ToString() : null;
            if (text[i] == '\\' && quote != '{' && i + 1 < text.Length)
                literal.Append(text[++i] switch { 'n' => '\n', 't' => '\t', 'r' => '\r', char other => other });
            else
                literal.Append(text[i]);
        }
        return null;
    }
}
