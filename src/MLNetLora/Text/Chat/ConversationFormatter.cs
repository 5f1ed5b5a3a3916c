using MLNetLora.Jinja;

namespace MLNetLora.Text;

/// <summary>
/// Turns conversations into tokens and labels with the checkpoint's own chat template. The template is rendered once; of every character it is known whether it is the template's own or
/// comes from a message, so that control tokens are inserted by id where the template writes them and text that spells one stays text. Labels come from where the template's turns begin
/// and end in that same rendering, never from rendering a part of the conversation again. Immutable: one instance serves any number of threads.
/// </summary>
/// <remarks>
/// What is learned of a turn begins where the generation prompt ends: behind <c>&lt;|im_start|&gt;assistant\n</c>, and behind whatever else the prompt writes there (Qwen3.5 opens
/// &lt;think&gt;; Qwen3 with enable_thinking=false writes an empty thinking block, which is then part of the prompt and not learned). It ends with &lt;|im_end|&gt;, which is learned; the
/// line break behind it is not. {% generation %} marks in a template do not change this.
/// Thinking templates (Qwen3 and later) write an earlier turn otherwise than the last one: without its thinking. <see cref="RewritesHistory"/> tells; <see cref="TokenizeRows(Conversation, LabelScope, int)"/> then makes
/// one row of every answer where all assistant turns are to be learned, in which it is the last turn, as it is when the model gives it.
/// </remarks>
public sealed class ConversationFormatter
{
    private readonly QwenTokenizer _tokenizer;
    private readonly ChatTemplate _template;
    private readonly IReadOnlyDictionary<string, object?>? _variables;
    private readonly string _opening;

    /// <summary>Prepares what all conversations share.</summary>
    /// <param name="tokenizer">The checkpoint's tokenizer.</param>
    /// <param name="template">The checkpoint's template.</param>
    /// <param name="variables">Further variables of the template, such as enable_thinking; the same for training and inference.</param>
    /// <exception cref="TokenizerException">The tokenizer has no &lt;|im_start|&gt; or &lt;|im_end|&gt;.</exception>
    /// <exception cref="TemplateException">The template does not write ChatML, or cannot render a conversation.</exception>
    public ConversationFormatter(QwenTokenizer tokenizer, ChatTemplate template, IReadOnlyDictionary<string, object?>? variables = null)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentNullException.ThrowIfNull(template);
        if (tokenizer.ImStartId is null || tokenizer.ImEndId is null)
            throw new TokenizerException("The tokenizer has no <|im_start|> or <|im_end|>, which Qwen's conversations are written with. Restore tokenizer_config.json (added_tokens_decoder) or tokenizer.json of the checkpoint.");
        (_tokenizer, _template, _variables) = (tokenizer, template, variables);

        ChatMessage[] probe = [ChatMessage.User("1"), ChatMessage.Assistant("2", "3"), ChatMessage.User("4"), ChatMessage.Assistant("5", "6")];
        RenderedTurns prompt = Render(new Conversation(probe[..1]), addGenerationPrompt: true);
        _opening = prompt.Characters(prompt.LastTurnStart, prompt.Length);
        RenderedTurns one = Render(new Conversation(probe[..2]), addGenerationPrompt: false);
        RenderedTurns two = Render(new Conversation(probe), addGenerationPrompt: false);
        if (one.Assistant.Count != 1 || two.Assistant.Count != 2 || !_opening.StartsWith("assistant\n", StringComparison.Ordinal))
            throw new TemplateException("The chat template does not write an assistant's turn as <|im_start|>assistant … <|im_end|>, so that what is learned cannot be told. Use a Qwen checkpoint or replace its chat_template.");
        RewritesHistory = one.Characters(one.Assistant[0].Start, one.Assistant[0].End) != two.Characters(two.Assistant[0].Start, two.Assistant[0].End);
    }

    /// <summary>Whether the template writes an earlier turn of the assistant otherwise than the last one, as Qwen3's does, which leaves out earlier thinking.</summary>
    public bool RewritesHistory { get; }

    /// <summary>The tokens from the conversation's start to the place where the assistant is to speak.</summary>
    /// <param name="conversation">A conversation that ends with the user or a tool.</param>
    /// <returns>Ids, [tokens].</returns>
    /// <exception cref="TemplateException">The template refuses the conversation.</exception>
    public int[] Prompt(Conversation conversation)
    {
        ArgumentNullException.ThrowIfNull(conversation);
        RenderedTurns turns = Render(conversation, addGenerationPrompt: true);
        IdBuffer ids = new(turns.Length);
        turns.Encode(0, turns.Length, ref ids);
        int[] prompt = ids.ToArray();
        ids.Dispose();
        return prompt;
    }

    /// <summary>The rows of a conversation: one, or one per answer where all assistant turns are learned and the template would write the earlier ones otherwise than when they are given.</summary>
    /// <param name="conversation">A conversation with an assistant's message in it.</param>
    /// <param name="scope">Which tokens are learned.</param>
    /// <param name="maximumLength">Tokens beyond this many are cut off at the end of a row; at least 1.</param>
    /// <exception cref="ArgumentException">There is no assistant's message to learn.</exception>
    /// <exception cref="TemplateException">The template refuses the conversation.</exception>
    public IReadOnlyList<TokenizedRow> TokenizeRows(Conversation conversation, LabelScope scope, int maximumLength)
    {
        ArgumentNullException.ThrowIfNull(conversation);
        if (scope != LabelScope.AllAssistantTurns || !RewritesHistory || conversation.Messages.Count(message => message is { Role: "assistant", IsLearned: true }) < 2)
            return [new TokenizedRow(Tokenize(conversation, scope, maximumLength, out TokenizationReport report), report)];
        // What stands in an earlier turn stands in every later row too, and counts once.
        int counted = 0;
        return [.. conversation.PerAnswer().Select(part =>
        {
            TrainingRow row = Tokenize(part, LabelScope.Answer, maximumLength, out TokenizationReport report);
            int replaced = report.ReplacedCharacters - counted;
            counted = report.ReplacedCharacters;
            return new TokenizedRow(row, report with { ReplacedCharacters = replaced });
        })];
    }

    /// <summary>The rows of a data set's row: of its conversation, or of its document, which is learned whole.</summary>
    /// <param name="row">The row.</param>
    /// <param name="scope">Which tokens of a conversation are learned.</param>
    /// <param name="maximumLength">A conversation's tokens beyond this many are cut off; a longer document becomes several rows. At least 2.</param>
    /// <exception cref="DatasetException">The template refuses the conversation; the message names file, line and row.</exception>
    public IReadOnlyList<TokenizedRow> TokenizeRows(DatasetRow row, LabelScope scope, int maximumLength)
    {
        ArgumentNullException.ThrowIfNull(row);
        if (row.Conversation is null)
            return [.. PlainText.Tokenize(_tokenizer, row.Document ?? "", maximumLength)];
        try
        {
            return TokenizeRows(row.Conversation, scope, maximumLength);
        }
        catch (TemplateException error)
        {
            throw new DatasetException($"{row.Where}: {error.Message}", error);
        }
    }

    /// <summary>The rows of a data set on several threads, in the order of the data set and read while they are enumerated; a few hundred are in memory at a time.</summary>
    /// <param name="rows">The data set's rows; see <see cref="Dataset"/>.</param>
    /// <param name="scope">Which tokens of a conversation are learned.</param>
    /// <param name="maximumLength">See <see cref="TokenizeRows(DatasetRow, LabelScope, int)"/>.</param>
    /// <param name="threads">How many threads; 0 takes all cores.</param>
    /// <exception cref="DatasetException">A file is wrong, or the template refuses a conversation; raised when the enumeration comes to that row.</exception>
    public IEnumerable<TokenizedRow> TokenizeRows(IEnumerable<DatasetRow> rows, LabelScope scope, int maximumLength, int threads = 0)
    {
        ArgumentNullException.ThrowIfNull(rows);
        ArgumentOutOfRangeException.ThrowIfNegative(threads);
        return ParallelRows.Convert(rows, row => TokenizeRows(row, scope, maximumLength), threads).SelectMany(parts => parts);
    }

    /// <summary>The tokens of a conversation with their labels, in one row as the template writes it.</summary>
    /// <param name="conversation">A conversation with an assistant's message in it. Messages behind the last one that may be learned are left out, except where everything is learned.</param>
    /// <param name="scope">Which tokens are learned. Earlier turns are learned as the template writes them: see <see cref="RewritesHistory"/> and <see cref="TokenizeRows(Conversation, LabelScope, int)"/>.</param>
    /// <param name="maximumLength">Tokens beyond this many are cut off at the end; at least 1.</param>
    /// <param name="report">What became of the conversation.</param>
    /// <returns>Ids and labels, [min(tokens, maximumLength)].</returns>
    /// <exception cref="ArgumentException">There is no assistant's message to learn.</exception>
    /// <exception cref="TemplateException">The template refuses the conversation.</exception>
    public TrainingRow Tokenize(Conversation conversation, LabelScope scope, int maximumLength, out TokenizationReport report)
    {
        ArgumentNullException.ThrowIfNull(conversation);
        ArgumentOutOfRangeException.ThrowIfLessThan(maximumLength, 1);
        int last = conversation.Messages.ToList().FindLastIndex(message => message is { Role: "assistant", IsLearned: true });
        if (last < 0)
            throw new ArgumentException("The conversation has no assistant's message to learn.", nameof(conversation));
        if (scope != LabelScope.Everything)
            conversation = conversation with { Messages = [.. conversation.Messages.Take(last + 1)] };

        RenderedTurns turns = Render(conversation, addGenerationPrompt: false);
        ChatMessage[] assistant = [.. conversation.Messages.Where(message => message.Role == "assistant")];
        if (turns.Assistant.Count != assistant.Length)
            throw new TemplateException($"The chat template writes {turns.Assistant.Count} turns of the assistant for {assistant.Length} messages, so that what is learned cannot be told. Join assistant's messages that follow one another.");

        bool endsWithAnswer = conversation.Messages[^1].Role == "assistant";
        int end = endsWithAnswer ? turns.Assistant[^1].After : turns.Length;
        IdBuffer ids = new(turns.Length);
        List<LearnedTokens> learned = [];
        int at = 0;
        for (int i = 0; i < assistant.Length; i++)
        {
            if (!assistant[i].IsLearned || (scope != LabelScope.AllAssistantTurns && i < assistant.Length - 1))
                continue;
            // The answer is encoded apart from what stands before it, as at inference, where it begins with a token of its own.
            int start = turns.AnswerStart(turns.Assistant[i], _opening);
            turns.Encode(at, start, ref ids);
            int first = ids.Count;
            at = turns.Assistant[i].After;
            turns.Encode(start, at, ref ids);
            learned.Add(new LearnedTokens(first, ids.Count));
        }
        turns.Encode(at, end, ref ids);
        int[] all = ids.ToArray();
        ids.Dispose();
        TrainingRow row = LearnedTokens.Row(all, learned, scope, maximumLength, out report);
        report = report with { ReplacedCharacters = conversation.UnpairedSurrogates };
        return row;
    }

    private RenderedTurns Render(Conversation conversation, bool addGenerationPrompt) =>
        new(_tokenizer, _template.RenderTagged(conversation, addGenerationPrompt, _variables));
}
