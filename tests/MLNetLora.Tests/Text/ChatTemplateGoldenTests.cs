using System.Text.Json;
using MLNetLora.Jinja;
using MLNetLora.Text;
using Xunit.Abstractions;

namespace MLNetLora.Tests.Text;

[Trait("Category", "Golden")]
public sealed class ChatTemplateGoldenTests(ITestOutputHelper output)
{
    private static readonly string[] s_spans = ["generation", "generation_spans", "generation_indices"];
    private static readonly HashSet<string> s_parts = ["template", "messages", "tools", "add_generation_prompt", "rendered", .. s_spans];

    [Fact]
    public void Templates_render_as_transformers_renders_them()
    {
        int compared = 0;
        foreach (string folder in Golden.Kinds("templates"))
        {
            foreach (JsonElement test in Json.Array(Path.Combine(folder, "cases.json")))
            {
                RenderedTemplate rendered = Render(folder, test);
                Assert.Equal(test.GetProperty("rendered").GetString(), rendered.Text);
                CompareSpans(test, rendered);
                compared++;
            }
        }

        Report.Golden(output, "templates", "", compared);
    }

    /// <summary>Other sets may say what {% generation %} marks, counted in characters.</summary>
    private static void CompareSpans(JsonElement test, RenderedTemplate rendered)
    {
        foreach (string name in s_spans)
        {
            if (test.TryGetProperty(name, out JsonElement spans) && spans.ValueKind == JsonValueKind.Array)
            {
                Assert.Equal(
                    spans.EnumerateArray().Select(span => (span[0].GetInt32(), span[1].GetInt32())),
                    rendered.GenerationSpans.Select(span => Characters(rendered.Text, span)));
            }
        }
    }

    /// <summary>Every field of a case that is not part of the conversation is a variable of the template.</summary>
    private static RenderedTemplate Render(string folder, JsonElement test)
    {
        ChatTemplate template = ChatTemplate.Parse(File.ReadAllText(Path.Combine(folder, test.GetProperty("template").GetString()! + ".jinja")));
        Dictionary<string, object?> variables = test.EnumerateObject()
            .Where(field => !s_parts.Contains(field.Name))
            .ToDictionary(field => field.Name, field => (object?)field.Value);
        return template.Render(test.GetProperty("messages"), test.GetProperty("tools"), test.GetProperty("add_generation_prompt").GetBoolean(), variables);
    }

    private static (int, int) Characters(string text, GenerationSpan span) => (Count(text[..span.Start]), Count(text[..(span.Start + span.Length)]));

    private static int Count(string text) => text.EnumerateRunes().Count();
}
