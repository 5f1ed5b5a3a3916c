using System.Text.Json;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace MLNetLora.AspNetCore;

/// <summary>A row in JSON, its fields called as the model's columns, in any case.</summary>
internal static class PredictRow
{
    /// <summary>Reads a row. Fields that are none of the columns that the model reads are passed over, as ML.NET passes over columns.</summary>
    /// <param name="body">The object.</param>
    /// <param name="columns">The model's columns.</param>
    /// <param name="row">The row.</param>
    /// <returns>Null, or what is wrong with the object.</returns>
    public static ServingError? Read(JsonElement body, ColumnNames columns, out TextRow row)
    {
        row = new TextRow();
        if (body.ValueKind != JsonValueKind.Object)
        {
            return ServingError.Invalid($"The body is no JSON object; send {{\"{columns.Instruction}\": \"…\"}}.", code: "invalid_body");
        }

        if (!OpenAI.Field.IsText(body))
        {
            return ServingError.Invalid("The body holds a string with half a character (a surrogate without its partner).", code: "invalid_body");
        }

        ServingError? error = null;
        string? instruction = Text(columns.Instruction);
        string? input = Text(columns.Input);
        string? system = Text(columns.System);
        string? history = Json(columns.History);
        string? conversation = Json(columns.Conversation);
        if (error is not null)
        {
            return error;
        }

        try
        {
            if (conversation is not null)
            {
                if (instruction is not null || input is not null)
                {
                    return ServingError.Invalid("A row is an instruction or a conversation, not both.", columns.Conversation, "invalid_value");
                }

                row = TextRow.Of(ConversationJson.Read(conversation, columns.Conversation!));
                return null;
            }

            if (instruction is null && input is null)
            {
                return ServingError.Invalid($"'{columns.Instruction}' is missing: nobody asks anything.", columns.Instruction, "missing_required_parameter");
            }

            IReadOnlyList<InstructionTurn>? turns = history is null ? null : ConversationJson.ReadHistory(history, columns.History!);
            row = TextRow.Of(new InstructionRow(instruction ?? "", Input: input, System: system, History: turns));
            return null;
        }
        catch (Exception e) when (e is DatasetException or ArgumentException)
        {
            return ServingError.Invalid(e.Message, code: "invalid_value");
        }

        JsonElement? Field(string? name)
        {
            foreach (JsonProperty field in body.EnumerateObject())
            {
                if (string.Equals(field.Name, name, StringComparison.OrdinalIgnoreCase) && field.Value.ValueKind != JsonValueKind.Null)
                {
                    return field.Value;
                }
            }

            return null;
        }

        string? Text(string? name)
        {
            switch (Field(name))
            {
                case null:
                    return null;
                case { ValueKind: JsonValueKind.String } text:
                    return text.GetString() is { Length: > 0 } given ? given : null;
                default:
                    error ??= ServingError.Invalid($"'{name}' is no text.", name, "invalid_type");
                    return null;
            }
        }

        // A column holds JSON in a text; in a body it may stand as it is.
        string? Json(string? name) => Field(name) switch
        {
            null => null,
            { ValueKind: JsonValueKind.String } text => string.IsNullOrWhiteSpace(text.GetString()) ? null : text.GetString(),
            { } json => json.GetRawText(),
        };
    }
}
