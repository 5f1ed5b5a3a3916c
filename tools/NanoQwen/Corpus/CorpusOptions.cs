namespace MLNetLora.Tools.NanoQwen.Corpus;

/// <summary>How the corpus is cut and mixed.</summary>
internal sealed record CorpusOptions
{
    /// <summary>Decides order and held-out rows.</summary>
    public int Seed { get; init; } = 42;

    /// <summary>Longest conversation in tokens, control tokens included. The answers of longer ones join the plain text.</summary>
    public int MaximumConversationTokens { get; init; } = 192;

    /// <summary>Longest row of any kind, in tokens.</summary>
    public int SequenceLength { get; init; } = 256;

    /// <summary>Plain text below this many tokens is a fragment and left out.</summary>
    public int MinimumTextTokens { get; init; } = 24;

    /// <summary>Share of each source that is held out for validation; identity and the conversation sample are too small and stay whole.</summary>
    public double ValidationShare { get; init; } = 0.02;

    /// <summary>How often an epoch repeats each Chinese row: the data has far less Chinese than English.</summary>
    public int ChineseRepeats { get; init; } = 2;

    /// <summary>How often an epoch repeats the rows in which the model says who it is, and the two of the conversation sample.</summary>
    public int IdentityRepeats { get; init; } = 3;
}
