using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Text;

namespace MLNetLora.Training.Planning;

/// <summary>What a process of its own is to measure: some micro-batches of a run on a part of the model. Travels as one line of JSON.</summary>
internal sealed record ProbeRequest
{
    private static readonly JsonSerializerOptions s_json = new()
    {
        Converters = { new JsonStringEnumConverter(), new TargetModulesConverter() },
        TypeInfoResolver = new DefaultJsonTypeInfoResolver { Modifiers = { OnlyPlain } },
    };

    /// <summary>Folder of the checkpoint.</summary>
    public required string Model { get; init; }

    /// <summary>How many of its layers.</summary>
    public required int Layers { get; init; }

    /// <summary>The shape of the adapter; null trains every weight.</summary>
    public required LoraOptions? Lora { get; init; }

    /// <summary>Whether the numbers of the adapter come from a file, so that nothing is drawn or decomposed for them.</summary>
    public bool HasInitial { get; init; }

    /// <summary>The loop's options; on the processor.</summary>
    public required TrainingOptions Training { get; init; }

    /// <summary>How the graphs of the whole run are cut.</summary>
    public required ChunkPlan Plan { get; init; }

    /// <summary>Tokens of the longest sequence.</summary>
    public required int Longest { get; init; }

    /// <summary>The first sequences of the run, which 8-bit weights are calibrated with.</summary>
    public required IReadOnlyList<TrainingRow[]> First { get; init; }

    /// <summary>The micro-batches, each of some sequences.</summary>
    public required IReadOnlyList<TrainingRow[][]> Batches { get; init; }

    /// <summary>A micro-batch of validation rows; empty where the run has none.</summary>
    public IReadOnlyList<TrainingRow> Validation { get; init; } = [];

    /// <summary>How often each micro-batch is timed, after once for warmth; 0: that once alone, where it is long.</summary>
    public int Rounds { get; init; } = 2;

    /// <summary>The request as one line.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, s_json);

    /// <summary>Reads <see cref="ToJson"/>.</summary>
    public static ProbeRequest Parse(string json) =>
        JsonSerializer.Deserialize<ProbeRequest>(json, s_json) ?? throw new ArgumentException("There is no request.", nameof(json));

    /// <summary>Of the options what can be written: callbacks and devices stay where they are.</summary>
    private static void OnlyPlain(JsonTypeInfo type)
    {
        if (!typeof(TrainingOptions).IsAssignableFrom(type.Type))
        {
            return;
        }

        for (int i = type.Properties.Count - 1; i >= 0; i--)
        {
            Type property = Nullable.GetUnderlyingType(type.Properties[i].PropertyType) ?? type.Properties[i].PropertyType;
            if (!property.IsPrimitive && !property.IsEnum && property != typeof(string))
            {
                type.Properties.RemoveAt(i);
            }
        }
    }

    /// <summary>A list of names, or a string: as in adapter_config.json.</summary>
    private sealed class TargetModulesConverter : JsonConverter<TargetModules>
    {
        public override TargetModules Read(ref Utf8JsonReader reader, Type type, JsonSerializerOptions options) =>
            reader.TokenType == JsonTokenType.String ? reader.GetString()! : JsonSerializer.Deserialize<string[]>(ref reader, options)!;

        public override void Write(Utf8JsonWriter writer, TargetModules value, JsonSerializerOptions options)
        {
            if (value.Pattern is { } pattern)
            {
                writer.WriteStringValue(pattern);
            }
            else
            {
                JsonSerializer.Serialize(writer, value.ToArray(), options);
            }
        }
    }
}
