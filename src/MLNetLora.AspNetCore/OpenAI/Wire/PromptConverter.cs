using System.Text.Json;
using System.Text.Json.Serialization;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>Prompts: a string, several, token ids, or several lists of them.</summary>
internal sealed class PromptConverter : JsonConverter<IReadOnlyList<CompletionPrompt>>
{
    private const string Expected = "a string, an array of strings, an array of token ids or an array of such arrays";

    public override IReadOnlyList<CompletionPrompt> Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        if (reader.TokenType == JsonTokenType.String)
        {
            return [new CompletionPrompt(reader.GetString(), null)];
        }

        if (reader.TokenType != JsonTokenType.StartArray)
        {
            throw new WireTypeException(Expected);
        }

        List<CompletionPrompt> prompts = [];
        reader.Read();
        if (reader.TokenType == JsonTokenType.Number)
        {
            return [new CompletionPrompt(null, Ids(ref reader))];
        }

        for (; reader.TokenType != JsonTokenType.EndArray; reader.Read())
        {
            if (reader.TokenType == JsonTokenType.StartArray)
            {
                reader.Read();
                prompts.Add(new CompletionPrompt(null, Ids(ref reader)));
            }
            else
            {
                prompts.Add(reader.TokenType == JsonTokenType.String ? new CompletionPrompt(reader.GetString(), null) : throw new WireTypeException(Expected));
            }
        }

        return prompts;
    }

    public override void Write(Utf8JsonWriter writer, IReadOnlyList<CompletionPrompt> value, JsonSerializerOptions options) =>
        throw new NotSupportedException();

    private static List<int> Ids(ref Utf8JsonReader reader)
    {
        List<int> ids = [];
        for (; reader.TokenType != JsonTokenType.EndArray; reader.Read())
        {
            ids.Add(reader.TokenType == JsonTokenType.Number && reader.TryGetInt32(out int id) ? id : throw new WireTypeException(Expected));
        }

        return ids;
    }
}
