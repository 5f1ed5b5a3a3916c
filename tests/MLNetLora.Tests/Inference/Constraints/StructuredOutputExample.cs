using System.Text.Json;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference.Constraints;

/// <summary>The C# of docs/structured-output.md, compiled and run. In(…) puts a folder in place of the page's.</summary>
internal static class StructuredOutputExample
{
    public static void Run(Func<string, string> In)
    {
        // README begin
        using TextGenerator generator = new(Checkpoint.Open(In("Qwen/Qwen2.5-0.5B-Instruct")));
        GenerationOptions options = new()
        {
            MaximumNewTokens = 300,
            Constraint = OutputConstraint.JsonSchema("""
                {
                  "type": "object",
                  "properties": {
                    "city": { "type": "string", "maxLength": 40 },
                    "priority": { "enum": ["low", "high"] },
                    "days": { "type": "integer", "minimum": 0, "maximum": 30 }
                  },
                  "required": ["city", "priority"]
                }
                """),
        };
        InstructionRow row = new("A customer in Bern has waited for three days. Give city, priority and days as JSON.");
        GeneratedText answer = generator.Generate([row], options)[0];
        if (answer.Reason == FinishReason.Stop)
        {
            using JsonDocument json = JsonDocument.Parse(answer.Text);
            Console.WriteLine(json.RootElement.GetProperty("priority").GetString());
        }

        options.Constraint = OutputConstraint.Regex("(yes|no)(, because .{1,200})?");
        options.Constraint = OutputConstraint.JsonObject;
        // README end
    }
}
