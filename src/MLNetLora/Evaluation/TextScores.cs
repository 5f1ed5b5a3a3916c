namespace MLNetLora.Evaluation;

/// <summary>Sums of scores, row by row; no text is kept.</summary>
/// <param name="tokenizer">What ROUGE takes for a word.</param>
internal sealed class TextScores(RougeTokenizer tokenizer)
{
    private readonly ChrF _chrF = new();
    private readonly ChrF _chrFPlusPlus = new(ChrF.PlusPlus);
    private long _exact;
    private double _rouge1;
    private double _rouge2;
    private double _rougeL;
    private double _bleu;
    private long _answerLength;
    private long _referenceLength;
    private long _empty;

    /// <summary>How many rows were added.</summary>
    public long Rows { get; private set; }

    /// <summary>Adds a row.</summary>
    public void Add(string answer, string reference)
    {
        (RougeScore one, RougeScore two, RougeScore l) = Rouge.All(answer, reference, tokenizer);
        Rows++;
        _exact += ExactMatch.Is(answer, reference) ? 1 : 0;
        _rouge1 += one.FMeasure;
        _rouge2 += two.FMeasure;
        _rougeL += l.FMeasure;
        _chrF.Add(answer, reference);
        _chrFPlusPlus.Add(answer, reference);
        _bleu += Bleu.Sentence(answer, reference);
        _answerLength += TextSymbols.Length(answer);
        _referenceLength += TextSymbols.Length(reference);
        _empty += string.IsNullOrWhiteSpace(answer) ? 1 : 0;
    }

    /// <summary>The metrics of the rows so far, of which there is one at least.</summary>
    /// <param name="failedRows">See <see cref="TextGenerationMetrics.FailedRows"/>.</param>
    /// <param name="rowsWithoutReference">See <see cref="TextGenerationMetrics.RowsWithoutReference"/>.</param>
    public TextGenerationMetrics Metrics(long? failedRows, long rowsWithoutReference) => new()
    {
        Rows = Rows,
        ExactMatch = (double)_exact / Rows,
        Rouge1 = _rouge1 / Rows,
        Rouge2 = _rouge2 / Rows,
        RougeL = _rougeL / Rows,
        ChrF = _chrF.Score,
        ChrFPlusPlus = _chrFPlusPlus.Score,
        Bleu4 = _bleu / Rows,
        MeanAnswerLength = (double)_answerLength / Rows,
        MeanReferenceLength = (double)_referenceLength / Rows,
        EmptyAnswers = _empty,
        FailedRows = failedRows,
        RowsWithoutReference = rowsWithoutReference,
    };
}
