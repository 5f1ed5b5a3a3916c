namespace MLNetLora.Text;

/// <summary>A row ready for batching, and what became of it on the way.</summary>
/// <param name="Row">Ids and labels.</param>
/// <param name="Report">Tokens before and after truncation.</param>
internal readonly record struct TokenizedRow(TrainingRow Row, TokenizationReport Report);

/// <summary>What became of one row when it was tokenized.</summary>
/// <param name="Tokens">Tokens that the whole row has.</param>
/// <param name="KeptTokens">Tokens that are left after truncation.</param>
/// <param name="AnswerTokens">Tokens that the whole answer has, its &lt;|im_end|&gt; included; of all answers where all are learned.</param>
/// <param name="KeptAnswerTokens">Those of them that are left after truncation.</param>
internal readonly record struct TokenizationReport(int Tokens, int KeptTokens, int AnswerTokens, int KeptAnswerTokens)
{
    /// <summary>How many invalid characters (surrogates without their partner) the row's texts have; each became U+FFFD.</summary>
    public int ReplacedCharacters { get; init; }

    /// <summary>Whether the row teaches thinking: its answer thinks first, and the template writes that.</summary>
    public bool HasThinking { get; init; }

    /// <summary>Whether the row's answer brings thinking that the checkpoint's chat template leaves out, as those of models that do not think do.</summary>
    public bool LosesThinking { get; init; }

    /// <summary>Whether tokens were cut off at the end.</summary>
    public bool IsTruncated => KeptTokens < Tokens;

    /// <summary>Whether nothing of the answer is left: the row teaches nothing, and the caller should say which row it was.</summary>
    public bool IsAnswerCutOff => KeptAnswerTokens == 0 && AnswerTokens > 0;
}
