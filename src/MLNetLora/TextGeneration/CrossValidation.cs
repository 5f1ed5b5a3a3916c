using Microsoft.ML;
using Microsoft.ML.Data;
using static Microsoft.ML.DataOperationsCatalog;
using static Microsoft.ML.TrainCatalogBase;

namespace MLNetLora.TextGeneration;

/// <summary>Trains and scores fold by fold.</summary>
internal static class CrossValidation
{
    /// <summary>Runs it; when a fold fails, the models before it are disposed.</summary>
    /// <param name="folds">Rows to train on and to score.</param>
    /// <param name="estimator">What is fitted.</param>
    /// <param name="score">Scores the rows that a model answered.</param>
    public static IReadOnlyList<CrossValidationResult<TMetrics>> Run<TMetrics>(
        IReadOnlyList<TrainTestData> folds, IEstimator<ITransformer> estimator, Func<IDataView, TMetrics> score)
        where TMetrics : class
    {
        List<CrossValidationResult<TMetrics>> results = [];
        ITransformer? model = null;
        try
        {
            foreach ((int fold, TrainTestData rows) in folds.Index())
            {
                model = estimator.Fit(rows.TrainSet);
                QwenLoraTransformer[] parts = [.. Parts(model)];
                if (parts.Any(part => part.TrainingSummary is { WasCancelled: true }))
                {
                    // Some of its steps would be scored as if they were all.
                    throw new OperationCanceledException($"The training of fold {fold} was cancelled.");
                }

                IDataView scored = model.Transform(rows.TestSet);
                TMetrics metrics = score(scored);
                Array.ForEach(parts, part => part.CloseEngine());
                results.Add(MLNetInternals.Result(model, metrics, scored, fold));
                model = null;
            }

            return results;
        }
        catch
        {
            (model as IDisposable)?.Dispose();
            results.ForEach(result => (result.Model as IDisposable)?.Dispose());
            throw;
        }
    }

    private static IEnumerable<QwenLoraTransformer> Parts(ITransformer model) => model switch
    {
        QwenLoraTransformer transformer => [transformer],
        IEnumerable<ITransformer> chain => chain.SelectMany(Parts),
        _ => [],
    };
}
