namespace MLNetLora.Text;

/// <summary>One tokenized row, ready for batching.</summary>
/// <param name="InputIds">Token ids, [length].</param>
/// <param name="Labels">
/// The same ids where the loss counts, <see cref="Ignore"/> elsewhere, [length]; not shifted: position i is learned from position i−1.
/// </param>
internal sealed record TrainingRow(int[] InputIds, int[] Labels)
{
    /// <summary>The label of a position without loss, −100 as in PyTorch.</summary>
    public const int Ignore = -100;

    /// <summary>Number of positions whose label counts; the first position has nothing before it to be predicted from and never does.</summary>
    public int LabelTokens => Labels.Length == 0 ? 0 : Labels.Length - 1 - Labels.AsSpan(1).Count(Ignore);
}
