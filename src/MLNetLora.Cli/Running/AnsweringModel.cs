using System.Text.Json;
using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Cli.Configuration;
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
    /// <param name="reader">What was said.</param>
    /// <param name="settings">The settings.</param>
    /// <param name="cancellation">Ends the loading.</param>
    /// <exception cref="ConfigException">No model was given.</exception>
    public static AnsweringModel Open(SettingsReader reader, RunSettings settings, CancellationToken cancellation)
    {
        (string? model, string? adapter) = Find(settings);
        if (IsZip(model) || IsZip(adapter))
        {
            return OpenZip(reader, settings, IsZip(adapter) ? adapter! : model!, IsZip(adapter) ? model : null);
        }

        if (string.IsNullOrWhiteSpace(model))
        {
            throw new ConfigException(NoModel);
        }

        settings.Generation.Validate();
        Checkpoint checkpoint = Checkpoint.Open(ModelFolder.Find(model));
        LoraAdapter? lora = adapter is null ? null : LoraAdapter.LoadPeft(adapter, checkpoint);
        PromptSettings prompt = new(settings.Training.SystemPrompt, settings.Training.PromptTemplate, settings.Training.EnableThinking);
        TextGenerator engine = new(
            checkpoint, lora, prompt, settings.Training.Threads, settings.Training.WeightPrecision, settings.Training.Device ?? Device.Cpu, cancellation);
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

    /// <summary>Base and adapter: what was named, else what a training left in its output folder; of an adapter alone, the base that it names.</summary>
    internal static (string? Model, string? Adapter) Find(RunSettings settings)
    {
        string? model = settings.Training.ModelPath is { Length: > 0 } path ? path : null;
        string? adapter = settings.Adapter;
        if (adapter is null && settings.Output is { } output)
        {
            if (settings.Training.Method == FineTuningMethod.Full && Directory.Exists(TrainingRun.ModelIn(output)))
            {
                model = TrainingRun.ModelIn(output);
            }
            else if (File.Exists(Path.Combine(TrainingRun.AdapterIn(output), LoraAdapter.ConfigName)))
            {
                adapter = TrainingRun.AdapterIn(output);
            }
        }

        bool isAdapter = model is not null && adapter is null && File.Exists(Path.Combine(model, LoraAdapter.ConfigName))
            && !File.Exists(Path.Combine(model, QwenConfig.FileName));
        (model, adapter) = isAdapter ? (null, model) : (model, adapter);
        return (model ?? (adapter is null || IsZip(adapter) ? null : BaseOf(adapter)), adapter);
    }

    /// <summary>The base that an adapter's file names.</summary>
    private static string BaseOf(string adapter)
    {
        string path = Path.Combine(adapter, LoraAdapter.ConfigName);
        try
        {
            using JsonDocument document = JsonDocument.Parse(
                BoundedFile.Read(path, LoraAdapter.MaximumConfigBytes) ?? throw new AdapterException($"{path} is too long for an adapter's configuration."));
            return document.RootElement.ValueKind == JsonValueKind.Object
                && document.RootElement.TryGetProperty("base_model_name_or_path", out JsonElement name) && name.GetString() is { Length: > 0 } text
                ? text
                : throw new ConfigException($"{path} does not say what its base is; give it with --model.");
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException or InvalidOperationException)
        {
            throw new AdapterException($"The adapter {adapter} cannot be read: {e.Message}", e);
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
