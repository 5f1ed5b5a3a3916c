using System.Text.Json;
using System.Text.Json.Serialization;
using MLNetLora.Inference.Constraints;
using MLNetLora.Text;

namespace MLNetLora.Inference;

/// <summary>
/// What an answer must be: each token is chosen among those with which the answer can still become it, so that an answer that ends of itself always is. One
/// that is cut off (<see cref="FinishReason.Length"/>) is a beginning of it. What a model thinks before it answers is free.
/// Immutable: one instance serves any number of requests and threads, and those made of the same text share what they have found out.
/// </summary>
[JsonConverter(typeof(OutputConstraintJson))]
public sealed class OutputConstraint
{
    private readonly Grammar _grammar;
    private readonly Lazy<Grammar>? _tagged;

    /// <summary>A constraint.</summary>
    /// <param name="grammar">What an answer is.</param>
    /// <param name="source">What it was made of.</param>
    /// <param name="tagged">What it is with a checkpoint whose calls are written in tags; null for the same.</param>
    private OutputConstraint(Grammar grammar, ConstraintSource? source, Func<Grammar>? tagged = null)
    {
        (_grammar, Source) = (grammar, source);
        _tagged = tagged is null ? null : new Lazy<Grammar>(tagged);
    }

    /// <summary>Calls of tools, in both forms.</summary>
    private OutputConstraint(Func<ToolCallForm, Grammar> grammar, ConstraintSource? source)
        : this(grammar(ToolCallForm.Json), source, () => grammar(ToolCallForm.FunctionTags))
    {
    }

    /// <summary>What it was made of; null where that is nothing that is kept.</summary>
    internal ConstraintSource? Source { get; }

    /// <summary>An object in JSON, whatever is in it; nested at most 64 levels deep.</summary>
    public static OutputConstraint JsonObject { get; } = new(NewObject(), new ConstraintSource(JsonObject: true));

    /// <summary>A value in JSON that satisfies a schema, with its properties in the order of the schema.</summary>
    /// <param name="schema">
    /// A JSON schema (draft 2020-12, and what earlier ones write otherwise) in one document of at most 1,048,576 characters. Properties that are not named are
    /// written only where additionalProperties says what they are, or where none is named.
    /// </param>
    /// <exception cref="ConstraintException">It is no JSON schema, says what cannot be held to (<see cref="ConstraintException.Pointer"/> says where), or
    /// nothing satisfies it.</exception>
    public static OutputConstraint JsonSchema(string schema)
    {
        ArgumentNullException.ThrowIfNull(schema);
        return new OutputConstraint(GrammarCache.Get("schema", schema, store => SchemaCompiler.Compile(store, SchemaDocument.Read(schema))),
            new ConstraintSource(JsonSchema: schema));
    }

    /// <summary>A text that a regular expression matches from its beginning to its end.</summary>
    /// <param name="pattern">
    /// In the syntax of JSON schemas (ECMA-262): groups, classes, counters, \d \w \s, \p{L}; without backreferences, lookaround, word boundaries and flags, and
    /// with ^ and $ only at its ends.
    /// </param>
    /// <exception cref="ConstraintException">It is no regular expression, or holds what cannot be held to.</exception>
    public static OutputConstraint Regex(string pattern)
    {
        ArgumentNullException.ThrowIfNull(pattern);
        return new OutputConstraint(GrammarCache.Get("regex", pattern, store => Matches(store, pattern)), new ConstraintSource(Regex: pattern));
    }

    /// <summary>
    /// Calls of tools as the chat template of the checkpoint asks for them, with arguments that satisfy the tool's schema: between &lt;tool_call&gt; and
    /// &lt;/tool_call&gt;, each on a line of its own, {"name": …, "arguments": …} (Qwen2.5, Qwen3), or &lt;function=…&gt; with a &lt;parameter=…&gt; for each
    /// argument (Qwen3-Coder, and from Qwen3.5 on).
    /// </summary>
    /// <param name="tools">The tools' descriptions as conversations have them: {"type": "function", "function": {"name": …, "parameters": …}}, or what is in
    /// "function" alone. A tool without parameters takes an object of any kind; in tags, none.</param>
    /// <param name="required">Whether the answer is nothing but calls, at least one. Else it is any text, after which calls may follow.</param>
    /// <param name="name">The tool that is to be called; null for any.</param>
    /// <param name="several">Whether more than one call may follow each other.</param>
    /// <exception cref="ConstraintException">A description is wrong, says what cannot be held to, or names no tool.</exception>
    public static OutputConstraint ToolCalls(IReadOnlyList<JsonElement> tools, bool required = true, string? name = null, bool several = true)
    {
        ArgumentNullException.ThrowIfNull(tools);
        tools = [.. tools.Select(tool => tool.Clone())]; // the form in tags is made when it is asked for
        string key = $"{required} {several} {name?.Length} {name} {string.Join('\n', tools.Select(tool => tool.GetRawText()))}";
        return new OutputConstraint(
            form => GrammarCache.Get($"tools, {form}", key, store => new ToolGrammar(store).Calls(tools, required, name, several, form)),
            new ConstraintSource(ToolCalls: new ConstraintTools([.. tools.Select(tool => tool.GetRawText())], required, name, several)));
    }

    /// <summary>Either calls of tools and nothing else, or a value in JSON.</summary>
    /// <param name="tools">The tools' descriptions; see <see cref="ToolCalls"/>.</param>
    /// <param name="several">Whether more than one call may follow each other.</param>
    /// <param name="schema">The value's schema; null for any object.</param>
    /// <exception cref="ConstraintException">A description or the schema is wrong, or says what cannot be held to.</exception>
    internal static OutputConstraint ToolCallsOrJson(IReadOnlyList<JsonElement> tools, bool several, string? schema)
    {
        string key = JsonSerializer.Serialize(new object?[] { tools, several, schema });
        return new OutputConstraint(
            form => GrammarCache.Get($"tools or JSON, {form}", key, store => JsonNodes.Choice(
                new ToolGrammar(store).Calls(tools, required: true, name: null, several, form),
                schema is null ? JsonNodes.AnyObject(JsonNodes.AnyValue()) : SchemaCompiler.Compile(store, SchemaDocument.Read(schema)))),
            source: null);
    }

    /// <summary>The schema, the expression or the names of the tools.</summary>
    public override string ToString() => Source switch
    {
        { JsonSchema: { } schema } => schema,
        { Regex: { } pattern } => pattern,
        { ToolCalls: { } tools } => string.Join(", ", tools.Tools),
        { JsonObject: true } => "a JSON object",
        _ => "calls of tools, or JSON",
    };

    /// <summary>Begins an answer.</summary>
    /// <param name="tokenizer">The checkpoint's.</param>
    /// <param name="ends">Tokens that end an answer.</param>
    /// <param name="thinking">What of thinking comes before it.</param>
    /// <param name="calls">How the checkpoint's template asks for calls of tools.</param>
    /// <exception cref="ConstraintException">Calls in tags cannot be held to it.</exception>
    internal ITokenMask Begin(QwenTokenizer tokenizer, IEnumerable<int> ends, ThinkingPart thinking, ToolCallForm calls = ToolCallForm.Json) =>
        new TokenMask(calls == ToolCallForm.FunctionTags && _tagged is not null ? _tagged.Value : _grammar, tokenizer, ends, thinking);

    private static GrammarNode Matches(TermStore store, string pattern) =>
        JsonNodes.Of(new PatternParser(pattern).Whole().ToTerm(store, set => set.Utf8(store)));

    private static Grammar NewObject() => GrammarCache.New(_ => JsonNodes.AnyObject(JsonNodes.AnyValue()));
}
