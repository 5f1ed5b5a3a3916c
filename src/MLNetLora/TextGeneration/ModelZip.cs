using System.IO.Compression;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.ML;
using Microsoft.ML.Runtime;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;

namespace MLNetLora.TextGeneration;

/// <summary>The parts of a saved model: the adapter as the two files of a PEFT folder, and a JSON record of the rest. All of it is untrusted when
/// read.</summary>
internal static class ModelZip
{
    public const string RecordName = "mlnetlora.json";
    public const string AdapterConfigName = LoraAdapter.ConfigName;
    public const string AdapterWeightsName = LoraAdapter.WeightsName;

    /// <summary>1 remembered config.json and the weights alone, by their bytes; 2 has the <see cref="CheckpointFingerprint"/> too.</summary>
    private const int Format = 2;
    private const long MaximumRecordBytes = 16 << 20;

    /// <summary>The folder to which ML.NET saves a model, be it a chain or not.</summary>
    private const string ModelFolderName = "TransformerChain";

    private static readonly JsonSerializerOptions s_json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
        MaxDepth = 16,
        WriteIndented = true,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower, allowIntegerValues: false) },
    };

    /// <summary>Writes ML.NET's zip of a model. An existing file is replaced when the new one is whole and on disk, and stays as it is otherwise.</summary>
    /// <exception cref="IOException">The disk is full or the folder cannot be written.</exception>
    public static void Save(MLContext context, ITransformer model, DataViewSchema? inputSchema, string path) =>
        AtomicFile.Write(path, stream => context.Model.Save(model, inputSchema, stream));

    public static IEnumerable<(string Name, Action<Stream> Write)> Parts(QwenLoraModel model)
    {
        // A model from a zip of format 1 is saved with what that did not remember.
        BaseModelRecord baseModel = model.BaseModel.Fingerprint is not null
            ? model.BaseModel
            : BaseModelRecord.Create(model.BaseModel.Location, Checkpoint.Open(model.BaseFolder));
        ModelRecord record = new(Format, baseModel, model.Columns, model.Prompt, model.Generation, model.Precision, !model.Adapter.IsEmpty);
        yield return (RecordName, stream => JsonSerializer.Serialize(stream, record, s_json));
        if (model.Adapter.IsEmpty)
        {
            yield break;
        }

        yield return (AdapterConfigName, stream => stream.Write(Encoding.UTF8.GetBytes(model.Adapter.ToPeftConfigJson())));
        yield return (AdapterWeightsName, model.Adapter.Write);
    }

    /// <summary>Reads a zip without ML.NET, whose loaders are called by reflection and whose errors come wrapped.</summary>
    /// <param name="environment">Where the load is logged.</param>
    /// <param name="path">The zip.</param>
    /// <param name="baseFolders">Where the base checkpoint is looked for first.</param>
    public static QwenLoraTransformer Load(IHostEnvironment environment, string path, IReadOnlyList<string> baseFolders)
    {
        if (Directory.Exists(path))
        {
            throw new AdapterException(
                $"{path} is a folder, not a model zip. An adapter in a folder is loaded with ml.TextGeneration.LoadAdapter(base, folder).");
        }

        using FileStream stream = File.OpenRead(path);
        using ZipArchive archive = OpenArchive(stream, path);
        string[] records = [.. ZipParts.Entries(archive)
            .Select(entry => entry.FullName.Replace('\\', '/'))
            .Where(name => name.EndsWith($"/{RecordName}", StringComparison.Ordinal))];
        if (!records.Contains($"{ModelFolderName}/{RecordName}"))
        {
            throw new AdapterException(records.Length == 0
                ? $"{path} holds no model of this library; load it with ml.Model.Load."
                : $"{path} holds a chain of transformers; load it with ml.Model.Load, which gives all of them.");
        }

        return Load(environment, new ZipParts(archive, ModelFolderName), baseFolders);
    }

    /// <summary>Reads the parts, finds and verifies the base checkpoint; the sessions are opened when the first answer is asked for.</summary>
    /// <param name="environment">The host of the loading MLContext.</param>
    /// <param name="parts">The model's files.</param>
    /// <param name="baseFolders">Where the base checkpoint is looked for first.</param>
    public static QwenLoraTransformer Load(IHostEnvironment environment, ZipParts parts, IReadOnlyList<string> baseFolders)
    {
        ModelRecord record = ReadRecord(parts.Bytes(RecordName, MaximumRecordBytes));
        string? config = record.HasAdapter ? Encoding.UTF8.GetString(parts.Bytes(AdapterConfigName, LoraAdapter.MaximumConfigBytes)) : null;
        string baseFolder = BaseModelSearch.Find(record.Base, baseFolders);
        LoraAdapter adapter = config is null ? LoraAdapter.None(baseFolder) : ReadAdapter(parts, config, Checkpoint.Open(baseFolder));
        adapter = adapter.WithPrompt(record.Prompt.Settings);
        using (IChannel channel = environment.Start("Load"))
        {
            channel.Info(MessageSensitivity.UserData, $"The model's base checkpoint is {baseFolder}.");
            if (record.Base.Fingerprint is null)
            {
                channel.Warning(
                    MessageSensitivity.None,
                    $"The model zip has format {record.Format}, which remembers config.json and weights of the base checkpoint alone: whether tokenizer, chat "
                    + "template and generation_config.json are those of the training is not known. Save the model again.");
            }
        }

        BaseModelRecord baseModel = record.Base with { AbsolutePath = baseFolder };
        QwenLoraModel model = new(adapter, baseModel, baseFolder, record.Columns, record.Prompt, record.Generation, record.WeightPrecision);
        return new QwenLoraTransformer(model, summary: null, environment);
    }

    /// <summary>Configuration and base say how many factors there are; a file that claims more is refused before it is unpacked.</summary>
    private static LoraAdapter ReadAdapter(ZipParts parts, string config, Checkpoint checkpoint)
    {
        const string source = "the model zip";
        const long longestHeader = 100_000_000;
        (LoraOptions options, _) = PeftConfig.Read(config, $"{source}/{AdapterConfigName}", checkpoint.Architecture);
        long numbers = AdapterParts.Resolve(options, checkpoint.Architecture, checkpoint.Config, []).Tensors.Sum(tensor => tensor.Count);
        long mostBytes = (long)Int128.Min(long.MaxValue, ((Int128)numbers * sizeof(float)) + longestHeader);
        return parts.Read(AdapterWeightsName, mostBytes, (stream, length) => LoraAdapter.Read(stream, length, config, source, checkpoint));
    }

    private static ZipArchive OpenArchive(Stream stream, string path)
    {
        try
        {
            return new ZipArchive(stream, ZipArchiveMode.Read, leaveOpen: true);
        }
        catch (InvalidDataException exception)
        {
            throw new AdapterException($"{path} is not a model zip: {exception.Message}", exception);
        }
    }

    private static ModelRecord ReadRecord(byte[] json)
    {
        try
        {
            ModelRecord record = JsonSerializer.Deserialize<ModelRecord>(json, s_json) ?? throw new JsonException("it is null");
            if (record.Format is < 1 or > Format)
            {
                throw new AdapterException($"The model zip has format {record.Format}, this version of MLNetLora reads 1 to {Format}; update the package.");
            }

            record.Base.Validate();
            record.Columns.Validate();
            record.Generation.Validate();
            Text.PromptTemplate.Validate(record.Prompt.PromptTemplate);
            return record;
        }
        catch (Exception exception) when (exception is JsonException or OptionException or ConstraintException)
        {
            throw new AdapterException($"The model zip's {RecordName} cannot be used: {exception.Message}", exception);
        }
    }

    // Zips from before there was a choice have no precision, and an adapter.
    private sealed record ModelRecord(
        int Format,
        BaseModelRecord Base,
        ColumnNames Columns,
        PromptOptions Prompt,
        GenerationOptions Generation,
        WeightPrecision WeightPrecision = WeightPrecision.Checkpoint,
        bool HasAdapter = true);
}
