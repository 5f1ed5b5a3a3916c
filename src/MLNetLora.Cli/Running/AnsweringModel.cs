using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Runtime;
using MLNetLora.TextGeneration;

namespace MLNetLora.Cli.Running;

/// <summary>A model that is open for answering: a base, a base with an adapter, or a model zip.</summary>
internal sealed class AnsweringModel : IDisposable
{
    /// <summary>What is said where no model was named.</summary>
    public const string NoModel = "There is no model: give --model, the folder of a checkpoint, a hub id or a model zip.";

    private readonly QwenLoraTransformer? _zip;

    private AnsweringModel(TextGenerator engine, GenerationOptions generation, string name, QwenLoraTransformer? zip = null)
    {
        Engine = engine;
        Generation = generation;
        Name = name;
        _zip = zip;
    }

    /// <summary>What answers.</summary>
    public TextGenerator Engine { get; }

    /// <summary>How.</summary>
    public GenerationOptions Generation { get; }

    /// <summary>What people call it.</summary>
    public string Name { get; }

    /// <summary>Finds and opens what the settings mean.</summary>
    /// <param name="screen">Where is said what is to be known of it, and what ends the loading.</param>
    /// <param name="reader">What was said.</param>
    /// <param name="settings">The settings.</param>
    /// <exception cref="ConfigException">No model was given.</exception>
    public static AnsweringModel Open(Screen screen, SettingsReader reader, RunSettings settings)
    {
        AnswerSource source = AnswerSource.Find(screen, settings);
        (string? model, string? adapter) = source;
        if (IsZip(model) || IsZip(adapter))
        {
            return OpenZip(reader, settings, IsZip(adapter) ? adapter! : model!, IsZip(adapter) ? model : null);
        }

        if (string.IsNullOrWhiteSpace(model))
        {
            throw new ConfigException(NoModel);
        }

        settings.Generation.Validate();
        Checkpoint checkpoint = Checkpoint.Open(ModelSource.Folder(screen, model, settings.Training.DownloadModel && !source.IsBaseOfAdapter));
        LoraAdapter? lora = adapter is null ? null : LoraAdapter.LoadPeft(adapter, checkpoint);
        PromptSettings prompt = new(settings.Training.SystemPrompt, settings.Training.PromptTemplate, settings.Training.EnableThinking);
        TextGenerator engine = new(
            checkpoint, lora, prompt, settings.Training.Threads, settings.Training.WeightPrecision, settings.Training.Device ?? Device.Cpu,
            cancellation: screen.Interruption.Token);
        return new AnsweringModel(engine, settings.Generation, adapter is null ? model : $"{model} with {adapter}");
    }

    public void Dispose()
    {
        if (_zip is null)
        {
            Engine.Dispose();
        }
        else
        {
            _zip.Dispose();
        }
    }

    internal static bool IsZip(string? path) => path is not null && path.EndsWith(".zip", StringComparison.OrdinalIgnoreCase) && !Directory.Exists(path);

    private static AnsweringModel OpenZip(SettingsReader reader, RunSettings settings, string path, string? baseModel)
    {
        QwenLoraTransformer zip = new MLContext().TextGeneration.Load(path, baseModel, options => Change(options, reader, settings));
        return new AnsweringModel(zip.Engine, zip.Generation, path, zip);
    }

    /// <summary>Sets what was said; what nobody says stays as it was saved.</summary>
    internal static void Change(QwenLoraTransformer.Options options, SettingsReader reader, RunSettings settings)
    {
        RunSettings saved = new() { Generation = options.Generation };
        reader.Apply(saved, setting => setting.Group == SettingGroup.Answers);
        options.SystemPrompt = settings.Training.SystemPrompt ?? options.SystemPrompt;
        options.PromptTemplate = settings.Training.PromptTemplate ?? options.PromptTemplate;
        options.EnableThinking = settings.Training.EnableThinking ?? options.EnableThinking;
        bool isSaid = reader.Decisions.ContainsKey(nameof(options.WeightPrecision)) || reader.Decisions.ContainsKey(nameof(settings.Training.Precision));
        options.WeightPrecision = isSaid ? settings.Training.WeightPrecision : options.WeightPrecision;
        options.Threads = settings.Training.Threads;
        options.Device = settings.Training.Device ?? Device.Cpu;
    }
}
