using System.Text.Json;
using MLNetLora.Jinja;

namespace MLNetLora.Text;

/// <summary>
/// A checkpoint's chat template: Jinja, rendered as transformers' apply_chat_template renders it. A template comes from outside and may say anything: it
/// reaches nothing but what it is given, and time, memory and nesting are bounded. Immutable: one instance serves any number of threads.
/// </summary>
internal sealed class ChatTemplate
{
    private readonly JinjaTemplate _template;
    private readonly ChatTemplate? _withTools;
    private readonly IReadOnlyDictionary<string, object?> _specialTokens;

    private ChatTemplate(string source, ChatTemplate? withTools, IReadOnlyDictionary<string, object?> specialTokens)
    {
        try
        {
            _template = JinjaTemplate.Parse(source);
        }
        catch (JinjaException error)
        {
            throw new TemplateException($"The chat template is not valid: {error.Message}", error);
        }

        _withTools = withTools;
        _specialTokens = specialTokens;
    }

    /// <summary>The template as it is written.</summary>
    public string Source => _template.Source;

    /// <summary>Whether it looks at a variable, such as enable_thinking: giving one to a template that does not changes nothing.</summary>
    /// <param name="variable">The variable's name.</param>
    public bool Reads(string variable) => Source.Contains(variable, StringComparison.Ordinal) || _withTools?.Reads(variable) == true;

    /// <summary>
    /// Reads a checkpoint folder: chat_template.jinja, else chat_template in tokenizer_config.json (of several named ones "default", and "tool_use" for
    /// conversations with tools).
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
    /// <param name="variables">
    /// Further variables, such as enable_thinking: null, truth values, numbers, texts, JSON, or lists and dictionaries of these.
    /// </param>
    /// <exception cref="TemplateException">The template refuses the conversation or does what it may not; the message names the line.</exception>
    public string Render(
        IReadOnlyList<ChatMessage> messages,
        IReadOnlyList<JsonElement>? tools = null,
        bool addGenerationPrompt = false,
        IReadOnlyDictionary<string, object?>? variables = null)
    {
        ArgumentNullException.ThrowIfNull(messages);
        return RenderTagged(new Conversation(messages, tools), addGenerationPrompt, variables).Value;
    }

    /// <summary>The text of a conversation in transformers' own JSON, whatever fields its messages have.</summary>
    /// <param name="messages">An array of messages.</param>
    /// <param name="tools">An array of the tools' descriptions, or null.</param>
    /// <param name="addGenerationPrompt">Whether the text ends where the assistant is to speak.</param>
    /// <param name="variables">Further variables, such as enable_thinking.</param>
    /// <returns>The text, and what the template marks in it with {% generation %}.</returns>
    /// <exception cref="TemplateException">The template refuses the conversation or does what it may not; the message names the line.</exception>
    public RenderedTemplate Render(
        JsonElement messages,
        JsonElement? tools = null,
        bool addGenerationPrompt = false,
        IReadOnlyDictionary<string, object?>? variables = null)
    {
        (TaggedText text, IReadOnlyList<GenerationSpan> spans) = Guard(() => RenderTagged(
            TemplateValues.FromMessages(messages),
            tools is { ValueKind: not (JsonValueKind.Null or JsonValueKind.Undefined) } given ? JinjaValues.From(given, Origin.Data) : null,
            addGenerationPrompt,
            variables));
        return new RenderedTemplate(text.Value, spans);
    }

    /// <summary>The text of a conversation, every character of which says where it comes from.</summary>
    internal TaggedText RenderTagged(Conversation conversation, bool addGenerationPrompt, IReadOnlyDictionary<string, object?>? variables) =>
        Guard(() => RenderTagged(TemplateValues.From(conversation.Messages), Tools(conversation.Tools), addGenerationPrompt, variables)).Text;

    private static JinjaList? Tools(IReadOnlyList<JsonElement>? tools) =>
        tools is null ? null : new JinjaList([.. tools.Select(tool => JinjaValues.From(tool, Origin.Data))]);

    private (TaggedText Text, IReadOnlyList<GenerationSpan> Spans) RenderTagged(
        object? messages, object? tools, bool addGenerationPrompt, IReadOnlyDictionary<string, object?>? variables)
    {
        if (tools is not null && _withTools is not null)
        {
            return _withTools.RenderTagged(messages, tools, addGenerationPrompt, variables);
        }

        Dictionary<string, object?> values = new(_specialTokens, StringComparer.Ordinal)
        {
            ["messages"] = messages,
            ["tools"] = tools,
            ["documents"] = null,
            ["add_generation_prompt"] = addGenerationPrompt,
        };
        foreach ((string name, object? value) in variables ?? new Dictionary<string, object?>())
        {
            values[name] = JinjaValues.From(value, name);
        }

        return _template.RenderTagged(values);
    }

    private static T Guard<T>(Func<T> render)
    {
        try
        {
            return render();
        }
        catch (JinjaException error)
        {
            throw new TemplateException($"The chat template cannot render this conversation: {error.Message}.", error);
        }
    }
}

/// <summary>What a chat template makes of a conversation.</summary>
/// <param name="Text">The text, as transformers' apply_chat_template gives it.</param>
/// <param name="GenerationSpans">The parts that the template marks with {% generation %}, in order; none where it marks nothing.</param>
internal sealed record RenderedTemplate(string Text, IReadOnlyList<GenerationSpan> GenerationSpans);
