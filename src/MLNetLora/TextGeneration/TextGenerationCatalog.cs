using MLNetLora;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace Microsoft.ML;

/// <summary>Makes text generation a task of the MLContext, beside regression, ranking and the others.</summary>
public static class TextGenerationExtensions
{
    /// <summary>Adds <c>ml.TextGeneration</c>.</summary>
    extension(MLContext context)
    {
        /// <summary>Trainers and settings for text generation with Qwen.</summary>
        public TextGenerationCatalog TextGeneration => new(context);
    }
}

/// <summary>Trainers and settings for text generation; reached as <c>ml.TextGeneration</c>.</summary>
public sealed class TextGenerationCatalog
{
    private readonly MLContext _context;

    internal TextGenerationCatalog(MLContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        _context = context;
        Trainers = new TextGenerationTrainers(context);
    }

    /// <summary>The trainers.</summary>
    public TextGenerationTrainers Trainers { get; }

    /// <summary>
    /// Says where <c>ml.Model.Load</c> of this MLContext looks first for base checkpoints, before the environment variable MLNETLORA_BASE_MODEL and the recorded location.
    /// May be called several times, for models with several bases: a folder is taken only for models that were trained on exactly that checkpoint.
    /// </summary>
    /// <param name="folder">A checkpoint folder, or a hub id that the Hugging Face cache of this machine holds.</param>
    public void UseBaseModel(string folder)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(folder);
        ContextSettings settings = ContextSettings.Of(_context);
        lock (settings)
        {
            settings.BaseFolders = [.. settings.BaseFolders, ModelFolder.IsHubId(folder) && !Directory.Exists(folder) ? folder : Path.GetFullPath(folder)];
        }
    }
}

/// <summary>The trainers for text generation; reached as <c>ml.TextGeneration.Trainers</c>.</summary>
public sealed class TextGenerationTrainers
{
    private readonly MLContext _context;

    internal TextGenerationTrainers(MLContext context) => _context = context;

    /// <summary>Fine-tunes a Qwen checkpoint with LoRA; the other overload has every option.</summary>
    /// <param name="modelPath">The base checkpoint: a Hugging Face folder, or a hub id that the Hugging Face cache of this machine already holds.</param>
    /// <param name="rank">Rank r of the LoRA factors.</param>
    /// <param name="alpha">The adapter's output is scaled by alpha / rank.</param>
    /// <param name="dropout">Share of the adapter's inputs zeroed in training.</param>
    /// <param name="numberOfEpochs">Passes over the rows.</param>
    /// <param name="learningRate">Peak learning rate.</param>
    /// <param name="maximumSequenceLength">Most tokens of a training row.</param>
    /// <param name="instructionColumnName">Text column with what is asked.</param>
    /// <param name="inputColumnName">Text column with what it is asked about; the default one may be absent from the data.</param>
    /// <param name="outputColumnName">Text column with the answer to learn.</param>
    /// <param name="answerColumnName">Text column that the transformer adds.</param>
    /// <param name="validationSet">Rows whose loss is measured during training.</param>
    /// <returns>The trainer; nothing is read or trained before <see cref="QwenLoraTrainer.Fit"/>.</returns>
    /// <exception cref="OptionException">An argument makes no sense; the message names it.</exception>
    public QwenLoraTrainer QwenLora(string modelPath, int rank = LoraOptions.DefaultRank, double alpha = LoraOptions.DefaultAlpha, double dropout = LoraOptions.DefaultDropout,
        int numberOfEpochs = TrainingOptions.DefaultNumberOfEpochs, double learningRate = TrainingOptions.DefaultLearningRate,
        int maximumSequenceLength = QwenLoraTrainer.Options.DefaultMaximumSequenceLength, string instructionColumnName = ColumnNames.DefaultInstruction, string? inputColumnName = ColumnNames.DefaultInput,
        string outputColumnName = ColumnNames.DefaultOutput, string answerColumnName = ColumnNames.DefaultAnswer, IDataView? validationSet = null) =>
        QwenLora(new QwenLoraTrainer.Options
        {
            ModelPath = modelPath,
            Rank = rank,
            Alpha = alpha,
            Dropout = dropout,
            NumberOfEpochs = numberOfEpochs,
            LearningRate = learningRate,
            MaximumSequenceLength = maximumSequenceLength,
            InstructionColumnName = instructionColumnName,
            InputColumnName = inputColumnName,
            OutputColumnName = outputColumnName,
            AnswerColumnName = answerColumnName,
            ValidationSet = validationSet,
        });

    /// <summary>Fine-tunes a Qwen checkpoint with LoRA.</summary>
    /// <param name="options">Every option; copied, so that later changes have no effect.</param>
    /// <returns>The trainer; nothing is read or trained before <see cref="QwenLoraTrainer.Fit"/>.</returns>
    /// <exception cref="OptionException">An option makes no sense; the message names it.</exception>
    public QwenLoraTrainer QwenLora(QwenLoraTrainer.Options options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return new QwenLoraTrainer(_context, options);
    }
}
