namespace MLNetLora.Inference;

/// <summary>An answer with what it cost.</summary>
/// <param name="Text">The answer; thinking, control tokens and stop string left out.</param>
/// <param name="Reason">Why it ended.</param>
/// <param name="PromptTokens">Tokens of the prompt.</param>
/// <param name="NewTokens">Tokens generated, those of the thinking and an ending eos included.</param>
public sealed record GeneratedText(string Text, FinishReason Reason, int PromptTokens, int NewTokens)
{
    /// <summary>
    /// What the model thought before it answered, without &lt;think&gt; and &lt;/think&gt;; null where it did not think. Where the answer ended in the middle
    /// of the thinking, <see cref="Text"/> is empty.
    /// </summary>
    public string? Thinking { get; init; }

    /// <summary>How many of the new tokens are thinking, its tags included.</summary>
    public int ThinkingTokens { get; init; }

    /// <summary>Tokens of the prompt that were not computed again, because an earlier prompt began with them; see
    /// <see cref="EngineOptions.PrefixCacheBytes"/>.</summary>
    public int CachedPromptTokens { get; init; }

    /// <summary>New tokens that were guessed; see <see cref="GenerationOptions.PromptLookupTokens"/>.</summary>
    public int GuessedTokens { get; init; }

    /// <summary>
    /// All tokens that were generated, with log probabilities: those of the thinking and of its tags, an ending eos, and what was generated of a stop string
    /// included. Null where <see cref="GenerationOptions.TopLogprobs"/> is, and where there is no answer.
    /// </summary>
    public IReadOnlyList<GeneratedToken>? Tokens { get; init; }

    /// <summary>
    /// Why the row could not be answered: its prompt is too long (<see cref="PromptException"/>), the chat template refuses it
    /// (<see cref="TemplateException"/>), or its columns hold something else than a question, such as a conversation that is not JSON
    /// (<see cref="DatasetException"/>). <see cref="Text"/> is empty then. Null where all is well.
    /// </summary>
    public MLNetLoraException? Error { get; init; }
}

/// <summary>A piece of an answer as it comes.</summary>
/// <param name="Text">New text, whole characters only; empty in the last piece.</param>
/// <param name="IsThinking">Whether it is a piece of what the model thinks before it answers, rather than of the answer.</param>
public sealed record GeneratedChunk(string Text, bool IsThinking = false)
{
    /// <summary>
    /// The tokens whose text is whole with this piece; those of the tags around thinking, of what is left out and of an ending eos come with the next piece,
    /// which
    /// may be the last. Those of all pieces, one after the other, are <see cref="GeneratedText.Tokens"/>. Null where nobody asked for log probabilities.
    /// </summary>
    public IReadOnlyList<GeneratedToken>? Tokens { get; init; }

    /// <summary>The whole answer with finish reason and token counts, in the last piece alone; null before.</summary>
    public GeneratedText? Answer { get; init; }
}
