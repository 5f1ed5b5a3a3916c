using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Unicode;
using MLNetLora.Jinja;

namespace MLNetLora.Text;

/// <summary>Reads the JSON of a data set's row with messages that name file, line and row.</summary>
internal static class JsonText
{
    /// <summary>Parses one row.</summary>
    /// <param name="path">The file, for messages.</param>
    /// <param name="row">The row.</param>
    /// <exception cref="DatasetException">The row is not valid UTF-8 or not valid JSON.</exception>
    public static JsonDocument Parse(string path, JsonRow row)
    {
        ReadOnlySpan<byte> bytes = row.Json.Span;
        if (!Utf8.IsValid(bytes))
        {
            Utf8.ToUtf16(bytes, new char[bytes.Length], out int valid, out _, replaceInvalidSequences: false);
            long line = row.Line + bytes[..valid].Count((byte)'\n');
            throw new DatasetException($"{path}, line {line}, row {row.Row}: {DatasetText.Advice(bytes[valid])}");
        }

        try
        {
            return JsonDocument.Parse(row.Json);
        }
        catch (JsonException error)
        {
            long line = row.Line + (error.LineNumber ?? 0);
            string advice = IsOpen(bytes) ? " Outside of an array a row ends on its own line: put the rows into [ and ], with commas between them." : "";
            throw new DatasetException(
                $"{path}, line {line}, row {row.Row}: not valid JSON at byte {(error.BytePositionInLine ?? 0) + 1} of the line. {Reason(error)}{advice}",
                error);
        }
    }

    /// <summary>The text of a JSON string. An escaped surrogate without its partner is kept: it is replaced, and counted, when the text is tokenized.</summary>
    public static string String(JsonElement value) => JinjaValues.String(value);

    /// <summary>The document that a text holds; unpaired surrogates, which JSON cannot carry, become U+FFFD.</summary>
    /// <exception cref="JsonException">The text is not valid JSON.</exception>
    public static JsonDocument ParseText(string text) =>
        JsonDocument.Parse(UnicodeText.ReplaceUnpairedSurrogates(text, out _), new JsonDocumentOptions { MaxDepth = 128 });

    /// <summary>Whether a line holds the beginning of an object, as the first line of an indented document does.</summary>
    private static bool IsOpen(ReadOnlySpan<byte> line)
    {
        ReadOnlySpan<byte> json = line.Trim(" \t\r\n"u8);
        return json.Length > 0 && json[0] == '{' && json[^1] != '}';
    }

    /// <summary>The parser's reason without its own line and position, which count from the row's start.</summary>
    private static string Reason(JsonException error)
    {
        int position = error.Message.IndexOf(" LineNumber:", StringComparison.Ordinal);
        return position < 0 ? error.Message : error.Message[..position];
    }
}

/// <summary>Fields of a data set's row, with messages that say what is there instead.</summary>
internal static class JsonFields
{
    /// <summary>A text field; null where it is missing or null.</summary>
    /// <exception cref="DatasetException">It is something else.</exception>
    public static string? Text(JsonElement row, string name, string where)
    {
        if (!row.TryGetProperty(name, out JsonElement value) || value.ValueKind == JsonValueKind.Null)
        {
            return null;
        }

        return value.ValueKind == JsonValueKind.String
            ? JsonText.String(value)
            : throw new DatasetException($"{where}: \"{name}\" is {Name(value.ValueKind)}, not a text. Put it in quotation marks.");
    }

    /// <summary>What the row has instead: a misspelled or foreign field is the usual cause.</summary>
    public static string Hint(JsonElement row)
    {
        string[] names = [.. row.EnumerateObject().Select(field => field.Name).Take(8)];
        return names.Length == 0 ? "; the row is empty" : $"; the row has {string.Join(", ", names.Select(name => $"\"{name}\""))}";
    }

    /// <summary>A kind of value as messages call it.</summary>
    public static string Name(JsonValueKind kind) => kind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "an array",
        JsonValueKind.String => "a text",
        JsonValueKind.Number => "a number",
        JsonValueKind.True or JsonValueKind.False => "true or false",
        _ => "null",
    };
}
