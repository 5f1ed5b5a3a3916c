using MLNetLora.Text;

namespace MLNetLora.Inference;

public sealed partial class TextGenerator
{
    /// <summary>The checkpoint's tokenizer.</summary>
    public QwenTokenizer Tokenizer => _tokenizer;

    /// <summary>
    /// Continues texts as they are, without the chat template, <see cref="GenerationOptions.BatchSize"/> at a time: for base models, and for prompts that were
    /// rendered elsewhere. Control tokens spelled in a text, such as &lt;|im_start|&gt;, are recognized, and nothing is thinking: all that comes is text.
    /// </summary>
    /// <param name="prompts">The texts, which the answers do not repeat.</param>
    /// <param name="options">Sampling, length, stop strings.</param>
    /// <param name="onText">Called with the text's number, from 0, and what follows it as it comes.</param>
    /// <param name="cancellation">Ends the call with an <see cref="OperationCanceledException"/>.</param>
    /// <returns>What follows each text; one that cannot be continued fails alone: see <see cref="GeneratedText.Error"/>.</returns>
    public IReadOnlyList<GeneratedText> Complete(
        IReadOnlyList<string> prompts, GenerationOptions options, Action<int, string>? onText = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(prompts);
        ArgumentNullException.ThrowIfNull(options);
        return Complete([.. prompts.Select((prompt, i) => Encoded(prompt, $"{nameof(prompts)}[{i}]"))], options, AnswersTo(onText), cancellation);
    }

    /// <summary>Continues a text as it is, as the other overload does many, and gives out what follows as it comes; the last piece holds the whole.</summary>
    /// <param name="prompt">The text, which is not repeated.</param>
    /// <param name="options">Sampling, length, stop strings.</param>
    /// <param name="cancellation">Ends the enumeration with an <see cref="OperationCanceledException"/>.</param>
    /// <returns>The pieces; what would be the <see cref="GeneratedText.Error"/> is thrown.</returns>
    public IAsyncEnumerable<GeneratedChunk> CompleteAsync(string prompt, GenerationOptions options, CancellationToken cancellation = default) =>
        Continue(Encoded(prompt, nameof(prompt)), options, cancellation);

    /// <summary>Continues tokens as they are, as the other overload does a text.</summary>
    /// <param name="ids">Ids of the checkpoint's vocabulary, at least one; they are copied.</param>
    /// <param name="options">Sampling, length, stop strings.</param>
    /// <param name="cancellation">Ends the enumeration with an <see cref="OperationCanceledException"/>.</param>
    /// <returns>The pieces; what would be the <see cref="GeneratedText.Error"/> is thrown.</returns>
    public IAsyncEnumerable<GeneratedChunk> CompleteAsync(IReadOnlyList<int> ids, GenerationOptions options, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(ids);
        return Continue([.. ids], options, cancellation);
    }

    private IAsyncEnumerable<GeneratedChunk> Continue(int[] ids, GenerationOptions options, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(options);
        _model.ThrowIfDisposed();
        options.Validate();
        return AnswerStream.Of(ending => PiecesOf(Texts([ids])[0], options, ending), cancellation);
    }

    private GeneratedText[] Complete(int[][] prompts, GenerationOptions options, Action<int, GeneratedChunk>? onChunk, CancellationToken cancellation) =>
        Answer(Texts(prompts), options, onChunk, cancellation);

    private Question[] Texts(int[][] prompts)
    {
        int vocabulary = _model.Checkpoint.Config.VocabSize;
        return [.. prompts.Select((_, i) => new Question($"Prompt {i + 1}", Ask))];

        AskedPrompt Ask(int i, int? most)
        {
            int[] ids = prompts[i];
            if (ids.Length == 0)
            {
                throw new PromptException("it has no tokens, so there is nothing to go on with.");
            }

            int[] wrong = [.. ids.Where(id => id < 0 || id >= vocabulary).Take(1)];
            return wrong.Length == 0
                ? new AskedPrompt(most < ids.Length ? ids[^most.Value..] : ids, AnswerStart.Answer, Calls: _formatter.Calls)
                : throw new PromptException(
                    FormattableString.Invariant($"it has token {wrong[0]}, but the checkpoint's are those from 0 to {vocabulary - 1}."));
        }
    }

    private int[] Encoded(string prompt, string name)
    {
        ArgumentNullException.ThrowIfNull(prompt, name);
        return _tokenizer.Encode(prompt, QwenTokenizer.Recognition.All);
    }
}
