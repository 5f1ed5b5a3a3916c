using Microsoft.ML;
using Microsoft.ML.Data;
using static Microsoft.ML.DataOperationsCatalog;
using static Microsoft.ML.TrainCatalogBase;

namespace MLNetLora.TextGeneration;

/// <summary>Trains and scores fold by fold.</summary>
internal static class CrossValidation
{
    private static readonly AsyncLocal<bool> s_isAsked = new();

    /// <summary>What an estimator adds to the columns of a view, where every trainer in it may be fitted to several folds.</summary>
    /// <param name="estimator">A trainer, or whatever has one inside and asks it for its columns, as a pipeline does.</param>
    /// <param name="input">The columns of the rows.</param>
    /// <exception cref="OptionException">A trainer has a folder, which is one run's.</exception>
    public static SchemaShape OutputSchema(IEstimator<ITransformer> estimator, SchemaShape input)
    {
        s_isAsked.Value = true;
        try
        {
            return estimator.GetOutputSchema(input);
        }
        finally
        {
            s_isAsked.Value = false;
        }
    }

    /// <summary>Called by a trainer that is asked for its columns: refuses a folder where it would be that of several runs.</summary>
    public static void RequireNoFolder(string? folder)
    {
        if (s_isAsked.Value && folder is not null)
        {
            throw new OptionException($"{nameof(QwenLoraTrainer.Options.OutputFolder)} or {nameof(QwenLoraTrainer.Options.ResumeFrom)} is {folder}, which is "
                + "one run's, and every fold is a run. Set both to null, or train and evaluate on the folds of ml.Data.CrossValidationSplit one by one.");
        }
    }

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
