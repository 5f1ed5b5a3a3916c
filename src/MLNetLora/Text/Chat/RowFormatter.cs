using MLNetLora.Adapters;

namespace MLNetLora.Text;

/// <summary>
/// Turns rows of every kind into tokens, for training and for asking in the same way: a single instruction part by part (<see cref="InstructionFormatter"/>), everything with more than that
/// (its own system message, history, messages, tools, enable_thinking) through the checkpoint's own template (<see cref="ConversationFormatter"/>), a document as it is.
/// Where a template is plain ChatML, the two give the same tokens. Immutable: one instance serves any number of threads.
/// </summary>
internal sealed class RowFormatter
{
    private readonly QwenTokenizer _tokenizer;
    private readonly ChatFormat _format;
    private readonly PromptSettings _prompt;
    private readonly InstructionFormatter _instructions;
    private readonly Lazy<ConversationFormatter> _conversations;

    /// <summary>Prepares what all rows share.</summary>
    /// <param name="tokenizer">The checkpoint's tokenizer.</param>
    /// <param name="folder">The checkpoint's folder.</param>
    /// <param name="prompt">System message, prompt template, thinking.</param>
    /// <exception cref="OptionException">The checkpoint's template does not read enable_thinking, which the prompt sets.</exception>
    public RowFormatter(QwenTokenizer tokenizer, string folder, PromptSettings prompt)
    {
        _tokenizer = tokenizer;
        _prompt = prompt;
        _format = ChatFormat.Load(folder);
        _instructions = new InstructionFormatter(tokenizer, _format, prompt.SystemPrompt, prompt.PromptTemplate);
        // A template that cannot render conversations is no obstacle to data that has none.
        _conversations = new Lazy<ConversationFormatter>(() => new ConversationFormatter(tokenizer, ChatTemplate.Load(folder), Variables(prompt)));
        if (prompt.EnableThinking is not null && !ChatTemplate.Load(folder).Reads("enable_thinking"))
            throw new OptionException($"EnableThinking is {prompt.EnableThinking}, but the chat template of {folder} does not read enable_thinking: it would change nothing. Leave it null.");
    }

    /// <summary>The rows that a row becomes: several where a document is long, or where every answer of a conversation is learned in a row of its own.</summary>
    /// <param name="row">The row, with its answer.</param>
    /// <param name="scope">Which tokens are learned; a document is learned whole.</param>
    /// <param name="maximumLength">Tokens of a row; at least 2.</param>
    /// <exception cref="TemplateException">The template refuses the conversation.</exception>
    public IReadOnlyList<TokenizedRow> Tokenize(TextRow row, LabelScope scope, int maximumLength)
    {
        if (row.Document is { } document)
            return [.. PlainText.Tokenize(_tokenizer, document, maximumLength)];
        if (row.Instruction is { } instruction && IsPlain(instruction))
            return [new TokenizedRow(_instructions.Tokenize(instruction, scope, maximumLength, out TokenizationReport report), report)];
        return _conversations.Value.TokenizeRows(Complete(row), scope, maximumLength);
    }

    /// <summary>The tokens up to the place where the assistant is to speak.</summary>
    /// <param name="row">What is asked: an instruction, or a conversation that ends with the user or a tool.</param>
    /// <exception cref="TemplateException">The template refuses the conversation.</exception>
    public int[] Prompt(TextRow row) => row.Instruction is { } instruction && IsPlain(instruction)
        ? _instructions.Prompt(instruction)
        : _conversations.Value.Prompt(Complete(row with { Instruction = row.Instruction is null ? null : row.Instruction with { Output = null } }));

    private static Dictionary<string, object?> Variables(PromptSettings prompt) => prompt.EnableThinking is { } thinking ? new() { ["enable_thinking"] = thinking } : [];

    private bool IsPlain(InstructionRow row) => row.System is null && row.History is null && _prompt.EnableThinking is null;

    private Conversation Complete(TextRow row)
    {
        Conversation conversation = row.Instruction is { } instruction ? Conversation.From(instruction, _prompt.PromptTemplate) : row.Conversation!;
        if (_prompt.SystemPrompt is null || conversation.Messages is [{ Role: "system" }, ..])
            return conversation;
        if (_prompt.SystemPrompt.Length > 0)
            return conversation with { Messages = [ChatMessage.System(_prompt.SystemPrompt), .. conversation.Messages] };
        return _format.DefaultSystem is null ? conversation
            : throw new OptionException("SystemPrompt is empty, but this checkpoint's chat template writes a system message of its own into every conversation without one. Set SystemPrompt to a text, or to null for the template's.");
    }
}
