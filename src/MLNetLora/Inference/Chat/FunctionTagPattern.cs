using System.Text;
using System.Text.Json;
using Microsoft.Extensions.AI;

namespace MLNetLora.Inference;

/// <summary>
/// Calls in the form of &lt;function=…&gt; as a regular expression, for models that were trained to write this form (<see cref="ToolCallSyntax"/>). A tool's
/// parameters come in the order of its schema, those that are required always. Numbers, truth values and enumerations are held to; every other value is any
/// text in which no &lt;/ stands, which would end it.
/// </summary>
internal static class FunctionTagPattern
{
    private const string Text = "([^<]|<+[^<\\/])*";

    /// <summary>The expression.</summary>
    /// <param name="tools">What may be called.</param>
    /// <param name="several">Whether more than one call may follow each other.</param>
    public static string Of(IEnumerable<AIFunctionDeclaration> tools, bool several)
    {
        string call = $"<tool_call>\\n({string.Join('|', tools.Select(Call))})<\\/function>\\n<\\/tool_call>";
        return several ? $"{call}(\\n{call})*" : call;
    }

    private static string Call(AIFunctionDeclaration tool)
    {
        StringBuilder pattern = new($"<function={Escape(tool.Name)}>\\n");
        if (Object(tool.JsonSchema, "properties") is { } properties)
        {
            string[] required = tool.JsonSchema.TryGetProperty("required", out JsonElement names) && names.ValueKind == JsonValueKind.Array
                ? [.. names.EnumerateArray().Where(name => name.ValueKind == JsonValueKind.String).Select(name => name.GetString()!)]
                : [];
            foreach (JsonProperty property in properties.EnumerateObject())
            {
                string parameter = $"<parameter={Escape(property.Name)}>\\n({Value(property.Value)})\\n<\\/parameter>\\n";
                pattern.Append(required.Contains(property.Name) ? parameter : $"({parameter})?");
            }
        }

        return pattern.ToString();
    }

    private static string Value(JsonElement schema)
    {
        if (schema.ValueKind != JsonValueKind.Object)
        {
            return Text;
        }

        if (schema.TryGetProperty("enum", out JsonElement values) && values.ValueKind == JsonValueKind.Array && values.GetArrayLength() > 0)
        {
            return string.Join('|', values.EnumerateArray().Select(
                value => Escape(value.ValueKind == JsonValueKind.String ? value.GetString()! : value.GetRawText())));
        }

        return schema.TryGetProperty("type", out JsonElement type) && type.ValueKind == JsonValueKind.String
            ? type.GetString() switch
            {
                "integer" => "-?(0|[1-9][0-9]*)",
                "number" => "-?(0|[1-9][0-9]*)(\\.[0-9]+)?",
                "boolean" => "true|false",
                "null" => "null",
                _ => Text,
            }
            : Text;
    }

    private static JsonElement? Object(JsonElement schema, string name) =>
        schema.ValueKind == JsonValueKind.Object && schema.TryGetProperty(name, out JsonElement found) && found.ValueKind == JsonValueKind.Object
            ? found
            : null;

    /// <summary>A text as itself.</summary>
    private static string Escape(string text)
    {
        StringBuilder escaped = new(text.Length);
        foreach (char one in text)
        {
            _ = "^$\\.*+?()[]{}|/".Contains(one, StringComparison.Ordinal) ? escaped.Append('\\').Append(one) : escaped.Append(one);
        }

        return escaped.Replace("\n", "\\n").ToString();
    }
}
