using System.Text;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Text;

namespace MLNetLora.Inference;

/// <summary>An answer with what it cost.</summary>
/// <param name="Text">The answer, control tokens and stop string left out.</param>
/// <param name="Reason">Why it ended.</param>
/// <param name="PromptTokens">Tokens of the prompt.</param>
/// <param name="NewTokens">Tokens generated, an ending eos included.</param>
public sealed record GeneratedText(string Text, FinishReason Reason, int PromptTokens, int NewTokens)
{
    /// <summary>What the model thought before it answered, without &lt;think&gt; and &lt;/think&gt;; null where it did not think.</summary>
    public string? Thinking { get; init; }

    /// <summary>Why the row could not be answered: its prompt is too long, or the chat template refuses it. <see cref="Text"/> is empty then. Null where all is well.</summary>
    public MLNetLoraException? Error { get; init; }
}

/// <summary>Answers instruction rows and conversations in text: the checkpoint's tokenizer and template around a <see cref="CausalLanguageModel"/>. Thread-safe.</summary>
public sealed class TextGenerator : IDisposable
{
    private readonly CausalLanguageModel _model;
    private readonly QwenTokenizer _tokenizer;
    private readonly RowFormatter _formatter;

    /// <summary>Opens a checkpoint for answering.</summary>
    /// <param name="checkpoint">The base.</param>
    /// <param name="adapter">An adapter for it; null for the base alone.</param>
    /// <param name="systemPrompt">The system message of rows without their own; null for the one that the adapter was trained with, else the checkpoint's default; empty for none.</param>
    /// <param name="promptTemplate">What the user's message is made of, see <see cref="InstructionFormatter"/>; null for what the adapter was trained with.</param>
    /// <param name="threads">Threads; 0 takes all cores.</param>
    /// <param name="enableThinking">The chat template's enable_thinking; null for what the adapter was trained with, else unsaid.</param>
    /// <param name="precision">How the base's weights are held; rounded ones are private memory.</param>
    /// <exception cref="OptionException"><paramref name="enableThinking"/> is given and the checkpoint's template does not read enable_thinking.</exception>
    public TextGenerator(Checkpoint checkpoint, LoraAdapter? adapter = null, string? systemPrompt = null, string? promptTemplate = null, int threads = 0, bool? enableThinking = null, WeightPrecision precision = WeightPrecision.Checkpoint)
    {
        _tokenizer = QwenTokenizer.Load(checkpoint.Folder);
        PromptSettings trained = adapter?.Prompt ?? new PromptSettings();
        _formatter = new RowFormatter(_tokenizer, checkpoint.Folder,
            new PromptSettings(systemPrompt ?? trained.SystemPrompt, promptTemplate ?? trained.PromptTemplate, enableThinking ?? trained.EnableThinking));
        _model = new CausalLanguageModel(checkpoint, adapter, threads, precision);
    }

    /// <summary>Answers rows in their order, <see cref="GenerationOptions.BatchSize"/> at a time.</summary>
    /// <param name="rows">What is asked; outputs are not looked at.</param>
    /// <param name="options">Sampling, length, stop strings.</param>
    /// <param name="onText">Called with the row's number and new text as it comes; what could be the start of a stop string is held back.</param>
    /// <param name="cancellation">Ends the call with an <see cref="OperationCanceledException"/>.</param>
    public IReadOnlyList<GeneratedText> Generate(IReadOnlyList<InstructionRow> rows, GenerationOptions options, Action<int, string>? onText = null, CancellationToken cancellation = default) =>
        Generate([.. rows.Select(row => new TextRow(Instruction: row))], options, onText, cancellation);

    /// <summary>Answers conversations in their order, as <see cref="Generate(IReadOnlyList{InstructionRow}, GenerationOptions, Action{int, string}?, CancellationToken)"/> does rows.</summary>
    /// <param name="conversations">Each ends with the user or with a tool.</param>
    /// <param name="options">Sampling, length, stop strings.</param>
    /// <param name="onText">Called with the conversation's number and new text as it comes.</param>
    /// <param name="cancellation">Ends the call with an <see cref="OperationCanceledException"/>.</param>
    /// <exception cref="TemplateException">The checkpoint's chat template refuses a conversation.</exception>
    public IReadOnlyList<GeneratedText> Reply(IReadOnlyList<Conversation> conversations, GenerationOptions options, Action<int, string>? onText = null, CancellationToken cancellation = default) =>
        Generate([.. conversations.Select(conversation => new TextRow(Conversation: conversation))], options, onText, cancellation);

    internal IReadOnlyList<GeneratedText> Generate(IReadOnlyList<TextRow> rows, GenerationOptions options, Action<int, string>? onText, CancellationToken cancellation)
    {
        _model.ThrowIfDisposed();
        options.Validate();
        List<GeneratedText> answers = [];
        foreach (TextRow[] chunk in rows.Chunk(options.BatchSize))
        {
            int first = answers.Count;
            int[][] prompts = [.. chunk.Select(_formatter.Prompt)];
            Answer[] texts = [.. chunk.Select((_, i) => new Answer(_tokenizer, options.StopStrings, text => onText?.Invoke(first + i, text)))];
            IReadOnlyList<GeneratedIds> generated = _model.Generate(prompts, options, (row, token) => texts[row].Add(token), _tokenizer.VocabularySize, cancellation);
            for (int i = 0; i < chunk.Length; i++)
            {
                answers.Add(new GeneratedText(texts[i].Finish(), generated[i].Reason, prompts[i].Length, generated[i].Ids.Count));
            }
        }

        return answers;
    }

    /// <summary>
    /// Waits for nobody: the prompts that other threads are answering get their answer, then memory is freed; every later call and every later batch of a call throws an
    /// <see cref="ObjectDisposedException"/>.
    /// </summary>
    public void Dispose() => _model.Dispose();

    /// <summary>Text as it grows: whole characters only, cut at the first stop string.</summary>
    private sealed class Answer(QwenTokenizer tokenizer, IReadOnlyList<string> stops, Action<string> emit)
    {
        private readonly StreamingDecoder _decoder = tokenizer.CreateStreamingDecoder(skipSpecialTokens: true);
        private readonly StringBuilder _text = new();
        private int _emitted;
        private bool _stopped;

        public bool Add(int token)
        {
            // Every answer is trained to end with im_end, and a base checkpoint's configuration does not name it.
            if (token == tokenizer.ImEndId || token == tokenizer.EndOfTextId)
            {
                return true;
            }

            Append(_decoder.Add(token));
            return _stopped;
        }

        public string Finish()
        {
            if (!_stopped)
            {
                Append(_decoder.Finish());
                Emit(_text.Length);
            }

            return _text.ToString();
        }

        private void Append(string text)
        {
            _text.Append(text);
            string all = stops.Count > 0 ? _text.ToString() : "";
            int stop = stops.Select(s => all.IndexOf(s, StringComparison.Ordinal)).Where(at => at >= 0).DefaultIfEmpty(-1).Min();
            if (stop >= 0)
            {
                _text.Length = stop;
                _stopped = true;
                Emit(stop);
                return;
            }

            // The longest end of the text that a stop string begins with waits.
            int held = stops.Select(s => Enumerable.Range(1, Math.Min(s.Length - 1, all.Length)).Where(n => all.EndsWith(s[..n], StringComparison.Ordinal)).DefaultIfEmpty(0).Max()).DefaultIfEmpty(0).Max();
            Emit(_text.Length - held);
        }

        private void Emit(int upTo)
        {
            if (upTo > _emitted)
            {
                emit(_text.ToString(_emitted, upTo - _emitted));
                _emitted = upTo;
            }
        }
    }
}
