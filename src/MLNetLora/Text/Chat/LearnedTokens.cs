namespace MLNetLora.Text;

/// <summary>Tokens of a row that are learned.</summary>
/// <param name="Start">Index of the first.</param>
/// <param name="End">Index behind the last.</param>
internal readonly record struct LearnedTokens(int Start, int End)
{
    /// <summary>Cuts a row to its maximum length and labels it.</summary>
    /// <param name="ids">The whole row.</param>
    /// <param name="answers">Where the answers stand in it, ascending.</param>
    /// <param name="scope">What is learned: the answers, or everything.</param>
    /// <param name="maximumLength">How many tokens are kept, from the beginning.</param>
    /// <param name="report">What became of the row.</param>
    public static TrainingRow Row(int[] ids, IReadOnlyList<LearnedTokens> answers, LabelScope scope, int maximumLength, out TokenizationReport report)
    {
        int[] kept = ids.Length <= maximumLength ? ids : ids[..maximumLength];
        int[] labels = (int[])kept.Clone();
        if (scope != LabelScope.Everything)
        {
            Array.Fill(labels, TrainingRow.Ignore);
        }

        int whole = 0;
        int left = 0;
        foreach (LearnedTokens answer in answers)
        {
            whole += answer.End - answer.Start;
            int length = Math.Max(0, Math.Min(answer.End, kept.Length) - answer.Start);
            left += length;
            if (length > 0)
            {
                kept.AsSpan(answer.Start, length).CopyTo(labels.AsSpan(answer.Start));
            }
        }

        report = new TokenizationReport(ids.Length, kept.Length, whole, left);
        return new TrainingRow(kept, labels);
    }
}

/// <summary>Which tokens of a row are learned.</summary>
public enum LabelScope
{
    /// <summary>The row's answer, the last of a conversation, and the &lt;|im_end|&gt; that ends it: the model learns to answer, and to stop.</summary>
    Answer,

    /// <summary>Every token, the prompt included.</summary>
    Everything,

    /// <summary>All that the assistant says in a conversation, every turn with the &lt;|im_end|&gt; that ends it.</summary>
    AllAssistantTurns,
}
