namespace MLNetLora.Inference;

/// <summary>How answers are generated. The defaults are greedy: the same prompt gives the same answer.</summary>
public sealed class GenerationOptions
{
    /// <summary>Most tokens an answer may have. Default 256.</summary>
    public int MaximumNewTokens { get; set; } = 256;

    /// <summary>Logits are divided by this before sampling; 0 (default) is greedy.</summary>
    public float Temperature { get; set; }

    /// <summary>Samples among the k most likely tokens only; 0 (default) is off.</summary>
    public int TopK { get; set; }

    /// <summary>Samples among the fewest tokens whose probabilities reach p; 1 (default) is off.</summary>
    public float TopP { get; set; } = 1f;

    /// <summary>Divides positive and multiplies negative logits of tokens already seen, prompt included (CTRL paper; transformers' repetition_penalty); 1 (default) is off.</summary>
    public float RepetitionPenalty { get; set; } = 1f;

    /// <summary>Seed of the sampling; null (default) draws a new one for every call.</summary>
    public int? Seed { get; set; }

    /// <summary>An answer ends before the first of these strings; empty by default.</summary>
    public IReadOnlyList<string> StopStrings { get; set; } = [];

    /// <summary>Prompts generated together. Default 8.</summary>
    public int BatchSize { get; set; } = 8;

    /// <summary>Throws an <see cref="OptionException"/> that names the first option that makes no sense.</summary>
    public void Validate()
    {
        Require(MaximumNewTokens >= 1, nameof(MaximumNewTokens), MaximumNewTokens, "at least 1");
        Require(Temperature >= 0 && float.IsFinite(Temperature), nameof(Temperature), Temperature, "0 (greedy) or more");
        Require(TopK >= 0, nameof(TopK), TopK, "0 (off) or more");
        Require(TopP is > 0 and <= 1, nameof(TopP), TopP, "above 0 and at most 1");
        Require(RepetitionPenalty > 0 && float.IsFinite(RepetitionPenalty), nameof(RepetitionPenalty), RepetitionPenalty, "above 0; 1 is off");
        Require(BatchSize >= 1, nameof(BatchSize), BatchSize, "at least 1");
        if (StopStrings is null || StopStrings.Any(string.IsNullOrEmpty))
        {
            throw new OptionException($"{nameof(StopStrings)} holds an empty string, which would end every answer at once; remove it.");
        }
    }

    private static void Require(bool holds, string option, object value, string allowed)
    {
        if (!holds)
        {
            throw new OptionException(FormattableString.Invariant($"{option} is {value}; it must be {allowed}."));
        }
    }
}
