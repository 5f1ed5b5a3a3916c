using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using MLNetLora.Cli.Output;

namespace MLNetLora.Cli.Inspection;

/// <summary>What was found, for people: a line for each value, a table for each list of things.</summary>
internal static class InspectionText
{
    private const int NameWidth = 26;

    public static void Write(Screen screen, JsonObject found)
    {
        foreach ((string name, JsonNode? value) in found)
        {
            Write(screen, name.Replace('_', ' '), value);
        }
    }

    private static void Write(Screen screen, string name, JsonNode? value)
    {
        switch (value)
        {
            case null:
                break;
            case JsonArray { Count: > 0 } list when list[0] is JsonObject first:
                screen.Out.WriteLine();
                screen.Out.WriteLine(screen.Bold($"{name}:"));
                string[] columns = [.. first.Select(item => item.Key)];
                screen.WriteTable([.. columns.Select(column => column.Replace('_', ' '))],
                    list.OfType<JsonObject>().Select(row => (IReadOnlyList<string>)[.. columns.Select(column => Text(row[column]))]));
                break;
            case JsonObject map:
                foreach ((string inner, JsonNode? part) in map)
                {
                    Write(screen, $"{name}: {inner.Replace('_', ' ')}", part);
                }

                break;
            default:
                screen.Out.WriteLine($"{screen.Dim(Visible.OnOneLine(name).PadRight(NameWidth))}{Visible.OnOneLine(Text(value))}");
                break;
        }
    }

    private static string Text(JsonNode? value) => value switch
    {
        null => "",
        JsonArray list => string.Join(", ", list.Select(Text)),
        JsonValue number when number.GetValueKind() == JsonValueKind.Number && number.TryGetValue(out long whole) =>
            whole.ToString("N0", CultureInfo.InvariantCulture),
        _ => value.GetValueKind() switch { JsonValueKind.True => "yes", JsonValueKind.False => "no", _ => value.ToString() },
    };
}
