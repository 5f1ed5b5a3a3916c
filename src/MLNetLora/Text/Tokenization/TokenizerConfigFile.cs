using System.Globalization;
using System.Text.Json;

namespace MLNetLora.Text;

/// <summary>What tokenizer_config.json and the older added_tokens.json say about added tokens.</summary>
internal static class TokenizerConfigFile
{
    /// <summary>The added tokens of a folder: added_tokens_decoder of tokenizer_config.json, else added_tokens.json (Qwen1.5 as older tools saved
    /// it); none where neither exists.</summary>
    /// <exception cref="TokenizerException">A file is not valid.</exception>
    public static IReadOnlyList<AddedToken> ReadAddedTokens(string folder)
    {
        string config = Path.Combine(folder, "tokenizer_config.json");
        if (File.Exists(config))
        {
            IReadOnlyList<AddedToken> tokens = Parse(config, root =>
                root.TryGetProperty("added_tokens_decoder", out JsonElement decoder)
                    ? [.. decoder.EnumerateObject().Select(
                        token => AddedToken(token.Value, int.Parse(token.Name, NumberStyles.None, CultureInfo.InvariantCulture), config))]
                    : (IReadOnlyList<AddedToken>)[]);
            if (tokens.Count > 0)
            {
                return tokens;
            }
        }
        string added = Path.Combine(folder, "added_tokens.json");
        return File.Exists(added)
            ? Parse(added, root => (IReadOnlyList<AddedToken>)[
                .. root.EnumerateObject().Select(token => new AddedToken(token.Value.GetInt32(), NotEmpty(token.Name, added), Special: IsControl(token.Name)))])
            : [];
    }

    /// <summary>tokenizer_class of tokenizer_config.json, null where it is not said.</summary>
    /// <exception cref="TokenizerException">The file is not valid.</exception>
    public static string? ReadTokenizerClass(string folder)
    {
        string config = Path.Combine(folder, "tokenizer_config.json");
        return File.Exists(config) ? Parse(config, root => root.TryGetProperty("tokenizer_class", out JsonElement name) ? name.GetString() : null) : null;
    }

    /// <summary>Reads one added token.</summary>
    /// <param name="token">The object with content, special and the matching flags.</param>
    /// <param name="id">Its id.</param>
    /// <param name="path">The file, for messages.</param>
    /// <exception cref="TokenizerException">The token is empty or asks for a way of matching that Qwen's tokens do not use.</exception>
    public static AddedToken AddedToken(JsonElement token, int id, string path)
    {
        string content = NotEmpty(token.GetProperty("content").GetString(), path);
        foreach (string flag in (ReadOnlySpan<string>)["lstrip", "rstrip", "single_word"])
        {
            if (Flag(token, flag))
            {
                throw new TokenizerException($"{path}: the added token {content} has {flag}, which Qwen's tokenizers do not use and this library does not "
                    + "know. Set it to false if it is a mistake.");
            }
        }
        return new AddedToken(id, content, Flag(token, "special"), Flag(token, "normalized"));
    }

    /// <summary>added_tokens.json does not say which tokens are control tokens; in Qwen's files those are spelled &lt;|…|&gt;.</summary>
    private static bool IsControl(string content) => content.StartsWith("<|", StringComparison.Ordinal) && content.EndsWith("|>", StringComparison.Ordinal);

    private static bool Flag(JsonElement token, string name) => token.TryGetProperty(name, out JsonElement value) && value.GetBoolean();

    private static string NotEmpty(string? content, string path) =>
        string.IsNullOrEmpty(content) ? throw new TokenizerException($"{path}: an added token is empty. Restore the original file.") : content;

    /// <summary>Reads a JSON file; every failure becomes a typed one that names it.</summary>
    public static T Parse<T>(string path, Func<JsonElement, T> read)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(TokenizerFiles.ReadBytes(path));
            return read(document.RootElement);
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException or FormatException or OverflowException or KeyNotFoundException)
        {
            throw new TokenizerException($"{path} is not valid: {error.Message} Restore the original file.", error);
        }
    }
}
