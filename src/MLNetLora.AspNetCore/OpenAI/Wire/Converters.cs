using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>A string, or several.</summary>
internal sealed class StopConverter : JsonConverter<IReadOnlyList<string>>
{
    private const string Expected = "a string or an array of strings";

    public override IReadOnlyList<string> Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        if (reader.TokenType == JsonTokenType.String)
        {
            return [reader.GetString()!];
        }

        if (reader.TokenType != JsonTokenType.StartArray)
        {
            throw new WireTypeException(Expected);
        }

        List<string> strings = [];
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            strings.Add(reader.TokenType == JsonTokenType.String ? reader.GetString()! : throw new WireTypeException(Expected));
        }

        return strings;
    }

    public override void Write(Utf8JsonWriter writer, IReadOnlyList<string> value, JsonSerializerOptions options) => throw new NotSupportedException();
}

/// <summary>A message's content: a string, or parts.</summary>
internal sealed class ContentConverter : JsonConverter<MessageContent>
{
    private const string Expected = "a string or an array of content parts";

    public override MessageContent Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        if (reader.TokenType == JsonTokenType.String)
        {
            return new MessageContent(reader.GetString(), null);
        }

        if (reader.TokenType != JsonTokenType.StartArray)
        {
            throw new WireTypeException(Expected);
        }

        List<ContentPart> parts = [];
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.StartObject)
            {
                throw new WireTypeException(Expected);
            }

            try
            {
                parts.Add(JsonSerializer.Deserialize(ref reader, WireJson.Instance.ContentPart)!);
            }
            catch (JsonException error)
            {
                throw new WirePartException(parts.Count, error, WireJson.Instance.ContentPart);
            }
        }

        return new MessageContent(null, parts);
    }

    public override void Write(Utf8JsonWriter writer, MessageContent value, JsonSerializerOptions options) => throw new NotSupportedException();
}

/// <summary>Something is wrong within an item that is read apart, whose path begins anew.</summary>
/// <param name="index">Which item.</param>
/// <param name="error">What is wrong.</param>
/// <param name="type">What the item is.</param>
internal sealed class WirePartException(int index, JsonException error, JsonTypeInfo type) : JsonException(error.Message)
{
    /// <summary>Which item.</summary>
    public int Index => index;

    /// <summary>What is wrong, with its path in the item.</summary>
    public JsonException Error => error;

    /// <summary>What the item is.</summary>
    public JsonTypeInfo Type => type;
}

/// <summary>A value has another type than its field.</summary>
/// <param name="expected">What the field holds, with its article.</param>
internal sealed class WireTypeException(string expected) : JsonException("The value has the wrong type.")
{
    /// <summary>What the field holds.</summary>
    public string Expected => expected;
}
