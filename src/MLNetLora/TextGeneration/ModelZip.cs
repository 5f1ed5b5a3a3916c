using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.ML.Runtime;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;

namespace MLNetLora.TextGeneration;

/// <summary>Everything that a transformer is made of.</summary>
/// <param name="Adapter">The trained LoRA factors.</param>
/// <param name="BaseModel">What is remembered of the base checkpoint.</param>
/// <param name="BaseFolder">Where the base checkpoint is now.</param>
/// <param name="Columns">Names of the columns.</param>
/// <param name="Prompt">How rows become prompts.</param>
/// <param name="Generation">How answers are generated.</param>
/// <param name="Precision">How the base's weights are held while answers are generated.</param>
internal sealed record QwenLoraModel(
    LoraAdapter Adapter,
    BaseModelRecord BaseModel,
    string BaseFolder,
    ColumnNames Columns,
    PromptOptions Prompt,
    GenerationOptions Generation,
    WeightPrecision Precision)
{
    /// <summary>Opens base and adapter for generation; takes long, holds native memory.</summary>
    public TextGenerator Open() => new(Checkpoint.Open(BaseFolder), Adapter, Prompt.Settings, precision: Precision);
}

/// <summary>The parts of a saved model: the adapter as the two files of a PEFT folder, and a JSON record of the rest. All of it is untrusted when read.</summary>
internal static class ModelZip
{
    public const string RecordName = "mlnetlora.json";
    public const string AdapterConfigName = "adapter_config.json";
    public const string AdapterWeightsName = "adapter_model.safetensors";

    /// <summary>1 remembered config.json and the weights alone, by their bytes; 2 has the <see cref="CheckpointFingerprint"/> too.</summary>
    private const int Format = 2;
    private const long MaximumJsonBytes = 16 << 20;
    private const long MaximumAdapterBytes = 2_000_000_000;

    private static readonly JsonSerializerOptions s_json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
        MaxDepth = 16,
        WriteIndented = true,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower, allowIntegerValues: false) },
    };

    public static IEnumerable<(string Name, byte[] Content)> Parts(QwenLoraModel model)
    {
        // A model from a zip of format 1 is saved with what that did not remember.
        BaseModelRecord baseModel = model.BaseModel.Fingerprint is not null ? model.BaseModel
            : BaseModelRecord.Create(model.BaseModel.Location, Checkpoint.Open(model.BaseFolder));
        ModelRecord record = new(Format, baseModel, model.Columns, model.Prompt, model.Generation, model.Precision);
        yield return (RecordName, JsonSerializer.SerializeToUtf8Bytes(record, s_json));
        yield return (AdapterConfigName, Encoding.UTF8.GetBytes(model.Adapter.ToPeftConfigJson()));
        yield return (AdapterWeightsName, model.Adapter.ToSafetensors());
    }

    /// <summary>Reads the parts, finds and verifies the base checkpoint; the sessions are opened when the first answer is asked for.</summary>
    /// <param name="environment">The host of the loading MLContext.</param>
    /// <param name="readPart">Returns a part of at most so many bytes, or throws.</param>
    public static QwenLoraTransformer Load(IHostEnvironment environment, Func<string, long, byte[]> readPart)
    {
        ModelRecord record = ReadRecord(readPart(RecordName, MaximumJsonBytes));
        byte[] weights = readPart(AdapterWeightsName, MaximumAdapterBytes);
        string config = Encoding.UTF8.GetString(readPart(AdapterConfigName, MaximumJsonBytes));

        ContextSettings settings = ContextSettings.Of(environment);
        string baseFolder = BaseModelSearch.Find(record.Base, settings.BaseFolders);
        LoraAdapter adapter = LoraAdapter.FromPeft(weights, config, "the model zip", Checkpoint.Open(baseFolder)).WithPrompt(record.Prompt.Settings);
        using (IChannel channel = environment.Start("Load"))
        {
            channel.Info(MessageSensitivity.UserData, $"The model's base checkpoint is {baseFolder}.");
            if (record.Base.Fingerprint is null)
            {
                channel.Warning(
                    MessageSensitivity.None,
                    $"The model zip has format {record.Format}, which remembers config.json and weights of the base checkpoint alone: whether tokenizer, chat template and "
                    + "generation_config.json are those of the training is not known. Save the model again.");
            }
        }

        BaseModelRecord baseModel = record.Base with { AbsolutePath = baseFolder };
        QwenLoraModel model = new(adapter, baseModel, baseFolder, record.Columns, record.Prompt, record.Generation, record.WeightPrecision);
        return new QwenLoraTransformer(model, summary: null);
    }

    private static ModelRecord ReadRecord(byte[] json)
    {
        try
        {
            ModelRecord record = JsonSerializer.Deserialize<ModelRecord>(json, s_json) ?? throw new JsonException("it is null");
            if (record.Format > Format)
            {
                throw new AdapterException($"The model zip has format {record.Format}, this version of MLNetLora reads up to {Format}; update the package.");
            }

            record.Base.Validate();
            record.Columns.Validate();
            record.Generation.Validate();
            return record;
        }
        catch (Exception exception) when (exception is JsonException or OptionException)
        {
            throw new AdapterException($"The model zip's {RecordName} cannot be used: {exception.Message}", exception);
        }
    }

    // Zips from before there was a choice have no precision.
    private sealed record ModelRecord(
        int Format,
        BaseModelRecord Base,
        ColumnNames Columns,
        PromptOptions Prompt,
        GenerationOptions Generation,
        WeightPrecision WeightPrecision = WeightPrecision.Checkpoint);
}
