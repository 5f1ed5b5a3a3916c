namespace MLNetLora.Text;

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
