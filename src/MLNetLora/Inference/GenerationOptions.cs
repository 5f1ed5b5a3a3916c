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
    /// Divides positive and multiplies negative logits of tokens that prompt or answer have already (CTRL paper; transformers' repetition_penalty); 1 is off.
    /// Null (default) is the checkpoint's, and 1 where it says nothing.
    /// </summary>
    public float? RepetitionPenalty { get; set; }

    /// <summary>Seed of the sampling; null (default) draws a new one for every call.</summary>
    public int? Seed { get; set; }

    /// <summary>
    /// An answer ends before the first of these strings; empty by default. At most 64, each of at most 1,024 characters. They are looked for in the answer's
    /// text alone: what the model thinks before it answers does not end it.
    /// </summary>
    public IReadOnlyList<string> StopStrings { get; set; } = [];

    /// <summary>What every answer must be: JSON of a schema, a regular expression, calls of tools; null (default) leaves it to the model.</summary>
    public OutputConstraint? Constraint { get; set; }

    /// <summary>Prompts generated together; at most 4,096. Default 8.</summary>
    public int BatchSize { get; set; } = 8;

    /// <summary>What becomes of a row whose prompt is too long. Default: the row fails, the others are answered.</summary>
    public PromptOverflow WhenPromptTooLong { get; set; } = PromptOverflow.Error;

    /// <summary>Options that later changes of these do not reach.</summary>
    internal GenerationOptions Copy()
    {
        GenerationOptions copy = (GenerationOptions)MemberwiseClone();
        copy.StopStrings = [.. StopStrings];
        return copy;
    }

    /// <summary>Throws an <see cref="OptionException"/> that names the first option that makes no sense.</summary>
    public void Validate()
    {
        Require.That(MaximumNewTokens is >= 1 and <= MostNewTokens, nameof(MaximumNewTokens), MaximumNewTokens, $"between 1 and {MostNewTokens}");
        Require.That(Temperature is null || (Temperature >= 0 && float.IsFinite(Temperature.Value)), nameof(Temperature), Temperature, "0 (greedy) or more");
        Require.That(TopK is null or >= 0, nameof(TopK), TopK, "0 (off) or more");
        Require.That(TopP is null or (> 0 and <= 1), nameof(TopP), TopP, "above 0 and at most 1");
        bool penalty = RepetitionPenalty is null || (RepetitionPenalty > 0 && float.IsFinite(RepetitionPenalty.Value));
        Require.That(penalty, nameof(RepetitionPenalty), RepetitionPenalty, "above 0; 1 is off");
        Require.That(BatchSize is >= 1 and <= LargestBatch, nameof(BatchSize), BatchSize, $"between 1 and {LargestBatch}");
        Require.Defined(WhenPromptTooLong, nameof(WhenPromptTooLong));
        if (StopStrings is null)
        {
            throw new OptionException($"{nameof(StopStrings)} is null; it must be a list, which is empty for none.");
        }

        if (StopStrings.Any(string.IsNullOrEmpty))
        {
            throw new OptionException($"{nameof(StopStrings)} holds an empty string, which would end every answer at once; remove it.");
        }

        Require.That(StopStrings.Count <= MostStopStrings, nameof(StopStrings), $"{StopStrings.Count} strings", $"at most {MostStopStrings}");
        int longest = StopStrings.Select(stop => stop.Length).DefaultIfEmpty().Max();
        Require.That(longest <= LongestStopString, nameof(StopStrings), $"a string of {longest} characters", $"at most {LongestStopString} characters each");
    }

    /// <summary>These options with nothing left to the checkpoint.</summary>
    /// <param name="config">The checkpoint.</param>
    internal GenerationOptions Resolve(QwenConfig config)
    {
        GenerationDefaults defaults = config.Generation;
        GenerationOptions resolved = (GenerationOptions)MemberwiseClone();
        resolved.Temperature ??= defaults.DoSample ? defaults.Temperature : 0f;
        resolved.TopK ??= defaults.TopK;
        resolved.TopP ??= defaults.TopP;
        resolved.RepetitionPenalty ??= defaults.RepetitionPenalty;
        return resolved;
    }
}
