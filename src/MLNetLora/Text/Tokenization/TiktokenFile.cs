using System.Buffers.Text;

namespace MLNetLora.Text;

/// <summary>Reads Qwen1's qwen.tiktoken: one line per token, its bytes in Base64, a space, its rank, which is also its id.</summary>
internal static class TiktokenFile
{
    private const int ExtraTokens = 205;
    private const int LongestToken = 4096; // bytes in Base64, as in tokenizer.json: the time for merges grows with the square

    /// <summary>Reads a file. The ids behind the ranks are endoftext, im_start, im_end and extra_0 to extra_204, as in Qwen's tokenization_qwen.py.</summary>
    /// <exception cref="TokenizerException">A line is not valid; the message names it.</exception>
    public static TokenizerData Read(string path)
    {
        ReadOnlySpan<byte> file = TokenizerFiles.ReadBytes(path).Span;
        TokenTable tokens = new(file.Length / 17);
        int line = 0;
        foreach (Range range in file.Split((byte)'\n'))
        {
            line++;
            ReadOnlySpan<byte> text = file[range].Trim(" \r"u8);
            if (!text.IsEmpty && Add(tokens, text) is { } wrong)
            {
                throw new TokenizerException($"{path}, line {line}: {wrong}. Restore the original file.");
            }
        }
        if (tokens.Count == 0)
        {
            throw new TokenizerException($"{path} has no tokens. Restore the original file.");
        }

        return new TokenizerData(
            tokens, MergesOf(tokens), WholeWordsFirst: true, PreTokenizer.For(PreTokenizer.QwenPattern)!, Normalize: true, NormalizeBeforeAddedTokens: true,
            [.. SpecialTokens(tokens.Size)]);
    }

    private static string? Add(TokenTable tokens, ReadOnlySpan<byte> line)
    {
        int space = line.IndexOf((byte)' ');
        if (space <= 0 || !Utf8Parser.TryParse(line[(space + 1)..], out int rank, out int read) || read != line.Length - space - 1)
        {
            return "is not a token in Base64, a space and its rank";
        }

        if (space > LongestToken)
        {
            return $"has a token of {space} characters; the longest known ones have some hundred";
        }

        byte[] bytes = new byte[Base64.GetMaxDecodedFromUtf8Length(space)];
        if (Base64.DecodeFromUtf8(line[..space], bytes, out int consumed, out int written) != System.Buffers.OperationStatus.Done || consumed != space)
        {
            return "is not valid Base64 before the space";
        }

        return tokens.TryAdd(rank, bytes.AsSpan(0, written)) is { } wrong ? $"the token {wrong}" : null;
    }

    /// <summary>tiktoken merges two neighbours where their bytes together are a token, lowest rank first: every split of a token into two tokens is a
    /// merge with that token's rank.</summary>
    private static MergeTable MergesOf(TokenTable tokens)
    {
        MergeTable merges = new(tokens.Count * 4);
        for (int id = 0; id < tokens.Size; id++)
        {
            ReadOnlySpan<byte> token = tokens[id];
            for (int split = 1; split < token.Length; split++)
            {
                if (tokens.TryGetId(token[..split], out int left) && tokens.TryGetId(token[split..], out int right))
                {
                    merges.Set(left, right, id, id);
                }
            }
        }
        return merges;
    }

    private static IEnumerable<AddedToken> SpecialTokens(int first)
    {
        IEnumerable<string> names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", .. Enumerable.Range(0, ExtraTokens).Select(i => $"<|extra_{i}|>")];
        return names.Select((name, i) => new AddedToken(first + i, name, Special: true));
    }
}
