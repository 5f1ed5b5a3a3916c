using MLNetLora.Adapters;

namespace MLNetLora.Text;

/// <summary>
/// Turns rows of every kind into tokens, for training and for asking: instruction rows and conversations through the checkpoint's own template (<see
/// cref="ConversationFormatter"/>), documents as they are. Immutable: one instance serves any number of threads.
/// </summary>
internal sealed class RowFormatter
{
    private readonly QwenTokenizer _tokenizer;
    private readonly PromptSettings _prompt;
    private readonly Lazy<ChatTemplate> _template;
    private readonly Lazy<ConversationFormatter> _conversations;

    /// <summary>Prepares what all rows share.</summary>
    /// <param name="tokenizer">The checkpoint's tokenizer.</param>
    /// <param name="folder">The checkpoint's folder.</param>
    /// <param name="prompt">System message, prompt template, thinking.</param>
    /// <exception cref="OptionException">
    /// The checkpoint's template does not read enable_thinking, which the prompt sets; or the prompt template does not contain {instruction}.
    /// </exception>
    public RowFormatter(QwenTokenizer tokenizer, string folder, PromptSettings prompt)
    {
        _tokenizer = tokenizer;
        _prompt = prompt;
        PromptTemplate.Validate(prompt.PromptTemplate);
        // A template that cannot render conversations is no obstacle to documents.
        _template = new(() => ChatTemplate.Load(folder));
        _conversations = new(NewFormatter);
        if (prompt.EnableThinking is { } thinking && !_template.Value.Reads("enable_thinking"))
        {
            throw new OptionException(
                $"EnableThinking is {thinking}, but the chat template of {folder} does not read enable_thinking: it would change nothing. Leave it null.");
        }
    }

    /// <summary>Whether a row's prompt ends inside of thinking, so that its answer begins with the rest of it.</summary>
    /// <param name="row">The row; null for one that says nothing about thinking.</param>
    /// <exception cref="TemplateException">The template cannot render conversations.</exception>
    /// <exception cref="OptionException">The system prompt is empty and the template writes one of its own.</exception>
    public bool OpensThinking(TextRow? row = null) => _conversations.Value.OpensThinking(row?.EnableThinking);

    /// <summary>Whether the chat template looks at a variable, such as enable_thinking or tools.</summary>
    /// <param name="variable">The variable's name, or any text that the template's source may hold.</param>
    public bool TemplateReads(string variable) => _template.Value.Reads(variable);

    /// <summary>How the chat template asks for calls of tools.</summary>
    public ToolCallForm Calls => TemplateReads(ToolCallTags.Function) ? ToolCallForm.FunctionTags : ToolCallForm.Json;

    /// <summary>
    /// The rows that a row becomes: several where a document is long, or where every answer of a conversation is learned in a row of its own.
    /// </summary>
    /// <param name="row">The row, with its answer.</param>
    /// <param name="scope">Which tokens are learned; a document is learned whole.</param>
    /// <param name="maximumLength">Tokens of a row; at least 2.</param>
    /// <exception cref="TemplateException">The template refuses the conversation.</exception>
    public IReadOnlyList<TokenizedRow> Tokenize(TextRow row, LabelScope scope, int maximumLength) => row.Document is { } document
        ? [.. PlainText.Tokenize(_tokenizer, document, maximumLength)]
        : _conversations.Value.TokenizeRows(ToConversation(row), scope, maximumLength);

    /// <summary>The tokens up to the place where the assistant is to speak.</summary>
    /// <param name="row">What is asked: an instruction, or a conversation that ends with the user or a tool.</param>
    /// <exception cref="TemplateException">The template refuses the conversation.</exception>
    public int[] Prompt(TextRow row) => _conversations.Value.Prompt(Asked(row), row.EnableThinking);

    /// <summary>The prompt of a row.</summary>
    /// <param name="row">What is asked: an instruction, or a conversation.</param>
    /// <param name="continues">Whether a conversation that ends with the assistant is gone on with.</param>
    /// <exception cref="PromptException">A conversation ends with the assistant, and is not to be gone on with or cannot.</exception>
    /// <exception cref="TemplateException">The template refuses the conversation.</exception>
    public AskedPrompt Ask(TextRow row, bool continues) => Asker(row, continues)(Asked(row));

    /// <summary>The same, cut from the left to a number of tokens: see <see cref="PromptCut"/>.</summary>
    /// <param name="row">What is asked.</param>
    /// <param name="continues">Whether a conversation that ends with the assistant is gone on with.</param>
    /// <param name="maximumLength">How many tokens it may have.</param>
    /// <param name="cancellation">Ends it with an <see cref="OperationCanceledException"/>.</param>
    /// <returns>The prompt; its tokens are more than the maximum where what is never cut is longer.</returns>
    /// <exception cref="PromptException">A conversation ends with the assistant, and is not to be gone on with or cannot.</exception>
    /// <exception cref="TemplateException">The template refuses the conversation.</exception>
    public AskedPrompt Ask(TextRow row, bool continues, int maximumLength, CancellationToken cancellation)
    {
        AskedPrompt prompt = default; // but for the tokens the same, however much is cut
        int[] ids = PromptCut.Fit(Asked(row), Some, maximumLength, cancellation);
        return prompt with { Ids = ids };

        int[] Some(Conversation conversation)
        {
            prompt = Asker(row, continues)(conversation);
            return prompt.Ids;
        }
    }

    /// <summary>What to ask with what was trained on rows of some kind.</summary>
    /// <param name="thinks">Whether any answer that was learned thinks; null where no answers were learned.</param>
    public PromptSettings AsTrained(bool? thinks) =>
        _prompt.EnableThinking is null && thinks is not null && _template.Value.Reads("enable_thinking") ? _prompt with { EnableThinking = thinks } : _prompt;

    private ConversationFormatter NewFormatter()
    {
        Dictionary<string, object?> variables = _prompt.EnableThinking is { } thinking ? new() { ["enable_thinking"] = thinking } : [];
        ConversationFormatter formatter = new(_tokenizer, _template.Value, variables);
        return _prompt.SystemPrompt?.Length == 0 && formatter.HasDefaultSystem
            ? throw new OptionException(
                "SystemPrompt is empty, but this checkpoint's chat template writes a system message of its own into every conversation without one. "
                + "Set SystemPrompt to a text, or to null for the template's.")
            : formatter;
    }

    private Func<Conversation, AskedPrompt> Asker(TextRow row, bool continues) => conversation =>
        conversation.Messages[^1].Role != "assistant"
            ? new AskedPrompt(
                _conversations.Value.Prompt(conversation, row.EnableThinking),
                OpensThinking(row) ? AnswerStart.OpenedThinking : AnswerStart.Nothing,
                _conversations.Value.MayThink(row.EnableThinking),
                Calls)
        : continues ? _conversations.Value.Continuation(conversation, row.EnableThinking) with { Calls = Calls }
        : throw new PromptException(
            "the conversation ends with the assistant's message, so nobody asks anything. Leave the message out, or set ContinueFinalMessage to have it "
            + "gone on with.");

    private Conversation Asked(TextRow row) =>
        ToConversation(row.Instruction is { } instruction ? row with { Instruction = instruction with { Output = null } } : row);

    private Conversation ToConversation(TextRow row)
    {
        Conversation conversation = row.Instruction is { } instruction ? Conversation.From(instruction, _prompt.PromptTemplate) : row.Conversation!;
        return string.IsNullOrEmpty(_prompt.SystemPrompt) || conversation.Messages is [{ Role: "system" }, ..]
            ? conversation
            : conversation with { Messages = [ChatMessage.System(_prompt.SystemPrompt), .. conversation.Messages] };
    }
}
