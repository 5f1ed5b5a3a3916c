namespace MLNetLora.Text;

/// <summary>A row ready for batching, and what became of it on the way.</summary>
/// <param name="Row">Ids and labels.</param>
/// <param name="Report">Tokens before and after truncation.</param>
public readonly record struct TokenizedRow(TrainingRow Row, TokenizationReport Report);
