using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;
using MLNetLora.Models;
using MLNetLora.Runtime;
using MLNetLora.TextGeneration;

namespace MLNetLora.Cli.Running;

/// <summary>A model as a transformer, which is what ML.NET evaluates: a base, a base with an adapter, or a model zip.</summary>
internal static class EvaluatedModel
{
    /// <summary>The column that says why a row has no answer.</summary>
    public const string ErrorColumn = "Error";

    /// <summary>Opens what the settings mean; see <see cref="AnswerSource"/>.</summary>
    public static QwenLoraTransformer Open(Screen screen, MLContext ml, SettingsReader reader, RunSettings settings)
    {
        CancellationToken cancellation = screen.Interruption.Token;
        AnswerSource source = AnswerSource.Find(screen, settings);
        (string? model, string? adapter) = source;
        if (AnsweringModel.IsZip(model) || AnsweringModel.IsZip(adapter))
        {
            return ml.TextGeneration.Load(AnsweringModel.IsZip(adapter) ? adapter! : model!, AnsweringModel.IsZip(adapter) ? model : null, Change);
        }

        if (string.IsNullOrWhiteSpace(model))
        {
            throw new ConfigException(AnsweringModel.NoModel);
        }

        string folder = ModelSource.Folder(screen, model, settings.Training.DownloadModel && !source.IsBaseOfAdapter);
        if (adapter is not null)
        {
            return ml.TextGeneration.LoadAdapter(folder, adapter, Change, downloadModel: false);
        }

        Checkpoint checkpoint = Checkpoint.Open(folder);
        QwenLoraModel alone = new(
            LoraAdapter.None(checkpoint.Folder),
            BaseModelRecord.Create(model, checkpoint, cancellation),
            checkpoint.Folder,
            settings.Training.Columns,
            settings.Training.Prompt.Or(PromptSettings.Load(checkpoint.Folder)),
            settings.Generation,
            settings.Training.WeightPrecision);
        using QwenLoraTransformer plain = new(alone, summary: null, ml);
        return plain.With(Change);

        void Change(QwenLoraTransformer.Options options)
        {
            AnsweringModel.Change(options, reader, settings);
            options.ErrorColumnName = ErrorColumn;
            options.CancellationToken = cancellation;
        }
    }
}
