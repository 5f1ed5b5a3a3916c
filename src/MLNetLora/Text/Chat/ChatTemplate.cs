using System.Text.Json;
using MLNetLora.Text.Jinja;

namespace MLNetLora.Text;

/// <summary>
/// A checkpoint's chat template: Jinja, rendered as transformers' apply_chat_template renders it. A template comes from outside and may say anything: it reaches nothing but what it is given,
/// and time, memory and nesting are bounded. Immutable: one instance serves any number of threads.
/// </summary>
public sealed class ChatTemplate
{
    private const long FreeWork = 16_000_000;
    private const long WorkPerCharacter = 200;

    private readonly IReadOnlyList<Statement> _statements;
    private readonly ChatTemplate? _withTools;
    private readonly IReadOnlyDictionary<string, object?> _specialTokens;

    private ChatTemplate(string source, ChatTemplate? withTools, IReadOnlyDictionary<string, object?> specialTokens)
    {
        Source = source;
        _statements = StatementParser.Parse(source);
        _withTools = withTools;
        _specialTokens = specialTokens;
    }

    /// <summary>The template as it is written.</summary>
    public string Source { get; }

    /// <summary>Whether it marks what an assistant generates with {% generation %}.</summary>
    public bool HasGenerationMarks => Source.Contains("endgeneration", StringComparison.Ordinal);

    /// <summary>Whether it looks at a variable, such as enable_thinking: giving one to a template that does not changes nothing.</summary>
    /// <param name="variable">The variable's name.</param>
    public bool Reads(string variable) => Source.Contains(variable, StringComparison.Ordinal) || _withTools?.Reads(variable) == true;

    /// <summary>
    /// Reads a checkpoint folder: chat_template.jinja, else chat_template in tokenizer_config.json (of several named ones "default", and "tool_use" for conversations with tools).
    /// Without either, ChatML: with Qwen1's system message where config.json says model_type qwen, else without one.
    /// </summary>
    /// <param name="folder">The checkpoint folder.</param>
    /// <exception cref="TokenizerException">A file cannot be read.</exception>
    /// <exception cref="TemplateException">The template is not valid; the message names the file and the line.</exception>
    public static ChatTemplate Load(string folder)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        TemplateFiles files = TemplateFiles.Read(folder);
        try
        {
            ChatTemplate? withTools = files.WithTools is null ? null : new ChatTemplate(files.WithTools, null, files.SpecialTokens);
            return new ChatTemplate(files.Template, withTools, files.SpecialTokens);
        }
        catch (TemplateException error)
        {
            throw new TemplateException($"{files.Path}: {error.Message} Restore the original file.", error);
        }
    }

    /// <summary>Reads a template.</summary>
    /// <param name="source">Jinja.</param>
    /// <exception cref="TemplateException">It is not valid; the message names the line.</exception>
    public static ChatTemplate Parse(string source)
    {
        ArgumentNullException.ThrowIfNull(source);
        return new ChatTemplate(source, null, new Dictionary<string, object?>());
    }

    /// <summary>The text of a conversation.</summary>
    /// <param name="messages">The messages, oldest first.</param>
    /// <param name="tools">The tools' descriptions; null for none.</param>
    /// <param name="addGenerationPrompt">Whether the text ends where the assistant is to speak.</param>
    /// <param name="variables">Further variables, such as enable_thinking: null, truth values, numbers, texts, JSON, or lists and dictionaries of these.</param>
    /// <exception cref="TemplateException">The template refuses the conversation or does what it may not; the message names the line.</exception>
    public string Render(
        IReadOnlyList<ChatMessage> messages, IReadOnlyList<JsonElement>? tools = null, bool addGenerationPrompt = false, IReadOnlyDictionary<string, object?>? variables = null)
    {
        ArgumentNullException.ThrowIfNull(messages);
        return RenderTagged(TemplateValues.From(messages), Tools(tools), addGenerationPrompt, variables).Text.Value;
    }

    /// <summary>The text of a conversation in transformers' own JSON, whatever fields its messages have.</summary>
    /// <param name="messages">An array of messages.</param>
    /// <param name="tools">An array of the tools' descriptions, or null.</param>
    /// <param name="addGenerationPrompt">Whether the text ends where the assistant is to speak.</param>
    /// <param name="variables">Further variables, such as enable_thinking.</param>
    /// <returns>The text, and what the template marks in it with {% generation %}.</returns>
    /// <exception cref="TemplateException">The template refuses the conversation or does what it may not; the message names the line.</exception>
    public RenderedTemplate Render(JsonElement messages, JsonElement? tools = null, bool addGenerationPrompt = false, IReadOnlyDictionary<string, object?>? variables = null)
    {
        object? toolValues = tools is { ValueKind: not (JsonValueKind.Null or JsonValueKind.Undefined) } given ? TemplateValues.From(given, Origin.Data) : null;
        (TaggedText text, IReadOnlyList<GenerationSpan> spans) = RenderTagged(TemplateValues.FromMessages(messages), toolValues, addGenerationPrompt, variables);
        return new RenderedTemplate(text.Value, spans);
    }

    /// <summary>The text of a conversation, every character of which says where it comes from.</summary>
    internal TaggedText RenderTagged(Conversation conversation, bool addGenerationPrompt, IReadOnlyDictionary<string, object?>? variables) =>
        RenderTagged(TemplateValues.From(conversation.Messages), Tools(conversation.Tools), addGenerationPrompt, variables).Text;

    private static JinjaList? Tools(IReadOnlyList<JsonElement>? tools) => tools is null ? null : new JinjaList([.. tools.Select(tool => TemplateValues.From(tool, Origin.Data))]);

    private (TaggedText Text, IReadOnlyList<GenerationSpan> Spans) RenderTagged(
        object? messages, object? tools, bool addGenerationPrompt, IReadOnlyDictionary<string, object?>? variables)
    {
        if (tools is not null && _withTools is not null)
            return _withTools.RenderTagged(messages, tools, addGenerationPrompt, variables);
        Dictionary<string, object?> values = new(_specialTokens, StringComparer.Ordinal)
        {
            ["messages"] = messages,
            ["tools"] = tools,
            ["documents"] = null,
            ["add_generation_prompt"] = addGenerationPrompt,
        };
        foreach ((string name, object? value) in variables ?? new Dictionary<string, object?>())
            values[name] = TemplateValues.From(value, name);
        // A conversation of any length may be rendered, but every character of it only so often.
        Work work = new(FreeWork + (WorkPerCharacter * values.Values.Sum(value => Size(value))));
        Interpreter interpreter = new(work, DateTimeOffset.Now);
        try
        {
            return (interpreter.Render(_statements, values), interpreter.Spans);
        }
        catch (JinjaFault fault)
        {
            throw new TemplateException($"The chat template cannot render this conversation: line {interpreter.Line}: {fault.Message}.");
        }
    }

    private static long Size(object? value) => value switch
    {
        TaggedText text => text.Length,
        JinjaList list => list.Items.Count + list.Items.Sum(Size),
        JinjaDict dict => dict.Items.Sum(item => Size(item.Key) + Size(item.Value)),
        _ => 1,
    };
}
