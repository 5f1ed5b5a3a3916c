using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;

namespace MLNetLora.Inference;

/// <summary>Answers instruction rows and conversations in text: the checkpoint's tokenizer and template around a <see cref="CausalLanguageModel"/>.
/// Thread-safe.</summary>
public sealed partial class TextGenerator : IDisposable
{
    private readonly CausalLanguageModel _model;
    private readonly QwenTokenizer _tokenizer;
    private readonly RowFormatter _formatter;

    /// <summary>Opens a checkpoint for answering.</summary>
    /// <param name="checkpoint">The base.</param>
    /// <param name="adapter">An adapter for it, which is asked as it was trained; null for the base alone.</param>
    /// <param name="prompt">What to ask with otherwise; each setting that is null is the adapter's; without an adapter, that of a merged checkpoint,
    /// else the checkpoint's default.</param>
    /// <param name="threads">Threads; 0 takes all cores.</param>
    /// <param name="precision">How the base's weights are held; quantized ones are private memory.</param>
    /// <param name="device">Where it computes; null for the processor.</param>
    /// <param name="engine">How it serves many requests and, with <see cref="EngineOptions.AdapterModules"/>, many adapters; null for the defaults.</param>
    /// <param name="cancellation">Ends the loading with an <see cref="OperationCanceledException"/>.</param>
    /// <exception cref="DeviceException">The device cannot be used.</exception>
    /// <exception cref="OptionException">The prompt sets enable_thinking or an empty system message, and the checkpoint's template does not allow
    /// it.</exception>
    /// <exception cref="TemplateException">The checkpoint's chat template cannot be used.</exception>
    public TextGenerator(
        Checkpoint checkpoint,
        LoraAdapter? adapter = null,
        PromptSettings? prompt = null,
        int threads = 0,
        WeightPrecision precision = WeightPrecision.Checkpoint,
        Device? device = null,
        EngineOptions? engine = null,
        CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        _tokenizer = QwenTokenizer.Load(checkpoint.Folder);
        RequireRows(checkpoint);
        _formatter = Formatter(_tokenizer, checkpoint, adapter, prompt);
        _model = new CausalLanguageModel(checkpoint, adapter, threads, precision, device, engine, cancellation);
    }

    private TextGenerator(TextGenerator other, LoraAdapter adapter, PromptSettings? prompt)
    {
        _tokenizer = other._tokenizer;
        _formatter = Formatter(_tokenizer, other._model.Checkpoint, adapter, prompt);
        _model = other._model.Attach(adapter);
    }

    /// <summary>
    /// Another generator over the same loaded weights, which answers with an adapter. Requests of all of them are answered together, each row with its own
    /// adapter; adapters may have different ranks. This one must have been opened with <see cref="EngineOptions.AdapterModules"/>.
    /// </summary>
    /// <param name="adapter">An adapter for the base: LoRA factors on some of those layers. What takes the base's place (biases, modules_to_save, trained
    /// tokens), DoRA and factors of experts need a generator of their own.</param>
    /// <param name="prompt">What to ask with otherwise; each setting that is null is the adapter's.</param>
    /// <returns>The generator. Its <see cref="Dispose"/> unloads the adapter after its last request. The weights go when this generator and all that were
    /// attached to it have been disposed, in any order.</returns>
    /// <exception cref="AdapterException">The adapter was not made for this base, or cannot be attached; the message says why.</exception>
    /// <exception cref="ObjectDisposedException">The generator was disposed.</exception>
    /// <exception cref="NativeMemoryException">There is too little memory.</exception>
    public TextGenerator Attach(LoraAdapter adapter, PromptSettings? prompt = null)
    {
        ArgumentNullException.ThrowIfNull(adapter);
        _model.ThrowIfDisposed();
        return new TextGenerator(this, adapter, prompt);
    }

    /// <summary>Threads that were asked for; 0 is all cores.</summary>
    internal int Threads => _model.Threads;

    /// <summary>What answers.</summary>
    internal CausalLanguageModel Model => _model;

    /// <summary>The base.</summary>
    internal Checkpoint Checkpoint => _model.Checkpoint;

    /// <summary>Whether the chat template's source names a variable, such as tools.</summary>
    internal bool TemplateReads(string variable) => _formatter.TemplateReads(variable);

    /// <summary>Whether every prompt ends inside of thinking, where a row does not say otherwise.</summary>
    internal bool OpensThinking => _formatter.OpensThinking(null);

    /// <summary>Answers rows in their order, <see cref="GenerationOptions.BatchSize"/> at a time. A row that cannot be answered fails alone: see
    /// <see cref="GeneratedText.Error"/>.</summary>
    /// <param name="rows">What is asked; outputs are not looked at.</param>
    /// <param name="options">Sampling, length, stop strings.</param>
    /// <param name="onText">Called with the row's number, from 0, and new text of its answer as it comes; what could be the start of a stop string is
    /// held back.</param>
    /// <param name="cancellation">Ends the call with an <see cref="OperationCanceledException"/>.</param>
    public IReadOnlyList<GeneratedText> Generate(
        IReadOnlyList<InstructionRow> rows,
        GenerationOptions options,
        Action<int, string>? onText = null,
        CancellationToken cancellation = default) =>
        Generate(TextRow.Of(rows), options, AnswersTo(onText), cancellation);

    /// <summary>Answers conversations in their order, as the other overload does rows.</summary>
    /// <param name="conversations">Each ends with the user or with a tool; see <see cref="GenerationOptions.ContinueFinalMessage"/>.</param>
    /// <param name="options">Sampling, length, stop strings.</param>
    /// <param name="onText">Called with the conversation's number, from 0, and new text of its answer as it comes.</param>
    /// <param name="cancellation">Ends the call with an <see cref="OperationCanceledException"/>.</param>
    public IReadOnlyList<GeneratedText> Reply(
        IReadOnlyList<Conversation> conversations,
        GenerationOptions options,
        Action<int, string>? onText = null,
        CancellationToken cancellation = default) =>
        Generate(TextRow.Of(conversations), options, AnswersTo(onText), cancellation);

    /// <summary>Answers a row and gives the answer out as it comes; the last piece holds the whole, with finish reason and token counts.</summary>
    /// <param name="row">What is asked; its output is not looked at.</param>
    /// <param name="options">Sampling, length, stop strings.</param>
    /// <param name="cancellation">Ends the enumeration with an <see cref="OperationCanceledException"/>.</param>
    /// <returns>
    /// The pieces. The generation begins when the first one is asked for, beside those of other callers, is not held up by a reader who takes his time, and
    /// ends when the enumerator is disposed. What would be the row's <see cref="GeneratedText.Error"/> is thrown.
    /// </returns>
    public IAsyncEnumerable<GeneratedChunk> GenerateAsync(InstructionRow row, GenerationOptions options, CancellationToken cancellation = default) =>
        GenerateAsync(TextRow.Of(row), options, cancellation);

    /// <summary>Answers the end of a conversation and gives the answer out as it comes, as the other overload does for a row.</summary>
    /// <param name="conversation">It ends with the user or with a tool; see <see cref="GenerationOptions.ContinueFinalMessage"/>.</param>
    /// <param name="options">Sampling, length, stop strings.</param>
    /// <param name="cancellation">Ends the enumeration with an <see cref="OperationCanceledException"/>.</param>
    public IAsyncEnumerable<GeneratedChunk> GenerateAsync(Conversation conversation, GenerationOptions options, CancellationToken cancellation = default) =>
        GenerateAsync(TextRow.Of(conversation), options, cancellation);

    internal IAsyncEnumerable<GeneratedChunk> GenerateAsync(TextRow row, GenerationOptions options, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(options);
        _model.ThrowIfDisposed();
        options.Validate();
        return AnswerStream.Of(ending => Pieces(row, options, ending), cancellation);
    }

    /// <summary>Answers rows in their order; a row that cannot be answered has an error instead, and the others are answered.</summary>
    /// <param name="rows">What is asked.</param>
    /// <param name="options">How.</param>
    /// <param name="onChunk">Called with the row's index and pieces of its answer as they come.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <param name="firstNumber">The number of the first row in errors.</param>
    internal IReadOnlyList<GeneratedText> Generate(
        IReadOnlyList<TextRow> rows,
        GenerationOptions options,
        Action<int, GeneratedChunk>? onChunk,
        CancellationToken cancellation,
        long firstNumber = 1)
    {
        ArgumentNullException.ThrowIfNull(options);
        return Answer(Rows(rows, options, cancellation, firstNumber), options, onChunk, cancellation);
    }

    private Question[] Rows(IReadOnlyList<TextRow> rows, GenerationOptions options, CancellationToken cancellation, long firstNumber = 1)
    {
        bool continues = options.ContinueFinalMessage;
        return [.. rows.Select((row, i) => new Question($"Row {firstNumber + i}", Ask, row.Error))];

        AskedPrompt Ask(int i, int? most) =>
            most is { } tokens ? _formatter.Ask(rows[i], continues, tokens, cancellation) : _formatter.Ask(rows[i], continues);
    }

    private GeneratedText[] Answer(
        IReadOnlyList<Question> questions, GenerationOptions options, Action<int, GeneratedChunk>? onChunk, CancellationToken cancellation)
    {
        _model.ThrowIfDisposed();
        options.Validate();
        GeneratedText[] answers = new GeneratedText[questions.Count];
        List<(int Row, AskedPrompt Prompt)> prompts = [];
        for (int i = 0; i < questions.Count; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            if (Prompt(questions[i], i, options, out answers[i]) is { } prompt)
            {
                prompts.Add((i, prompt));
            }
        }

        using AnswerBatch batch = new(_model, options, _tokenizer, (row, answer) => answers[row] = answer, onChunk ?? ((_, _) => { }), cancellation);
        batch.Run(prompts);
        return answers;
    }

    /// <summary>
    /// Waits for nobody: the prompts that other threads are answering get their answer, then memory is freed; every later call and every later batch
    /// of a call throws an <see cref="ObjectDisposedException"/>.
    /// </summary>
    public void Dispose() => _model.Dispose();

    private static Action<int, GeneratedChunk>? AnswersTo(Action<int, string>? onText) => onText is null ? null : (row, chunk) =>
    {
        if (!chunk.IsThinking)
        {
            onText(row, chunk.Text);
        }
    };

    /// <summary>Asks as an adapter was trained, but for what is set.</summary>
    private static RowFormatter Formatter(QwenTokenizer tokenizer, Checkpoint checkpoint, LoraAdapter? adapter, PromptSettings? prompt)
    {
        PromptSettings trained = adapter?.Prompt ?? PromptSettings.Load(checkpoint.Folder);
        RowFormatter formatter = new(
            tokenizer,
            checkpoint.Folder,
            new PromptSettings(
                prompt?.SystemPrompt ?? trained.SystemPrompt,
                prompt?.PromptTemplate ?? trained.PromptTemplate,
                prompt?.EnableThinking ?? trained.EnableThinking));
        _ = formatter.OpensThinking(null); // a template that cannot be used is an error here, not one of every row
        return formatter;
    }

    /// <summary>The prompt of a question; null where it cannot be asked, which the answer then says.</summary>
    private AskedPrompt? Prompt(Question question, int index, GenerationOptions options, out GeneratedText answer)
    {
        int context = _model.Checkpoint.Config.ContextLength;
        answer = new GeneratedText("", FinishReason.Length, 0, 0) { Error = question.Error };
        if (question.Error is not null)
        {
            return null;
        }

        try
        {
            AskedPrompt prompt = question.Ask(index, null);
            int length = prompt.Ids.Length;
            if (length >= context && options.WhenPromptTooLong == PromptOverflow.TruncateLeft)
            {
                prompt = question.Ask(index, context - Math.Min(options.MaximumNewTokens, context / 2));
            }

            answer = answer with { PromptTokens = prompt.Ids.Length };
            if (prompt.Ids.Length < context)
            {
                int unknown = prompt.Ids.FirstOrDefault(id => id >= _model.Checkpoint.Config.VocabSize, -1);
                return unknown < 0 ? prompt : throw new TokenizerException(
                    $"the tokenizer makes token {unknown} of it, but the checkpoint's embedding ends at {_model.Checkpoint.Config.VocabSize - 1}. Restore the "
                    + "tokenizer files of the checkpoint.");
            }

            if (options.WhenPromptTooLong == PromptOverflow.EmptyAnswer)
            {
                return null;
            }

            throw new PromptException(
                $"the prompt has {length} tokens, and the model's context is {context}: nothing is left for an answer. "
                + (options.WhenPromptTooLong == PromptOverflow.TruncateLeft
                    ? "What must stay (system message, tools, all that follows the last question) is too long alone; shorten it."
                    : "Shorten it, or set WhenPromptTooLong to EmptyAnswer or TruncateLeft."));
        }
        catch (MLNetLoraException error) when (error is TemplateException or TokenizerException or PromptException)
        {
            answer = answer with { Error = Named(error, question.Name is { } name ? $"{name}: {error.Message}" : Capital(error.Message)) };
            return null;
        }
    }

    private static string Capital(string sentence) => $"{char.ToUpperInvariant(sentence[0])}{sentence[1..]}";

    private static MLNetLoraException Named(MLNetLoraException error, string message) => error switch
    {
        TemplateException => new TemplateException(message, error),
        TokenizerException => new TokenizerException(message, error),
        _ => new PromptException(message),
    };

    /// <summary>The tokens that every prompt and answer needs must have rows in the checkpoint's embedding.</summary>
    private void RequireRows(Checkpoint checkpoint)
    {
        foreach ((string token, int? id) in ((string, int?)[])[("<|im_start|>", _tokenizer.ImStartId), ("<|im_end|>", _tokenizer.ImEndId)])
        {
            if (id >= checkpoint.Config.VocabSize)
            {
                throw new TokenizerException(
                    $"The tokenizer of {checkpoint.Folder} has {token} as token {id}, but the checkpoint's embedding ends at "
                    + $"{checkpoint.Config.VocabSize - 1}. Restore the tokenizer files of the checkpoint.");
            }
        }
    }

    /// <summary>Something to be answered.</summary>
    /// <param name="Name">What messages call it; null where there is no other.</param>
    /// <param name="Ask">Makes its prompt, given its index and how many tokens the prompt may have; null for all of them.</param>
    /// <param name="Error">Why it cannot be asked; null where it can.</param>
    private readonly record struct Question(string? Name, Func<int, int?, AskedPrompt> Ask, MLNetLoraException? Error = null);
}
