using System.Text;
using System.Text.Json;
using MLNetLora.Checkpoints;

namespace MLNetLora.Text;

/// <summary>Reads a tokenizer from a checkpoint folder: vocab.json with merges.txt, else tokenizer.json, else qwen.tiktoken.</summary>
internal static class TokenizerFiles
{
    /// <summary>Files above this size are refused before they are read; the largest real one has about 12 MB.</summary>
    private const int SizeLimit = 256 << 20;

    /// <summary>Reads a folder.</summary>
    /// <exception cref="TokenizerException">The files are missing, unreadable or contradict themselves; the message names the file.</exception>
    public static TokenizerData Read(string folder)
    {
        if (!Directory.Exists(folder))
        {
            throw new TokenizerException(
                $"{folder} is not a folder. Name a checkpoint folder with vocab.json and merges.txt, tokenizer.json or qwen.tiktoken in it.");
        }

        string vocabulary = Path.Combine(folder, "vocab.json");
        string merges = Path.Combine(folder, "merges.txt");
        string tokenizer = Path.Combine(folder, "tokenizer.json");
        string tiktoken = Path.Combine(folder, "qwen.tiktoken");
        if (File.Exists(vocabulary) && File.Exists(merges))
        {
            // What vocab.json and merges.txt do not say (pattern, normalization, added tokens) is in tokenizer.json, where there is one.
            TokenizerJson rest = File.Exists(tokenizer) ? TokenizerJson.Read(tokenizer, withModel: false) : new TokenizerJson();
            if (!File.Exists(tokenizer))
            {
                RequireQwenClass(folder);
            }

            TokenTable tokens = ReadVocabulary(vocabulary);
            return Build(folder, rest with { Tokens = tokens, Merges = ReadMerges(merges, tokens) });
        }
        if (File.Exists(tokenizer))
        {
            return Build(folder, TokenizerJson.Read(tokenizer, withModel: true));
        }

        if (File.Exists(tiktoken))
        {
            return TiktokenFile.Read(tiktoken);
        }

        string missing = File.Exists(vocabulary)
            ? "merges.txt"
            : File.Exists(merges) ? "vocab.json"
            : "vocab.json and merges.txt, tokenizer.json or qwen.tiktoken";
        throw new TokenizerException($"{folder} has no {missing}. Copy the tokenizer files of the checkpoint into it.");
    }

    /// <summary>A file's bytes, without a byte order mark; every failure becomes a typed one.</summary>
    public static ReadOnlyMemory<byte> ReadBytes(string path)
    {
        try
        {
            ReadOnlyMemory<byte> bytes = BoundedFile.Read(path, SizeLimit)
                ?? throw new TokenizerException($"{path} has more than {SizeLimit} bytes; tokenizer files have a few million. Restore the original file.");
            return bytes.Span.StartsWith(Encoding.UTF8.Preamble) ? bytes[3..] : bytes;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new TokenizerException($"{path} cannot be read: {error.Message}", error);
        }
    }

    /// <summary>Adds a token that is spelled in the byte alphabet.</summary>
    /// <exception cref="TokenizerException">The token cannot be added.</exception>
    public static void AddSpelled(TokenTable tokens, string path, ReadOnlySpan<char> spelling, int id)
    {
        Span<byte> bytes = spelling.Length <= 256 ? stackalloc byte[256] : new byte[spelling.Length];
        // A token with a character outside the alphabet is never merged to; it is kept for decoding, as Hugging Face does.
        string? wrong = ByteAlphabet.TryGetBytes(spelling, bytes)
            ? tokens.TryAdd(id, bytes[..spelling.Length])
            : tokens.TryAdd(id, Encoding.UTF8.GetBytes(spelling.ToString()), searchable: false);
        if (wrong is not null)
        {
            throw new TokenizerException($"{path}: the token \"{Show(spelling)}\" {wrong}. Restore the original file.");
        }
    }

    /// <summary>Adds a merge of two spelled tokens.</summary>
    /// <returns>Null, or what is wrong with it.</returns>
    public static string? TryAddMerge(MergeTable merges, TokenTable tokens, ReadOnlySpan<char> left, ReadOnlySpan<char> right, int rank)
    {
        int length = left.Length + right.Length;
        Span<byte> bytes = length <= 512 ? stackalloc byte[512] : new byte[length];
        if (!ByteAlphabet.TryGetBytes(left, bytes) || !ByteAlphabet.TryGetBytes(right, bytes[left.Length..]))
        {
            return "has a character outside the byte alphabet";
        }

        if (!tokens.TryGetId(bytes[..left.Length], out int leftId))
        {
            return $"merges \"{Show(left)}\", which the vocabulary does not have";
        }

        if (!tokens.TryGetId(bytes[left.Length..length], out int rightId))
        {
            return $"merges \"{Show(right)}\", which the vocabulary does not have";
        }

        if (!tokens.TryGetId(bytes[..length], out int merged))
        {
            return $"gives \"{Show(left)}{Show(right)}\", which the vocabulary does not have";
        }

        merges.Set(leftId, rightId, rank, merged);
        return null;
    }

    private static TokenizerData Build(string folder, TokenizerJson json)
    {
        List<AddedToken> added = [.. TokenizerConfigFile.ReadAddedTokens(folder), .. json.AddedTokens];
        foreach (AddedToken token in added)
        {
            if (token.Id is < 0 or >= TokenTable.IdLimit)
            {
                throw new TokenizerException($"{folder}: the added token {token.Content} has id {token.Id}, which is outside 0 to {TokenTable.IdLimit - 1}. "
                    + "Restore the original tokenizer files.");
            }
        }
        return new TokenizerData(json.Tokens, json.Merges, json.IgnoreMerges, json.PreTokenizer, json.Normalize, NormalizeBeforeAddedTokens: false, added);
    }

    private static void RequireQwenClass(string folder)
    {
        string? name = TokenizerConfigFile.ReadTokenizerClass(folder);
        if (name is null || name.Contains("qwen", StringComparison.OrdinalIgnoreCase) || name is "PreTrainedTokenizerFast" or "TokenizersBackend")
        {
            return;
        }

        throw new TokenizerException(
            $"{Path.Combine(folder, "tokenizer_config.json")} says tokenizer_class {name}; without a tokenizer.json only Qwen's own way of splitting text is "
            + "known. Use a Qwen checkpoint or add its tokenizer.json.");
    }

    private static TokenTable ReadVocabulary(string path)
    {
        ReadOnlySpan<byte> json = ReadBytes(path).Span;
        try
        {
            Utf8JsonReader reader = new(json);
            reader.Read();
            return TokenizerJson.ReadVocabulary(ref reader, path, json.Length);
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)
        {
            throw new TokenizerException($"{path} is not valid JSON: {error.Message} Restore the original file.", error);
        }
    }

    private static MergeTable ReadMerges(string path, TokenTable tokens)
    {
        ReadOnlySpan<byte> bytes = ReadBytes(path).Span;
        if (!System.Text.Unicode.Utf8.IsValid(bytes))
        {
            throw new TokenizerException($"{path} is not valid UTF-8. Restore the original file.");
        }

        MergeTable merges = new(bytes.Length / 11);
        int line = 0;
        int rank = 0;
        ReadOnlySpan<char> text = Encoding.UTF8.GetString(bytes);
        // Lines end with \n alone: .NET's EnumerateLines would also break at U+0085 and U+2028.
        foreach (Range range in text.Split('\n'))
        {
            line++;
            ReadOnlySpan<char> merge = text[range].TrimEnd('\r');
            if (merge.IsEmpty || merge.StartsWith("#version", StringComparison.Ordinal))
            {
                continue;
            }

            int space = merge.IndexOf(' ');
            string? wrong = space <= 0 || space == merge.Length - 1 || merge[(space + 1)..].Contains(' ')
                ? "is not two tokens with one space between them"
                : TryAddMerge(merges, tokens, merge[..space], merge[(space + 1)..], rank++);
            if (wrong is not null)
            {
                throw new TokenizerException($"{path}, line {line}: {wrong}. vocab.json and merges.txt must come from the same checkpoint.");
            }
        }
        return merges;
    }

    private static string Show(ReadOnlySpan<char> token) => token.Length <= 40 ? token.ToString() : $"{token[..40]}…";
}

/// <summary>What a tokenizer's files say, whichever files they were.</summary>
/// <param name="Tokens">The vocabulary, added tokens not included.</param>
/// <param name="Merges">The merges.</param>
/// <param name="WholeWordsFirst">Whether a word in the vocabulary is that token without merging.</param>
/// <param name="PreTokenizer">Splits text into words.</param>
/// <param name="Normalize">Whether text is normalized to NFC.</param>
/// <param name="NormalizeBeforeAddedTokens">Whether that happens before added tokens are looked for (Qwen1) or after (Hugging Face tokenizers).</param>
/// <param name="AddedTokens">The added tokens.</param>
internal sealed record TokenizerData(
    TokenTable Tokens,
    MergeTable Merges,
    bool WholeWordsFirst,
    PreTokenizer PreTokenizer,
    bool Normalize,
    bool NormalizeBeforeAddedTokens,
    IReadOnlyList<AddedToken> AddedTokens);
