namespace MLNetLora.Evaluation;

/// <summary>How close generated answers are to those of a data set; made by <c>ml.TextGeneration.Evaluate</c>. docs/evaluation.md has the formulas.</summary>
public sealed record TextGenerationMetrics
{
    /// <summary>Rows that were scored.</summary>
    public required long Rows { get; init; }

    /// <summary>Share of the answers that are their reference character by character, from 0 to 1 (<see cref="Evaluation.ExactMatch"/>).</summary>
    public required double ExactMatch { get; init; }

    /// <summary>Mean F-measure of ROUGE-1, from 0 to 1 (<see cref="Rouge"/>).</summary>
    public required double Rouge1 { get; init; }

    /// <summary>Mean F-measure of ROUGE-2, from 0 to 1.</summary>
    public required double Rouge2 { get; init; }

    /// <summary>Mean F-measure of ROUGE-L, from 0 to 1.</summary>
    public required double RougeL { get; init; }

    /// <summary>chrF of all rows together, from 0 to 100 (<see cref="Evaluation.ChrF"/>).</summary>
    public required double ChrF { get; init; }

    /// <summary>chrF++ of all rows together, from 0 to 100.</summary>
    public required double ChrFPlusPlus { get; init; }

    /// <summary>Mean BLEU-4 over characters, from 0 to 1 (<see cref="Bleu"/>).</summary>
    public required double Bleu4 { get; init; }

    /// <summary>Mean length of the answers, in characters (code points).</summary>
    public required double MeanAnswerLength { get; init; }

    /// <summary>Mean length of the references, in characters.</summary>
    public required double MeanReferenceLength { get; init; }

    /// <summary>Answers that are empty or white space; they count in all scores.</summary>
    public required long EmptyAnswers { get; init; }

    /// <summary>Rows that could not be answered, whose answers are empty; null where no error column was named.</summary>
    public required long? FailedRows { get; init; }

    /// <summary>Rows that were left out of everything above because they have no reference.</summary>
    public required long RowsWithoutReference { get; init; }
}
