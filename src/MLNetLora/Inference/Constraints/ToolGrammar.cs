using System.Text.Json;
using MLNetLora.Text;

namespace MLNetLora.Inference.Constraints;

/// <summary>Calls of tools as Qwen's templates write them.</summary>
/// <param name="store">Makes the terms.</param>
internal sealed class ToolGrammar(TermStore store)
{
    private const int MostTools = 512;

    /// <summary>The grammar of answers that call tools.</summary>
    /// <param name="tools">The tools' descriptions.</param>
    /// <param name="required">Whether there must be a call, and nothing but calls.</param>
    /// <param name="name">The tool that is called; null for any.</param>
    /// <param name="several">Whether there may be more than one call.</param>
    /// <param name="form">How calls are written.</param>
    /// <exception cref="ConstraintException">A description is wrong, says what cannot be held to, or names no tool.</exception>
    public GrammarNode Calls(IReadOnlyList<JsonElement> tools, bool required, string? name, bool several, ToolCallForm form)
    {
        if (tools.Count is 0 or > MostTools)
        {
            throw new ConstraintException($"There are {tools.Count} tools; calls can be held to with 1 to {MostTools}.");
        }

        List<GrammarNode> calls = [];
        HashSet<string> names = [];
        foreach (JsonElement tool in tools)
        {
            JsonElement function = Function(tool);
            string own = function.GetProperty("name").GetString()!;
            if (!names.Add(own))
            {
                throw new ConstraintException($"Two tools have the name '{own}'; which is called could not be told.");
            }

            if (name is null || name == own)
            {
                calls.Add(form == ToolCallForm.Json ? Json(own, function) : Tagged(own, function));
            }
        }

        if (calls.Count == 0)
        {
            throw new ConstraintException($"No tool has the name '{name}'; there are {string.Join(", ", names.Order(StringComparer.Ordinal))}.");
        }

        (string open, string close) = form == ToolCallForm.Json ? ("{\"name\": ", "}") : (ToolCallTags.Function, ToolCallTags.FunctionEnd);
        GrammarNode call = JsonNodes.Sequence(
            JsonNodes.Of(store.Literal($"{ToolCallTags.Open}\n{open}")),
            JsonNodes.Choice(calls),
            JsonNodes.Of(store.Literal($"{close}\n{ToolCallTags.Close}")));
        if (several)
        {
            GrammarNode next = JsonNodes.Sequence(JsonNodes.Of(store.Literal("\n")), call);
            call = JsonNodes.Sequence(call, new GrammarNode.Repeat(next, 0, Term.Unlimited));
        }

        return required ? call : JsonNodes.Sequence(JsonNodes.Of(JsonTerms.Without(store, ToolCallTags.Open)), new GrammarNode.Repeat(call, 0, 1));
    }

    private static JsonElement Function(JsonElement tool)
    {
        SchemaDocument.RequireText(tool);
        JsonElement function = tool.ValueKind == JsonValueKind.Object && tool.TryGetProperty("function", out JsonElement inner) ? inner : tool;
        return function.ValueKind == JsonValueKind.Object && function.TryGetProperty("name", out JsonElement name) && name.ValueKind == JsonValueKind.String
            ? function
            : throw new ConstraintException(
                "A tool is described by {\"type\": \"function\", \"function\": {\"name\": …, \"parameters\": …}}; one has no such object, or no name.");
    }

    private GrammarNode Json(string name, JsonElement function) => JsonNodes.Sequence(
        JsonNodes.Of(store.Literal(JsonTerms.Quote(name) + ", \"arguments\": ")),
        Arguments(name, function, schema => SchemaCompiler.Compile(store, schema, JsonTypes.Object)) ?? JsonNodes.AnyObject(JsonNodes.AnyValue()));

    private GrammarNode Tagged(string name, JsonElement function)
    {
        SchemaCompiler.RequireTagName(name);
        return JsonNodes.Sequence(
            JsonNodes.Of(store.Literal($"{name}>\n")),
            Arguments(name, function, schema => SchemaCompiler.CompileTagged(store, schema)) ?? JsonNodes.Of(TermStore.Epsilon));
    }

    /// <summary>The arguments of a call; null where nothing is said of them.</summary>
    private static GrammarNode? Arguments(string name, JsonElement function, Func<SchemaDocument, GrammarNode> compile)
    {
        if (!function.TryGetProperty("parameters", out JsonElement parameters) || parameters.ValueKind == JsonValueKind.Null)
        {
            return null;
        }

        try
        {
            return compile(SchemaDocument.Read(parameters.GetRawText()));
        }
        catch (ConstraintException e)
        {
            throw new ConstraintException($"The parameters of the tool '{name}': {e.Message}", e) { Pointer = e.Pointer };
        }
    }
}
