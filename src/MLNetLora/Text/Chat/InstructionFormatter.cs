namespace MLNetLora.Text;

/// <summary>
/// Turns instruction rows into tokens and labels, part by part: control tokens are inserted by id, the text between them is encoded as plain text, so that text which spells a control
/// token stays text, and a label never depends on finding a place in rendered text again. The prompt of training and that of inference are the same ids.
/// Immutable: one instance serves any number of threads.
/// </summary>
public sealed class InstructionFormatter
{
    private readonly QwenTokenizer _tokenizer;
    private readonly string? _system;
    private readonly string? _promptTemplate;
    private readonly int _start;
    private readonly int _end;
    private readonly int[] _lineBreak;

    /// <summary>Prepares the parts that all rows share.</summary>
    /// <param name="tokenizer">The checkpoint's tokenizer.</param>
    /// <param name="format">How the checkpoint writes conversations.</param>
    /// <param name="systemPrompt">The system message of rows without their own; null for the checkpoint's default, empty for none.</param>
    /// <param name="promptTemplate">
    /// What the user's message is made of, such as <c>根据公司内部知识回答：{instruction}</c>; <c>{input}</c> stands for the input, which otherwise follows the instruction on a new line.
    /// Null for the instruction itself. Earlier turns of a row's history are taken as they are.
    /// </param>
    /// <exception cref="TokenizerException">The tokenizer has no &lt;|im_start|&gt; or &lt;|im_end|&gt;.</exception>
    /// <exception cref="OptionException">The prompt template does not contain {instruction}.</exception>
    public InstructionFormatter(QwenTokenizer tokenizer, ChatFormat format, string? systemPrompt = null, string? promptTemplate = null)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentNullException.ThrowIfNull(format);
        if (promptTemplate is not null && !promptTemplate.Contains("{instruction}", StringComparison.Ordinal))
            throw new OptionException($"The prompt template \"{promptTemplate}\" does not contain {{instruction}}, so that every row would ask the same. Put {{instruction}} where the row's instruction belongs.");
        _tokenizer = tokenizer;
        _system = systemPrompt ?? format.DefaultSystem;
        _promptTemplate = promptTemplate;
        _start = tokenizer.ImStartId ?? throw Missing("<|im_start|>");
        _end = tokenizer.ImEndId ?? throw Missing("<|im_end|>");
        _lineBreak = tokenizer.Encode("\n");

        static TokenizerException Missing(string token) =>
            new($"The tokenizer has no {token}, which Qwen's conversations are written with. Restore tokenizer_config.json (added_tokens_decoder) or tokenizer.json of the checkpoint.");
    }

    /// <summary>The tokens from the conversation's start to the place where the assistant's answer begins; the row's output is not used.</summary>
    /// <param name="row">What is asked.</param>
    /// <returns>Ids, [tokens].</returns>
    public int[] Prompt(InstructionRow row)
    {
        ArgumentNullException.ThrowIfNull(row);
        IdBuffer ids = new(row.Instruction.Length + 64);
        AddPrompt(row, ref ids, learned: null);
        int[] prompt = ids.ToArray();
        ids.Dispose();
        return prompt;
    }

    /// <summary>The tokens of a whole row with their labels.</summary>
    /// <param name="row">A row with an output.</param>
    /// <param name="scope">Which tokens are learned.</param>
    /// <param name="maximumLength">Tokens beyond this many are cut off at the end; at least 1.</param>
    /// <param name="report">What became of the row.</param>
    /// <returns>Ids and labels, [min(tokens, maximumLength)].</returns>
    /// <remarks>The answer is encoded apart from the prompt before it, as at inference, where it begins with a token of its own. &lt;think&gt; and &lt;tool_call&gt; in it are those tokens; control tokens in it are text.</remarks>
    /// <exception cref="ArgumentException">The row has no output.</exception>
    public TrainingRow Tokenize(InstructionRow row, LabelScope scope, int maximumLength, out TokenizationReport report)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentOutOfRangeException.ThrowIfLessThan(maximumLength, 1);
        if (row.Output is null)
            throw new ArgumentException("The row has no output to learn.", nameof(row));
        IdBuffer ids = new(row.Instruction.Length + row.Output.Length + 64);
        List<LearnedTokens> learned = [];
        AddPrompt(row, ref ids, scope == LabelScope.AllAssistantTurns ? learned : null);
        int answer = ids.Count;
        _tokenizer.Encode(row.Output, QwenTokenizer.Recognition.TextTokens, ref ids);
        ids.Add(_end);
        learned.Add(new LearnedTokens(answer, ids.Count));
        int[] all = ids.ToArray();
        ids.Dispose();
        TrainingRow tokenized = LearnedTokens.Row(all, learned, scope, maximumLength, out report);
        report = report with { ReplacedCharacters = row.UnpairedSurrogates };
        return tokenized;
    }

    /// <summary>The user's message, in one pass: what a row brings is never searched for placeholders.</summary>
    internal static string UserMessage(InstructionRow row, string? template)
    {
        string both = string.IsNullOrEmpty(row.Input) ? row.Instruction : $"{row.Instruction}\n{row.Input}";
        if (template is null)
            return both;
        string instruction = template.Contains("{input}", StringComparison.Ordinal) ? row.Instruction : both;
        return string.Join(instruction, template.Split("{instruction}").Select(piece => string.Join(row.Input ?? "", piece.Split("{input}"))));
    }

    private void AddPrompt(InstructionRow row, ref IdBuffer ids, List<LearnedTokens>? learned)
    {
        string? system = string.IsNullOrEmpty(row.System) ? _system : row.System;
        if (!string.IsNullOrEmpty(system))
            AddMessage("system", system, ref ids);
        foreach (InstructionTurn turn in row.History ?? [])
        {
            AddMessage("user", turn.Instruction, ref ids);
            if (learned is null)
                AddMessage("assistant", turn.Output, ref ids);
            else
                learned.Add(AddLearnedTurn(turn.Output, ref ids));
        }
        AddMessage("user", UserMessage(row, _promptTemplate), ref ids);
        ids.Add(_start);
        _tokenizer.Encode("assistant\n", QwenTokenizer.Recognition.None, ref ids);
    }

    /// <summary>An earlier answer that is learned too: apart from what stands before it, as at the inference at which it would be given.</summary>
    private LearnedTokens AddLearnedTurn(string text, ref IdBuffer ids)
    {
        ids.Add(_start);
        _tokenizer.Encode("assistant\n", QwenTokenizer.Recognition.None, ref ids);
        int begin = ids.Count;
        _tokenizer.Encode(text, QwenTokenizer.Recognition.TextTokens, ref ids);
        ids.Add(_end);
        LearnedTokens learned = new(begin, ids.Count);
        ids.Add(_lineBreak);
        return learned;
    }

    private void AddMessage(string role, string text, ref IdBuffer ids)
    {
        ids.Add(_start);
        // Role and text together, because white space at the text's beginning joins the line break in one token.
        _tokenizer.Encode($"{role}\n{text}", role == "assistant" ? QwenTokenizer.Recognition.TextTokens : QwenTokenizer.Recognition.None, ref ids);
        ids.Add(_end);
        ids.Add(_lineBreak);
    }
}
