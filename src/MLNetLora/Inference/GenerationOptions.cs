using MLNetLora.Models;

namespace MLNetLora.Inference;

/// <summary>What becomes of a row whose prompt leaves no room for an answer in the model's context.</summary>
public enum PromptOverflow
{
    /// <summary>The row fails, the others are answered: see <see cref="GeneratedText.Error"/>. The default.</summary>
    Error,

    /// <summary>The row's answer is empty and ends with <see cref="FinishReason.Length"/>.</summary>
    EmptyAnswer,

    /// <summary>
    /// The prompt is cut from the left until <see cref="GenerationOptions.MaximumNewTokens"/> fit behind it (at most half of the context is kept free for
    /// them): the oldest turns of a conversation go first, then the beginning of the last message. System message, tools and the begin of the answer
    /// are never cut.
    /// </summary>
    TruncateLeft,
}

/// <summary>How answers are generated. What is null is taken from the checkpoint's generation_config.json.</summary>
public sealed class GenerationOptions
{
    private const int MostNewTokens = 1 << 20;
    private const int LargestBatch = 4096;
    private const int MostStopStrings = 64;
    private const int MostGuessed = 64;
    private const int MostStopTokens = 64;
    private const int MostTopLogprobs = 20;
    private const float LargestBias = 100;
    private const float LargestPenalty = 2;
    private const int LongestStopString = 1024;

    /// <summary>Most tokens an answer may have, its thinking included; at most 1,048,576. Default 256.</summary>
    public int MaximumNewTokens { get; set; } = 256;

    /// <summary>
    /// Logits are divided by this before sampling; 0 is greedy, so that the same prompt gives the same answer.
    /// Null (default) is the checkpoint's: greedy where its generation_config.json has no do_sample true, else its temperature.
    /// </summary>
    public float? Temperature { get; set; }

    /// <summary>
    /// Samples among the k most likely tokens only; 0 is off. Null (default) is the checkpoint's, and 50, as in transformers, where it says nothing.
    /// </summary>
    public int? TopK { get; set; }

    /// <summary>
    /// Samples among the fewest tokens whose probabilities reach p; 1 is off. Null (default) is the checkpoint's, and 1 where it says nothing.
    /// </summary>
    public float? TopP { get; set; }

    /// <summary>
    /// Samples among the tokens alone that are at least so likely as this share of the likeliest one's probability, of those that TopK and TopP leave
    /// (transformers' min_p); 0 is off, 1 leaves the likeliest. Null (default) is the checkpoint's, and 0 where it says nothing.
    /// </summary>
    public float? MinP { get; set; }

    /// <summary>
    /// Divides positive and multiplies negative logits of tokens that prompt or answer have already (CTRL paper; transformers' repetition_penalty); 1 is off.
    /// Null (default) is the checkpoint's, and 1 where it says nothing.
    /// </summary>
    public float? RepetitionPenalty { get; set; }

    /// <summary>
    /// Is taken off the logits of tokens that the answer has already, however often (OpenAI's presence_penalty; the prompt's do not count): between -2 and 2;
    /// 0 (default) is off, above 0 makes new words likely.
    /// </summary>
    public float PresencePenalty { get; set; }

    /// <summary>
    /// Is taken off the logits of tokens that the answer has already, once for each time (OpenAI's frequency_penalty; the prompt's do not count): between -2
    /// and 2; 0 (default) is off.
    /// </summary>
    public float FrequencyPenalty { get; set; }

    /// <summary>
    /// What is added to the logits of tokens, by their ids, before everything else: between -100, which in practice forbids one, and 100, which in practice
    /// forces it. Empty by default. Constraints and ends of text stay what they are: a token that cannot follow is not made one that can.
    /// </summary>
    public IReadOnlyDictionary<int, float> LogitBias { get; set; } = new Dictionary<int, float>();

    /// <summary>
    /// Seed of the sampling; null (default) draws a new one for every call. With the prompt's tokens it fixes the random numbers, so that an answer does not
    /// depend on its batch; several answers to one prompt are had with several seeds, such as 7, 8 and 9.
    /// </summary>
    public int? Seed { get; set; }

    /// <summary>
    /// An answer ends before the first of these strings; empty by default. At most 64, each of at most 1,024 characters. They are looked for in the answer's
    /// text alone: what the model thinks before it answers does not end it.
    /// </summary>
    public IReadOnlyList<string> StopStrings { get; set; } = [];

    /// <summary>
    /// Tokens that end an answer as the model's own end of text does, and are no part of its text; empty by default. At most 64 ids of the vocabulary. In the
    /// thinking, too.
    /// </summary>
    public IReadOnlyList<int> StopTokenIds { get; set; } = [];

    /// <summary>
    /// Goes on where the model ends its answer (its end-of-text tokens, which do not show in the text), until something else ends it: the length, a stop
    /// string, one of <see cref="StopTokenIds"/>. For measurements. Default false.
    /// </summary>
    public bool IgnoreEndOfText { get; set; }

    /// <summary>
    /// Fewest tokens of an answer, its thinking included (transformers' min_new_tokens): before them no token that would end it is chosen, unless none but
    /// these may follow, and stop strings in them do not end it. At most <see cref="MaximumNewTokens"/>. Default 0.
    /// </summary>
    public int MinimumNewTokens { get; set; }

    /// <summary>
    /// The log probabilities of the answer's tokens (<see cref="GeneratedText.Tokens"/>, <see cref="GeneratedChunk.Tokens"/>), and of so many of the likeliest
    /// tokens in each place, at most 20. They are those of the model's own distribution, before bias, penalties, temperature and what else chooses.
    /// Null (default): none are computed.
    /// </summary>
    public int? TopLogprobs { get; set; }

    /// <summary>
    /// Guesses up to so many of the next tokens from what stood behind the last ones where they were before, in the prompt or in the answer, and verifies them
    /// in one run (prompt lookup decoding; transformers' prompt_lookup_num_tokens): faster where answers quote, correct or extract, and the same tokens. For
    /// one request at a time, whose model has no recurrent layers; beside others nothing is guessed. At most 64; 10 is usual. Default 0: off.
    /// </summary>
    public int PromptLookupTokens { get; set; }

    /// <summary>
    /// Goes on with a conversation that ends with the assistant's message, in place of refusing it (transformers' continue_final_message): the answer is what
    /// follows the message, which is not repeated. A message that begins with &lt;think&gt; and has no &lt;/think&gt; is gone on with in its thinking. Other
    /// conversations are answered as ever. In views, a conversation's answer at the end then stays. Stop strings and constraints hold for what follows alone.
    /// Default false.
    /// </summary>
    public bool ContinueFinalMessage { get; set; }

    /// <summary>
    /// What every answer must be: JSON of a schema, a regular expression, calls of tools; null (default) leaves it to the model. An answer that is complete
    /// ends there, whatever else asks for more; one that reaches <see cref="MaximumNewTokens"/> is cut. Thinking is free. Of a message that is gone on with
    /// (<see cref="ContinueFinalMessage"/>) it is what follows that the constraint speaks of.
    /// </summary>
    public OutputConstraint? Constraint { get; set; }

    /// <summary>Prompts generated together; at most 4,096. Default 8.</summary>
    public int BatchSize { get; set; } = 8;

    /// <summary>What becomes of a row whose prompt is too long. Default: the row fails, the others are answered.</summary>
    public PromptOverflow WhenPromptTooLong { get; set; } = PromptOverflow.Error;

    /// <summary>Whether what the prefix cache knows of the prompt's beginning is used, and the prompt kept for others. Default true.</summary>
    internal bool UsesPrefixCache { get; set; } = true;

    /// <summary>Whether the end of a call (&lt;/tool_call&gt;) ends the answer, as one more of <see cref="StopStrings"/> would. Default false.</summary>
    internal bool EndsWithCall { get; set; }

    /// <summary>Prompts share what the prefix cache keeps where this is the same (vLLM's cache_salt), so that nobody learns from the time of an answer what
    /// others have asked. Null (default) is shared, too.</summary>
    internal string? CacheSalt { get; set; }

    /// <summary>What the answer begins with, whatever the model thinks of it; none of these tokens ends it. Empty by default.</summary>
    internal IReadOnlyList<int> ForcedTokens { get; init; } = [];

    /// <summary>Options that later changes of these do not reach.</summary>
    internal GenerationOptions Copy()
    {
        GenerationOptions copy = (GenerationOptions)MemberwiseClone();
        copy.StopStrings = [.. StopStrings];
        copy.StopTokenIds = [.. StopTokenIds];
        copy.LogitBias = LogitBias.ToDictionary();
        return copy;
    }

    /// <summary>Throws an <see cref="OptionException"/> that names the first option that makes no sense.</summary>
    public void Validate()
    {
        Require.That(MaximumNewTokens is >= 1 and <= MostNewTokens, nameof(MaximumNewTokens), MaximumNewTokens, $"between 1 and {MostNewTokens}");
        Require.That(Temperature is null || (Temperature >= 0 && float.IsFinite(Temperature.Value)), nameof(Temperature), Temperature, "0 (greedy) or more");
        Require.That(TopK is null or >= 0, nameof(TopK), TopK, "0 (off) or more");
        Require.That(TopP is null or (> 0 and <= 1), nameof(TopP), TopP, "above 0 and at most 1");
        Require.That(MinP is null or (>= 0 and <= 1), nameof(MinP), MinP, "between 0 (off) and 1");
        bool penalty = RepetitionPenalty is null || (RepetitionPenalty > 0 && float.IsFinite(RepetitionPenalty.Value));
        Require.That(penalty, nameof(RepetitionPenalty), RepetitionPenalty, "above 0; 1 is off");
        Require.That(PresencePenalty is >= -LargestPenalty and <= LargestPenalty, nameof(PresencePenalty), PresencePenalty, "between -2 and 2; 0 is off");
        Require.That(FrequencyPenalty is >= -LargestPenalty and <= LargestPenalty, nameof(FrequencyPenalty), FrequencyPenalty, "between -2 and 2; 0 is off");
        string fewest = $"between 0 and {nameof(MaximumNewTokens)}, which is {MaximumNewTokens}";
        Require.That(MinimumNewTokens >= 0 && MinimumNewTokens <= MaximumNewTokens, nameof(MinimumNewTokens), MinimumNewTokens, fewest);
        Require.That(TopLogprobs is null or (>= 0 and <= MostTopLogprobs), nameof(TopLogprobs), TopLogprobs, $"between 0 and {MostTopLogprobs}, or null");
        Require.That(PromptLookupTokens is >= 0 and <= MostGuessed, nameof(PromptLookupTokens), PromptLookupTokens, $"between 0 (off) and {MostGuessed}");
        Require.That(BatchSize is >= 1 and <= LargestBatch, nameof(BatchSize), BatchSize, $"between 1 and {LargestBatch}");
        Require.Defined(WhenPromptTooLong, nameof(WhenPromptTooLong));
        ValidateStops();
        ValidateTokens();
    }

    private void ValidateStops()
    {
        RequireList(StopStrings, nameof(StopStrings));
        if (StopStrings.Any(string.IsNullOrEmpty))
        {
            throw new OptionException($"{nameof(StopStrings)} holds an empty string, which would end every answer at once; remove it.");
        }

        Require.That(StopStrings.Count <= MostStopStrings, nameof(StopStrings), $"{StopStrings.Count} strings", $"at most {MostStopStrings}");
        int longest = StopStrings.Select(stop => stop.Length).DefaultIfEmpty().Max();
        Require.That(longest <= LongestStopString, nameof(StopStrings), $"a string of {longest} characters", $"at most {LongestStopString} characters each");
    }

    private void ValidateTokens()
    {
        RequireList(StopTokenIds, nameof(StopTokenIds));
        RequireList(LogitBias, nameof(LogitBias));
        Require.That(StopTokenIds.Count <= MostStopTokens, nameof(StopTokenIds), $"{StopTokenIds.Count} ids", $"at most {MostStopTokens}");
        RequireIds(int.MaxValue);
        foreach ((int id, float bias) in LogitBias)
        {
            if (!(bias is >= -LargestBias and <= LargestBias))
            {
                Require.That(false, nameof(LogitBias), FormattableString.Invariant($"{bias} for token {id}"), "between -100 and 100");
            }
        }
    }

    private static void RequireList(object? list, string name)
    {
        if (list is null)
        {
            throw new OptionException($"{name} is null; it must be a list, which is empty for none.");
        }
    }

    private void RequireIds(int vocabulary)
    {
        Refuse(StopTokenIds, nameof(StopTokenIds));
        Refuse(LogitBias.Keys, nameof(LogitBias));

        void Refuse(IEnumerable<int> ids, string name)
        {
            int[] wrong = [.. ids.Where(id => id < 0 || id >= vocabulary).Take(1)];
            string what = wrong.Length > 0 ? $"for token {wrong[0]}" : "";
            Require.That(wrong.Length == 0, name, what, $"for ids of the vocabulary, from 0 to {vocabulary - 1}");
        }
    }

    /// <summary>These options with nothing left to the checkpoint.</summary>
    /// <param name="config">The checkpoint.</param>
    /// <exception cref="OptionException">A token is none of the checkpoint's.</exception>
    internal GenerationOptions Resolve(QwenConfig config)
    {
        RequireIds(config.VocabSize);
        GenerationDefaults defaults = config.Generation;
        GenerationOptions resolved = (GenerationOptions)MemberwiseClone();
        resolved.Temperature ??= defaults.DoSample ? defaults.Temperature : 0f;
        resolved.TopK ??= defaults.TopK;
        resolved.TopP ??= defaults.TopP;
        resolved.MinP ??= defaults.MinP;
        resolved.RepetitionPenalty ??= defaults.RepetitionPenalty;
        return resolved;
    }
}
