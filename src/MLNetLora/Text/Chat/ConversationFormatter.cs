using MLNetLora.Jinja;

namespace MLNetLora.Text;

/// <summary>
/// Turns conversations into tokens and labels with the checkpoint's own chat template. The template is rendered once; of every character it is known whether it
/// is the template's own or comes from a message, so that control tokens are inserted by id where the template writes them and text that spells one
/// stays text. Labels come from where the template's turns begin and end in that same rendering, never from rendering a part of the conversation
/// again. Immutable: one instance serves any number of threads.
/// </summary>
/// <remarks>
/// <para>What is learned of a turn begins where the generation prompt ends: behind <c>&lt;|im_start|&gt;assistant\n</c>, and behind whatever else the prompt
/// writes there. It ends with &lt;|im_end|&gt;, which is learned; the line break behind it is not. {% generation %} marks in a template do not change
/// this.</para>
/// <para>Where the template reads enable_thinking and nobody sets it, a row is rendered with what fits it: an answer that does not think is learned behind the
/// prompt of enable_thinking=false, whose empty thinking block is prompt and not learned; an answer that thinks is learned with its thinking, behind
/// the prompt of enable_thinking=true.</para>
/// <para>Thinking templates (Qwen3 and later) write an earlier turn otherwise than the last one: without its thinking. <see cref="RewritesHistory"/> tells;
/// <see cref="TokenizeRows(Conversation, LabelScope, int)"/> then makes one row of every answer where all assistant turns are to be learned, in which it is the
/// last turn, as it is when the model gives it.</para>
/// </remarks>
internal sealed class ConversationFormatter
{
    private const string EnableThinking = "enable_thinking";

    private readonly QwenTokenizer _tokenizer;
    private readonly ChatTemplate _template;
    private readonly GenerationPrompt _asked;
    private readonly GenerationPrompt _thinking;
    private readonly GenerationPrompt _plain;
    private readonly GenerationPrompt _withoutThinking;

    /// <summary>Whether the template writes the thinking of the last turn, so that the model was taught to think.</summary>
    private readonly bool _writesThinking;

    /// <summary>
    /// Whether thinking at the head of a message's content has to be given apart: the template would leave it there as it is, or take it out.
    /// </summary>
    private readonly bool _givesThinkingApart;

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
        {
            throw new TokenizerException(
                "The tokenizer has no <|im_start|> or <|im_end|>, which Qwen's conversations are written with. "
                + "Restore tokenizer_config.json (added_tokens_decoder) or tokenizer.json of the checkpoint.");
        }

        (_tokenizer, _template) = (tokenizer, template);
        variables ??= new Dictionary<string, object?>();
        bool knowsThinking = template.Reads(EnableThinking);
        _asked = PromptWith(variables);
        _thinking = knowsThinking ? PromptWith(With(variables, true)) : _asked;
        _withoutThinking = knowsThinking ? PromptWith(With(variables, false)) : _asked;
        _plain = variables.ContainsKey(EnableThinking) ? _asked : _withoutThinking;

        ChatMessage[] thinking = [ChatMessage.User("1"), ChatMessage.Assistant("2", "3"), ChatMessage.User("4"), ChatMessage.Assistant("5", "6")];
        string last = Turns(_thinking, thinking[..2])[0];
        ChatMessage[] plain = [ChatMessage.User("1"), ChatMessage.Assistant("2"), ChatMessage.User("4"), ChatMessage.Assistant("5")];
        string lastPlain = Turns(_plain, plain[..2])[0];
        RewritesHistory = last != Turns(_thinking, thinking)[0]
            || lastPlain != Turns(_plain, plain)[0]
            || !lastPlain.StartsWith(_plain.Text, StringComparison.Ordinal);
        _writesThinking = ThinkTags.IsIn(last[GenerationPrompt.Header.Length..]);
        RenderedTurns question = Render(new Conversation(plain[..1]), addGenerationPrompt: false, _asked.Variables);
        HasDefaultSystem = question.Text.Contains("<|im_start|>system", StringComparison.Ordinal);
        _givesThinkingApart = _writesThinking && (TogetherDiffers("\n", "\n\n") || TogetherDiffers("", ""));

        bool TogetherDiffers(string beside, string behind) =>
            last != Turns(_thinking, [plain[0], ChatMessage.Assistant($"{ThinkTags.Open}{beside}3{beside}{ThinkTags.Close}{behind}2")])[0];
    }

    /// <summary>
    /// Whether the template writes an earlier turn of the assistant otherwise than the last one, as Qwen3's does, which leaves out earlier thinking.
    /// </summary>
    public bool RewritesHistory { get; }

    /// <summary>Whether a prompt ends inside of thinking, so that an answer begins with the rest of it.</summary>
    /// <param name="thinking">What enable_thinking is for this prompt; null for what the variables say. Where the template does not read it, it changes
    /// nothing.</param>
    internal bool OpensThinking(bool? thinking = null) => Asked(thinking).OpensThinking;

    /// <summary>Whether an answer may begin with thinking that the model opens itself: it was taught to, and the prompt has neither opened nor ended
    /// it.</summary>
    /// <param name="thinking">What enable_thinking is for this prompt; null for what the variables say.</param>
    internal bool MayThink(bool? thinking = null) => _writesThinking && !Asked(thinking).Text.Contains(ThinkTags.Open, StringComparison.Ordinal);

    /// <summary>Whether the template writes a system message of its own into a conversation without one.</summary>
    internal bool HasDefaultSystem { get; }

    /// <summary>The tokens from the conversation's start to the place where the assistant is to speak.</summary>
    /// <param name="conversation">A conversation that ends with the user or a tool.</param>
    /// <returns>Ids, [tokens].</returns>
    /// <exception cref="TemplateException">The template refuses the conversation.</exception>
    public int[] Prompt(Conversation conversation) => Prompt(conversation, thinking: null);

    /// <summary>The same, with or without thinking.</summary>
    /// <param name="conversation">A conversation that ends with the user or a tool.</param>
    /// <param name="thinking">What enable_thinking is for this prompt; null for what the variables say.</param>
    /// <returns>Ids, [tokens].</returns>
    /// <exception cref="TemplateException">The template refuses the conversation.</exception>
    public int[] Prompt(Conversation conversation, bool? thinking)
    {
        ArgumentNullException.ThrowIfNull(conversation);
        return Render(conversation, addGenerationPrompt: true, Asked(thinking).Variables).Ids(0);
    }

    /// <summary>
    /// The tokens from the conversation's start to the end of what the assistant has begun to say, without the end of its turn: what the template writes there,
    /// as an answer is learned. Thinking that has begun at the head of the content and has no end is gone on with; thinking that is given apart is whole.
    /// </summary>
    /// <param name="conversation">A conversation that ends with the assistant.</param>
    /// <param name="thinking">What enable_thinking is for this prompt, where the message has not begun; null for what the variables say.</param>
    /// <exception cref="PromptException">The message calls tools, behind which there is nothing to go on with.</exception>
    /// <exception cref="TemplateException">The template refuses the conversation.</exception>
    public AskedPrompt Continuation(Conversation conversation, bool? thinking = null)
    {
        ArgumentNullException.ThrowIfNull(conversation);
        ChatMessage begun = conversation.Messages[^1];
        if (begun.ToolCalls?.Count > 0)
        {
            throw new PromptException(
                "the conversation ends with the assistant's calls of tools, which cannot be gone on with: let the tools' messages follow.");
        }

        string content = begun.Content ?? "";
        if (ThinkTags.IsOpen(content, out string thought) || (content.Length == 0 && begun.Thinking is null))
        {
            GenerationPrompt asked = content.Length == 0 ? Asked(thinking) : _thinking;
            Conversation before = conversation with { Messages = [.. conversation.Messages.SkipLast(1)] };
            int[] ids = Render(before, addGenerationPrompt: true, asked.Variables).Ids(0);
            string said = asked.OpensThinking ? thought : content;
            return new AskedPrompt(
                [.. ids, .. _tokenizer.Encode(said, QwenTokenizer.Recognition.TextTokens)],
                thought.Length > 0 ? AnswerStart.WithinThinking
                : asked.OpensThinking || content.Length > 0 ? AnswerStart.OpenedThinking
                : AnswerStart.Nothing,
                MayThink: content.Length == 0 && MayThink(thinking));
        }

        int count = conversation.Messages.Count(message => message.Role == "assistant");
        (RenderedTurns turns, GenerationPrompt prompt) = RenderAnswer(conversation, count - 1, count);
        RenderedTurns.Turn turn = turns.Assistant[^1];
        IdBuffer buffer = new(turns.Length);
        EncodePrompt(turns, turn, prompt, from: 0, ref buffer);
        turns.Encode(turns.AnswerStart(turn, prompt.Text), turn.End, ref buffer);
        int[] all = buffer.ToArray();
        buffer.Dispose();
        return new AskedPrompt(all, AnswerStart.Answer);
    }

    /// <summary>
    /// The rows of a conversation: one, or one per answer where all assistant turns are learned and the template would write the earlier ones otherwise than
    /// when they are given.
    /// </summary>
    /// <param name="conversation">A conversation with an assistant's message in it.</param>
    /// <param name="scope">Which tokens are learned.</param>
    /// <param name="maximumLength">Tokens beyond this many are cut off at the end of a row; at least 1.</param>
    /// <exception cref="ArgumentException">There is no assistant's message to learn.</exception>
    /// <exception cref="TemplateException">The template refuses the conversation.</exception>
    public IReadOnlyList<TokenizedRow> TokenizeRows(Conversation conversation, LabelScope scope, int maximumLength)
    {
        ArgumentNullException.ThrowIfNull(conversation);
        int answers = conversation.Messages.Count(message => message is { Role: "assistant", IsLearned: true });
        if (scope != LabelScope.AllAssistantTurns || !RewritesHistory || answers < 2)
        {
            return [new TokenizedRow(Tokenize(conversation, scope, maximumLength, out TokenizationReport report), report)];
        }

        // What stands in an earlier turn stands in every later row too, and counts once.
        int counted = 0;
        List<TokenizedRow> rows = [];
        foreach (Conversation part in conversation.PerAnswer())
        {
            TrainingRow row = Tokenize(part, LabelScope.Answer, maximumLength, out TokenizationReport report);
            rows.Add(new TokenizedRow(row, report with { ReplacedCharacters = report.ReplacedCharacters - counted }));
            counted = report.ReplacedCharacters;
            if (report.IsAnswerCutOff)
            {
                break; // so are those behind it: they are counted, as long as this one, since to write thousands of turns thousands of times takes minutes
            }
        }

        TokenizedRow last = rows[^1] with { Report = rows[^1].Report with { ReplacedCharacters = 0 } };
        rows.AddRange(Enumerable.Repeat(last, answers - rows.Count));
        return rows;
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
        {
            return [.. PlainText.Tokenize(_tokenizer, row.Document ?? "", maximumLength)];
        }

        try
        {
            return TokenizeRows(row.Conversation, scope, maximumLength);
        }
        catch (TemplateException error)
        {
            throw new DatasetException($"{row.Where}: {error.Message}", error);
        }
    }

    /// <summary>
    /// The rows of a data set on several threads, in the order of the data set and read while they are enumerated; a few hundred are in memory at a time.
    /// </summary>
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
    /// <param name="conversation">
    /// A conversation with an assistant's message in it. Messages behind the last one that may be learned are left out, except where everything is learned.
    /// </param>
    /// <param name="scope">
    /// Which tokens are learned. Earlier turns are learned as the template writes them: see <see cref="RewritesHistory"/> and <see
    /// cref="TokenizeRows(Conversation, LabelScope, int)"/>.
    /// </param>
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
        {
            throw new ArgumentException("The conversation has no assistant's message to learn.", nameof(conversation));
        }

        if (scope != LabelScope.Everything)
        {
            conversation = conversation with { Messages = [.. conversation.Messages.Take(last + 1)] };
        }

        ChatMessage[] assistant = [.. conversation.Messages.Where(message => message.Role == "assistant")];
        int lastTurn = conversation.Messages.Take(last).Count(message => message.Role == "assistant");
        (RenderedTurns turns, GenerationPrompt prompt) = RenderAnswer(conversation, lastTurn, assistant.Length);
        bool thinks = ThinkTags.IsIn(turns.Body(turns.Assistant[lastTurn]));

        bool endsWithAnswer = conversation.Messages[^1].Role == "assistant";
        int end = endsWithAnswer ? turns.Assistant[^1].After : turns.Length;
        IdBuffer ids = new(turns.Length);
        List<LearnedTokens> learned = [];
        int at = 0;
        for (int i = 0; i < assistant.Length; i++)
        {
            if (!assistant[i].IsLearned || (scope != LabelScope.AllAssistantTurns && i < assistant.Length - 1))
            {
                continue;
            }

            // The answer is encoded apart from what stands before it, as at inference, where it begins with a token of its own.
            RenderedTurns.Turn turn = turns.Assistant[i];
            int start = turns.AnswerStart(turn, prompt.Text);
            if (i == lastTurn)
            {
                EncodePrompt(turns, turn, prompt, at, ref ids);
            }
            else
            {
                turns.Encode(at, start, ref ids);
            }

            int first = ids.Count;
            at = turn.After;
            turns.Encode(start, at, ref ids);
            learned.Add(new LearnedTokens(first, ids.Count));
        }

        turns.Encode(at, end, ref ids);
        int[] all = ids.ToArray();
        ids.Dispose();
        TrainingRow row = LearnedTokens.Row(all, learned, scope, maximumLength, out report);
        report = report with
        {
            ReplacedCharacters = conversation.UnpairedSurrogates,
            HasThinking = thinks,
            LosesThinking = !thinks && !string.IsNullOrWhiteSpace(assistant[lastTurn].Thinking),
        };
        return row;
    }

    /// <summary>
    /// Whether a template writes an answer without thinking otherwise than its own generation prompt would have it: the answer is then learned behind that
    /// prompt, behind which it will be given.
    /// </summary>
    private static bool LacksPrompt(RenderedTurns turns, RenderedTurns.Turn turn, GenerationPrompt prompt) =>
        !prompt.OpensThinking && !turns.BeginsWith(turn, prompt.Text) && !turns.Body(turn).StartsWith(ThinkTags.Open, StringComparison.Ordinal);

    private GenerationPrompt Asked(bool? thinking) => thinking switch
    {
        null => _asked,
        true => _thinking,
        false => _withoutThinking,
    };

    /// <summary>Appends what stands before an answer.</summary>
    private static void EncodePrompt(RenderedTurns turns, RenderedTurns.Turn turn, GenerationPrompt prompt, int from, ref IdBuffer ids)
    {
        if (LacksPrompt(turns, turn, prompt))
        {
            turns.Encode(from, turn.Start, ref ids);
            ids.Add(prompt.Ids);
        }
        else
        {
            turns.Encode(from, turns.AnswerStart(turn, prompt.Text), ref ids);
        }
    }

    private static Dictionary<string, object?> With(IReadOnlyDictionary<string, object?> variables, bool thinking) =>
        new(variables) { [EnableThinking] = thinking };

    /// <summary>Renders with the variables that fit the answer: whether it thinks is what the template makes of it.</summary>
    private (RenderedTurns Turns, GenerationPrompt Prompt) RenderAnswer(Conversation conversation, int answer, int count)
    {
        bool thinks = conversation.Messages.Where(message => message.Role == "assistant").ElementAt(answer) is var message && ThinkTags.IsIn(message);
        RenderedTurns turns = Rendered(thinks);
        bool written = ThinkTags.IsIn(turns.Body(turns.Assistant[answer]));
        return written == thinks || _plain == _thinking ? (turns, Prompt(thinks)) : (Rendered(written), Prompt(written));

        GenerationPrompt Prompt(bool thinking) => thinking ? _thinking : _plain;

        RenderedTurns Rendered(bool thinking)
        {
            RenderedTurns rendered = Render(conversation, addGenerationPrompt: false, Prompt(thinking).Variables);
            return rendered.Assistant.Count == count ? rendered : throw new TemplateException(
                $"The chat template writes {rendered.Assistant.Count} turns of the assistant for {count} messages, so that what is learned cannot be told. "
                + "Join assistant's messages that follow one another.");
        }
    }

    private GenerationPrompt PromptWith(IReadOnlyDictionary<string, object?> variables)
    {
        RenderedTurns turns = Render(new Conversation([ChatMessage.User("1")]), addGenerationPrompt: true, variables);
        string text = turns.Characters(turns.LastTurnStart, turns.Length);
        return text.StartsWith(GenerationPrompt.Header, StringComparison.Ordinal)
            ? new GenerationPrompt(variables, text, turns.Ids(turns.LastTurnStart))
            : throw NoTurns();
    }

    /// <summary>What the template makes of the assistant's turns of a small conversation in which user and assistant take turns.</summary>
    private string[] Turns(GenerationPrompt prompt, ChatMessage[] messages)
    {
        RenderedTurns turns = Render(new Conversation(messages), addGenerationPrompt: false, prompt.Variables);
        return turns.Assistant.Count == messages.Length / 2 ? [.. turns.Assistant.Select(turn => turns.Characters(turn.Start, turn.End))] : throw NoTurns();
    }

    private static TemplateException NoTurns() => new(
        "The chat template does not write an assistant's turn as <|im_start|>assistant … <|im_end|>, so that what is learned cannot be told. "
        + "Use a Qwen checkpoint or replace its chat_template.");

    private RenderedTurns Render(Conversation conversation, bool addGenerationPrompt, IReadOnlyDictionary<string, object?> variables)
    {
        if (_givesThinkingApart && conversation.Messages.Any(IsTogether))
        {
            conversation = conversation with { Messages = [.. conversation.Messages.Select(message => IsTogether(message) ? Apart(message) : message)] };
        }

        return new RenderedTurns(_tokenizer, _template.RenderTagged(conversation, addGenerationPrompt, variables));
    }

    private static bool IsTogether(ChatMessage message) =>
        message is { Role: "assistant", Thinking: null, Content: { } content }
        && content.Contains(ThinkTags.Close, StringComparison.Ordinal)
        && ThinkTags.Split(content).Thinking is not null;

    private static ChatMessage Apart(ChatMessage message)
    {
        (string? thinking, string answer) = ThinkTags.Split(message.Content!);
        return message with { Thinking = thinking, Content = answer };
    }
}

/// <summary>One way in which a template asks for an answer: with or without thinking, where it knows the difference.</summary>
/// <param name="Variables">The template's variables.</param>
/// <param name="Text">
/// What the template writes behind the last &lt;|im_start|&gt; where the assistant is to speak: <c>assistant\n</c>, and behind it perhaps an empty or an open
/// thinking block.
/// </param>
/// <param name="Ids">The same as ids, [tokens].</param>
internal sealed record GenerationPrompt(IReadOnlyDictionary<string, object?> Variables, string Text, int[] Ids)
{
    /// <summary>What every assistant's turn begins with.</summary>
    public const string Header = "assistant\n";

    /// <summary>Whether the answer begins inside of thinking.</summary>
    public bool OpensThinking => ThinkTags.IsOpen(Text);
}
