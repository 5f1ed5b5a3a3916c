using Microsoft.ML.Runtime;
using MLNetLora;
using MLNetLora.Evaluation;
using MLNetLora.TextGeneration;

namespace Microsoft.ML;

// How good a model is.
public sealed partial class TextGenerationCatalog
{
    /// <summary>Scores the answers of a transformed view against the answers that its rows should have.</summary>
    /// <remarks>
    /// One pass, in which the answers are generated; no text is kept. Thinking at the head of a reference (<c>&lt;think&gt;…&lt;/think&gt;</c>) is left out, as
    /// it is of answers. Rows without a reference are counted, not scored, and told in <c>MLContext.Log</c>. What each number means: docs/evaluation.md.
    /// </remarks>
    /// <param name="data">Rows that a transformer answered: <c>model.Transform(rows)</c>.</param>
    /// <param name="labelColumnName">Text column with the reference. The default one may be absent where there are conversations.</param>
    /// <param name="predictedColumnName">Text column with the answer.</param>
    /// <param name="conversationColumnName">Text column with a conversation, whose last answer is the reference where the label's column has none; null for
    /// none. The default one may be absent.</param>
    /// <param name="errorColumnName">The text column of <see cref="QwenLoraTransformer.Options.ErrorColumnName"/>, to count rows that could not be answered;
    /// null for none.</param>
    /// <param name="rougeTokenizer">What ROUGE takes for a word.</param>
    /// <returns>The metrics.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A column is missing or is not text; the message names it.</exception>
    /// <exception cref="DatasetException">There are no rows, none has a reference, or a conversation is not valid; the message names the row.</exception>
    public TextGenerationMetrics Evaluate(
        IDataView data,
        string labelColumnName = ColumnNames.DefaultOutput,
        string predictedColumnName = ColumnNames.DefaultAnswer,
        string? conversationColumnName = ColumnNames.DefaultConversation,
        string? errorColumnName = null,
        RougeTokenizer rougeTokenizer = RougeTokenizer.Unicode)
    {
        ArgumentNullException.ThrowIfNull(data);
        return Score(Scoring(labelColumnName, predictedColumnName, conversationColumnName, errorColumnName, rougeTokenizer), data);
    }

    /// <summary>Trains a model for each fold on the other folds, and scores its answers on the fold.</summary>
    /// <remarks>
    /// <para>Costs as much as so many trainings. The folds are those of <c>ml.Data.CrossValidationSplit</c>. The models come as the trainer leaves them, each
    /// with its adapter in memory; a model's engine, which is far larger, is closed when its fold was scored and opened again when an answer is asked
    /// for, so that one is open at a time. The caller disposes the models (<c>result.Model</c> is <see cref="IDisposable"/>); when a fold fails,
    /// those before it are disposed here.</para>
    /// <para>Scored hold-out sets are lazy, as everywhere in ML.NET: reading their answers generates them again. Means over the folds are the caller's:
    /// <c>results.Average(result => result.Metrics.RougeL)</c>.</para>
    /// </remarks>
    /// <param name="data">The rows.</param>
    /// <param name="estimator">A trainer, or a pipeline with one.</param>
    /// <param name="numberOfFolds">How many folds, 2 or more.</param>
    /// <param name="labelColumnName">See <see cref="Evaluate"/>.</param>
    /// <param name="predictedColumnName">See <see cref="Evaluate"/>.</param>
    /// <param name="conversationColumnName">See <see cref="Evaluate"/>.</param>
    /// <param name="errorColumnName">See <see cref="Evaluate"/>.</param>
    /// <param name="rougeTokenizer">See <see cref="Evaluate"/>.</param>
    /// <param name="samplingKeyColumnName">Rows of the same value here stay together, such as questions about one document; null splits rows.</param>
    /// <param name="seed">Which rows go together; null for ML.NET's default.</param>
    /// <returns>Model, metrics and scored rows of each fold.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="numberOfFolds"/> is less than 2, or a column is missing or is not text.</exception>
    /// <exception cref="OptionException">A trainer has a folder to write to or to go on from, which is one run's: training every weight needs
    /// one.</exception>
    /// <exception cref="DatasetException">A fold has no row with a reference.</exception>
    /// <exception cref="OperationCanceledException">A training was cancelled.</exception>
    public IReadOnlyList<TrainCatalogBase.CrossValidationResult<TextGenerationMetrics>> CrossValidate(
        IDataView data,
        IEstimator<ITransformer> estimator,
        int numberOfFolds = 5,
        string labelColumnName = ColumnNames.DefaultOutput,
        string predictedColumnName = ColumnNames.DefaultAnswer,
        string? conversationColumnName = ColumnNames.DefaultConversation,
        string? errorColumnName = null,
        RougeTokenizer rougeTokenizer = RougeTokenizer.Unicode,
        string? samplingKeyColumnName = null,
        int? seed = null)
    {
        ArgumentNullException.ThrowIfNull(data);
        ArgumentNullException.ThrowIfNull(estimator);
        ArgumentOutOfRangeException.ThrowIfLessThan(numberOfFolds, 2);
        AnswerScoring scoring = Scoring(labelColumnName, predictedColumnName, conversationColumnName, errorColumnName, rougeTokenizer);
        // A wrong name or an empty fold is told before hours of training.
        scoring.References(data.Schema);
        scoring.RequireAnswers(TextColumns.Of(CrossValidation.OutputSchema(estimator, MLNetInternals.Shape(data.Schema))));
        IReadOnlyList<DataOperationsCatalog.TrainTestData> folds =
            _context.Data.CrossValidationSplit(data, numberOfFolds, samplingKeyColumnName, seed);
        int empty = folds.ToList().FindIndex(fold => !scoring.HasReference(fold.TestSet));
        return empty < 0
            ? CrossValidation.Run(folds, estimator, scored => Score(scoring, scored))
            : throw new DatasetException($"Fold {empty} of {numberOfFolds} has no row with a reference to score answers by. Take fewer folds, more rows or "
                + "another seed.");
    }

    private TextGenerationMetrics Score(AnswerScoring scoring, IDataView data)
    {
        TextGenerationMetrics metrics = scoring.Run(data);
        if (metrics.RowsWithoutReference > 0)
        {
            using IChannel channel = ((IChannelProvider)_context).Start(nameof(Evaluate));
            channel.Warning(MessageSensitivity.None, FormattableString.Invariant(
                $"{metrics.RowsWithoutReference} rows have no reference to compare their answers with; {metrics.Rows} were scored."));
        }

        return metrics;
    }

    private static AnswerScoring Scoring(string label, string predicted, string? conversation, string? error, RougeTokenizer tokenizer)
    {
        ArgumentException.ThrowIfNullOrEmpty(label, "labelColumnName");
        ArgumentException.ThrowIfNullOrEmpty(predicted, "predictedColumnName");
        Require.Defined(tokenizer, "rougeTokenizer");
        return new AnswerScoring(predicted, label, OrNull(conversation), OrNull(error), tokenizer);

        static string? OrNull(string? name) => string.IsNullOrEmpty(name) ? null : name;
    }
}
