using System.Text.Json;

namespace MLNetLora.Text;

/// <summary>The parts of a Hugging Face tokenizer.json that decide ids; the initial values are what Qwen's tokenizers do where the file is absent.</summary>
internal sealed record TokenizerJson
{
    private const int LongestToken = 4096;

    /// <summary>model.vocab.</summary>
    public TokenTable Tokens { get; init; } = new(0);

    /// <summary>model.merges.</summary>
    public MergeTable Merges { get; init; } = new(0);

    /// <summary>model.ignore_merges.</summary>
    public bool IgnoreMerges { get; init; }

    /// <summary>The splitter that pre_tokenizer describes.</summary>
    public PreTokenizer PreTokenizer { get; init; } = PreTokenizer.For(PreTokenizer.QwenPattern)!;

    /// <summary>Whether normalizer is NFC.</summary>
    public bool Normalize { get; init; } = true;

    /// <summary>added_tokens.</summary>
    public IReadOnlyList<AddedToken> AddedTokens { get; init; } = [];

    /// <summary>Reads a file.</summary>
    /// <param name="path">Path of tokenizer.json.</param>
    /// <param name="withModel">Whether vocabulary and merges are read too.</param>
    /// <exception cref="TokenizerException">The file is not a byte-level BPE tokenizer that splits text as Qwen's do.</exception>
    public static TokenizerJson Read(string path, bool withModel)
    {
        ReadOnlySpan<byte> json = TokenizerFiles.ReadBytes(path).Span;
        try
        {
            return Read(json, path, withModel);
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException or FormatException or KeyNotFoundException)
        {
            throw new TokenizerException($"{path} is not a valid tokenizer.json: {error.Message} Restore the original file.", error);
        }
    }

    /// <summary>Reads an object of token spellings and ids.</summary>
    /// <param name="reader">At the object's start; afterwards at its end.</param>
    /// <param name="path">The file, for messages.</param>
    /// <param name="length">Length of the file in bytes, to size the table.</param>
    public static TokenTable ReadVocabulary(ref Utf8JsonReader reader, string path, int length)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw new TokenizerException($"{path}: the vocabulary is not an object of tokens and ids. Restore the original file.");
        }

        TokenTable tokens = new(length / 18);
        Span<char> spelling = stackalloc char[LongestToken];
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            ReadOnlySpan<char> token = spelling[..CopyText(ref reader, spelling, path)];
            reader.Read();
            if (reader.TokenType != JsonTokenType.Number || !reader.TryGetInt32(out int id))
            {
                throw new TokenizerException($"{path}: the token \"{token}\" has no whole number as its id. Restore the original file.");
            }

            TokenizerFiles.AddSpelled(tokens, path, token, id);
        }
        return tokens;
    }

    private static TokenizerJson Read(ReadOnlySpan<byte> json, string path, bool withModel)
    {
        TokenizerJson result = new();
        bool model = false;
        Utf8JsonReader reader = new(json);
        reader.Read();
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw new TokenizerException($"{path} is not a JSON object. Restore the original file.");
        }

        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals("added_tokens"))
            {
                result = result with
                {
                    AddedTokens = [.. ParseNext(ref reader).EnumerateArray().Select(
                    token => TokenizerConfigFile.AddedToken(token, token.GetProperty("id").GetInt32(), path))]
                };
            }
            else if (reader.ValueTextEquals("normalizer"))
            {
                result = result with { Normalize = ReadNormalizer(ParseNext(ref reader), path) };
            }
            else if (reader.ValueTextEquals("pre_tokenizer"))
            {
                result = result with { PreTokenizer = ReadPreTokenizer(ParseNext(ref reader), path) };
            }
            else if (withModel && reader.ValueTextEquals("model"))
            {
                reader.Read();
                result = ReadModel(ref reader, result, path, json.Length);
                model = true;
            }
            else
            {
                reader.Read();
                reader.Skip();
            }
        }
        if (withModel && !model)
        {
            throw new TokenizerException($"{path} has no model. Restore the original file.");
        }

        return result;
    }

    private static JsonElement ParseNext(ref Utf8JsonReader reader)
    {
        reader.Read();
        return JsonElement.ParseValue(ref reader);
    }

    private static bool ReadNormalizer(JsonElement normalizer, string path)
    {
        if (normalizer.ValueKind == JsonValueKind.Null)
        {
            return false;
        }

        string? type = normalizer.GetProperty("type").GetString();
        return type == "NFC"
            ? true
            : throw new TokenizerException($"{path}: the normalizer {type} is not known; Qwen's tokenizers use NFC. Use a Qwen checkpoint's tokenizer.");
    }

    private static PreTokenizer ReadPreTokenizer(JsonElement preTokenizer, string path)
    {
        IEnumerable<JsonElement> steps = preTokenizer.ValueKind == JsonValueKind.Object && preTokenizer.TryGetProperty("pretokenizers", out JsonElement list)
            ? list.EnumerateArray()
            : [preTokenizer];
        string? pattern = null;
        foreach (JsonElement step in steps.Where(step => step.ValueKind == JsonValueKind.Object))
        {
            string? type = step.GetProperty("type").GetString();
            if (type == "Split")
            {
                pattern = step.GetProperty("pattern").GetProperty("Regex").GetString();
            }
            else if (type != "ByteLevel" || (step.TryGetProperty("add_prefix_space", out JsonElement prefix) && prefix.GetBoolean()))
            {
                throw new TokenizerException(
                    $"{path}: the pre_tokenizer {type} with its settings is not one that Qwen's tokenizers use. Use a Qwen checkpoint's tokenizer.");
            }
        }
        return pattern is not null && PreTokenizer.For(pattern) is { } known
            ? known
            : throw new TokenizerException($"{path}: the pre_tokenizer splits text by a pattern that is not Qwen's ({pattern ?? "none"}), so ids would be "
                + "wrong. Use a Qwen checkpoint's tokenizer.");
    }

    private static TokenizerJson ReadModel(ref Utf8JsonReader reader, TokenizerJson result, string path, int length)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw new TokenizerException($"{path}: model is not an object. Restore the original file.");
        }

        TokenTable? tokens = null;
        bool hasMerges = false;
        bool ignoreMerges = false;
        // Merges refer to the vocabulary, which may stand behind them: the reader is a value, so its place is kept.
        Utf8JsonReader merges = default;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals("vocab"))
            {
                reader.Read();
                tokens = ReadVocabulary(ref reader, path, length);
                continue;
            }
            if (reader.ValueTextEquals("merges"))
            {
                reader.Read();
                merges = reader;
                hasMerges = true;
                reader.Skip();
                continue;
            }
            string name = reader.GetString()!;
            reader.Read();
            if (name == "type" && reader.TokenType == JsonTokenType.String && !reader.ValueTextEquals("BPE"))
            {
                throw new TokenizerException(
                    $"{path}: the model is {reader.GetString()}; Qwen's tokenizers are byte-level BPE. Use a Qwen checkpoint's tokenizer.");
            }

            ignoreMerges |= name == "ignore_merges" && reader.TokenType == JsonTokenType.True;
            reader.Skip();
        }
        if (tokens is null || !hasMerges)
        {
            throw new TokenizerException($"{path}: the model has no {(tokens is null ? "vocab" : "merges")}. Restore the original file.");
        }

        return result with { Tokens = tokens, Merges = ReadMerges(ref merges, tokens, path), IgnoreMerges = ignoreMerges };
    }

    private static MergeTable ReadMerges(ref Utf8JsonReader reader, TokenTable tokens, string path)
    {
        if (reader.TokenType != JsonTokenType.StartArray)
        {
            throw new TokenizerException($"{path}: the merges are not an array. Restore the original file.");
        }

        MergeTable merges = new(tokens.Count);
        Span<char> first = stackalloc char[LongestToken];
        Span<char> second = stackalloc char[LongestToken];
        for (int rank = 0; reader.Read() && reader.TokenType != JsonTokenType.EndArray; rank++)
        {
            scoped ReadOnlySpan<char> left;
            scoped ReadOnlySpan<char> right;
            if (reader.TokenType == JsonTokenType.StartArray)
            {
                reader.Read();
                left = first[..CopyText(ref reader, first, path)];
                reader.Read();
                right = second[..CopyText(ref reader, second, path)];
                reader.Read();
                if (reader.TokenType != JsonTokenType.EndArray)
                {
                    throw new TokenizerException($"{path}: merge {rank + 1} is not a pair. Restore the original file.");
                }
            }
            else
            {
                ReadOnlySpan<char> both = first[..CopyText(ref reader, first, path)];
                int space = both.IndexOf(' ');
                if (space < 0)
                {
                    throw new TokenizerException(
                        $"{path}: merge {rank + 1} (\"{both}\") is not two tokens with a space between them. Restore the original file.");
                }

                left = both[..space];
                right = both[(space + 1)..];
            }
            if (TokenizerFiles.TryAddMerge(merges, tokens, left, right, rank) is { } wrong)
            {
                throw new TokenizerException($"{path}: merge {rank + 1} {wrong}. Restore the original file.");
            }
        }
        return merges;
    }

    private static int CopyText(ref Utf8JsonReader reader, scoped Span<char> buffer, string path)
    {
        if (reader.TokenType is not (JsonTokenType.String or JsonTokenType.PropertyName))
        {
            throw new TokenizerException($"{path}: a token is not a string but {reader.TokenType}. Restore the original file.");
        }

        if ((reader.HasValueSequence ? reader.ValueSequence.Length : reader.ValueSpan.Length) > buffer.Length)
        {
            throw new TokenizerException($"{path}: a token has more than {buffer.Length} bytes. Restore the original file.");
        }

        return reader.CopyString(buffer);
    }
}
