using System.Runtime.CompilerServices;
using Microsoft.ML;
using Microsoft.ML.Runtime;
using MLNetLora;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace Microsoft.ML;

/// <summary>Makes text generation a task of the MLContext, beside regression, ranking and the others.</summary>
public static class TextGenerationExtensions
{
    /// <summary>Adds <c>ml.TextGeneration</c>.</summary>
    extension(MLContext context)
    {
        /// <summary>Trainers, models and settings for text generation with Qwen.</summary>
        public TextGenerationCatalog TextGeneration => new(context);
    }
}

/// <summary>Trainers, models and settings for text generation; reached as <c>ml.TextGeneration</c>.</summary>
public sealed partial class TextGenerationCatalog
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

    /// <summary>Makes a transformer of a base checkpoint and a LoRA adapter in PEFT's format, whoever trained it; nothing is trained.</summary>
    /// <remarks>An adapter of this library remembers system message, prompt template and thinking; for one of PEFT say them in
    /// <paramref name="change"/> where it was trained with any.</remarks>
    /// <param name="baseModel">The base checkpoint: a Hugging Face folder, or a hub id that the Hugging Face cache of this machine already holds.</param>
    /// <param name="peftFolder">The folder with adapter_config.json and adapter_model.safetensors.</param>
    /// <param name="change">Changes column names, generation options, weight precision and the rest; null leaves the defaults. The device is the GPU that
    /// <see cref="MLContext.GpuDeviceId"/> names, if it names one, else the processor.</param>
    /// <returns>The transformer, to be disposed by the caller; the engine opens when the first answer is asked for.</returns>
    /// <exception cref="CheckpointException">The base checkpoint cannot be used.</exception>
    /// <exception cref="AdapterException">The adapter cannot be used, or was made for another base.</exception>
    /// <exception cref="OptionException">An option makes no sense; the message names it.</exception>
    /// <exception cref="DeviceException">The MLContext's GPU cannot be used, and it does not allow <see cref="MLContext.FallbackToCpu"/>.</exception>
    public QwenLoraTransformer LoadAdapter(string baseModel, string peftFolder, Action<QwenLoraTransformer.Options>? change = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(baseModel);
        ArgumentException.ThrowIfNullOrWhiteSpace(peftFolder);
        Checkpoint checkpoint = Checkpoint.Open(ModelFolder.Find(baseModel));
        LoraAdapter adapter = LoraAdapter.LoadPeft(peftFolder, checkpoint);
        using (IChannel channel = ((IChannelProvider)_context).Start(nameof(LoadAdapter)))
        {
            foreach (string warning in adapter.Warnings)
            {
                channel.Warning(MessageSensitivity.UserData, $"{peftFolder}: {warning}");
            }
        }

        QwenLoraTrainer.Options defaults = new();
        PromptOptions prompt = defaults.Prompt.With(adapter.Prompt);
        BaseModelRecord record = BaseModelRecord.Create(baseModel, checkpoint);
        QwenLoraModel model = new(adapter, record, checkpoint.Folder, defaults.Columns, prompt, defaults.Generation, defaults.WeightPrecision);
        return Changed(new QwenLoraTransformer(model, summary: null, _context), change);
    }

    /// <summary>Loads a model that <see cref="QwenLoraTransformer.Save"/> or <c>ml.Model.Save</c> wrote, and finds and verifies its base checkpoint.</summary>
    /// <remarks>
    /// As <c>ml.Model.Load</c>, with options, and with errors as they are: ML.NET calls loaders by reflection, so there they come wrapped in a
    /// <see cref="System.Reflection.TargetInvocationException"/>. Chains of several transformers are ML.NET's to load.
    /// </remarks>
    /// <param name="path">The zip; it is not trusted.</param>
    /// <param name="baseModel">Where the base checkpoint is, looked at first: a folder or a hub id; null looks where <see cref="UseBaseModel"/> says
    /// and where it was at training.</param>
    /// <param name="change">Changes column names, generation options, weight precision and the rest; null leaves what was saved. The device is not saved: it is
    /// the GPU that <see cref="MLContext.GpuDeviceId"/> names, if it names one, else the processor.</param>
    /// <returns>The transformer, to be disposed by the caller; the engine opens when the first answer is asked for.</returns>
    /// <exception cref="CheckpointException">The base checkpoint was not found, or is not the one of the training; the message says what differs.</exception>
    /// <exception cref="AdapterException">The zip is damaged or is no model of this library.</exception>
    /// <exception cref="OptionException">An option makes no sense; the message names it.</exception>
    /// <exception cref="DeviceException">The MLContext's GPU cannot be used, and it does not allow <see cref="MLContext.FallbackToCpu"/>.</exception>
    public QwenLoraTransformer Load(string path, string? baseModel = null, Action<QwenLoraTransformer.Options>? change = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(path);
        IReadOnlyList<string> folders = ContextSettings.Of(_context).BaseFolders;
        return Changed(ModelZip.Load(_context, path, baseModel is null ? folders : [baseModel, .. folders]), change);
    }

    /// <summary>Saves any model as <c>ml.Model.Save</c> does, a chain for instance, but replaces a file that is there already only when the new one
    /// is whole and on disk.</summary>
    /// <param name="model">The model.</param>
    /// <param name="inputSchema">The schema of its rows; null where it is not known.</param>
    /// <param name="path">The zip.</param>
    /// <exception cref="IOException">The disk is full, or the folder cannot be written; the old file is as it was.</exception>
    public void Save(ITransformer model, DataViewSchema? inputSchema, string path)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentException.ThrowIfNullOrWhiteSpace(path);
        ModelZip.Save(_context, model, inputSchema, path);
    }

    /// <summary>
    /// Says where <c>ml.Model.Load</c> of this MLContext looks first for base checkpoints, before the environment variable MLNETLORA_BASE_MODEL and
    /// the recorded location.
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

    /// <summary>The model with what is asked for, on the GPU that the MLContext names where nothing else is asked for.</summary>
    private QwenLoraTransformer Changed(QwenLoraTransformer model, Action<QwenLoraTransformer.Options>? change)
    {
        DeviceChoice choice = DeviceChoice.Of(_context, asked: null);
        QwenLoraTransformer changed;
        using (model) // it lets go of an engine that was never opened
        {
            changed = model.With(options =>
            {
                options.Device = choice.Device;
                change?.Invoke(options);
            });
        }

        try
        {
            if (!ReferenceEquals(changed.Model.Device, choice.Device) || choice.Usable(Require, Warn) is var device && device == choice.Device)
            {
                return changed;
            }

            using (changed)
            {
                return changed.With(options => options.Device = device);
            }
        }
        catch
        {
            changed.Dispose();
            throw;
        }

        void Require(Device device)
        {
            Checkpoint checkpoint = Checkpoint.Open(changed.Model.BaseFolder);
            if (CausalLanguageModel.Refusal(device, checkpoint, changed.Model.Precision) is { } refusal)
            {
                throw new OptionException(refusal);
            }
        }

        void Warn(string warning)
        {
            using IChannel channel = ((IChannelProvider)_context).Start(nameof(Load));
            channel.Warning(MessageSensitivity.UserData, warning);
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
    public QwenLoraTrainer QwenLora(
        string modelPath,
        int rank = LoraOptions.DefaultRank,
        double alpha = LoraOptions.DefaultAlpha,
        double dropout = LoraOptions.DefaultDropout,
        int numberOfEpochs = TrainingOptions.DefaultNumberOfEpochs,
        double learningRate = TrainingOptions.DefaultLearningRate,
        int maximumSequenceLength = QwenLoraTrainer.Options.DefaultMaximumSequenceLength,
        string instructionColumnName = ColumnNames.DefaultInstruction,
        string? inputColumnName = ColumnNames.DefaultInput,
        string outputColumnName = ColumnNames.DefaultOutput,
        string answerColumnName = ColumnNames.DefaultAnswer,
        IDataView? validationSet = null) =>
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

/// <summary>What this library remembers per MLContext.</summary>
/// <remarks>ML.NET hands loaders a host made from the context, not the context; the component catalog is what both share, so it is the key.</remarks>
internal sealed class ContextSettings
{
    private static readonly ConditionalWeakTable<ComponentCatalog, ContextSettings> s_settings = [];

    /// <summary>Folders and hub ids where base checkpoints of loaded models are looked for first; replaced as a whole, so that readers need no lock.</summary>
    public IReadOnlyList<string> BaseFolders { get; set; } = [];

    public static ContextSettings Of(IHostEnvironment environment) => s_settings.GetOrCreateValue(environment.ComponentCatalog);
}
