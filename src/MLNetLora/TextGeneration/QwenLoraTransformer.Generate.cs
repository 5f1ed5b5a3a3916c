using System.Runtime.CompilerServices;
using MLNetLora.Inference;
using MLNetLora.Text;

namespace MLNetLora.TextGeneration;

// Answers without a data view.
public sealed partial class QwenLoraTransformer
{
    /// <summary>Answers one question.</summary>
    /// <param name="instruction">What is asked.</param>
    /// <param name="input">What it is asked about; null or empty for none.</param>
    /// <param name="options">How this answer is generated; null for <see cref="Generation"/>.</param>
    /// <param name="cancellationToken">Ends the generation with an <see cref="OperationCanceledException"/>, within half a second.</param>
    /// <returns>The answer's text; <see cref="Generate(IReadOnlyList{InstructionRow}, GenerationOptions?, CancellationToken)"/> also says why it
    /// ended and what it cost.</returns>
    /// <exception cref="MLNetLoraException">The prompt is too long for the model's context.</exception>
    /// <exception cref="ObjectDisposedException">The transformer was disposed.</exception>
    public string Generate(string instruction, string? input = null, GenerationOptions? options = null, CancellationToken cancellationToken = default) =>
        TextOf(Answer([Question(instruction, input)], options, cancellationToken)[0]);

    /// <summary>Answers the end of a conversation.</summary>
    /// <param name="conversation">A conversation that ends with the user or a tool, with the tools that may be called.</param>
    /// <param name="options">How this answer is generated; null for <see cref="Generation"/>.</param>
    /// <param name="cancellationToken">Ends the generation with an <see cref="OperationCanceledException"/>, within half a second.</param>
    /// <exception cref="MLNetLoraException">The prompt is too long for the model's context, or the checkpoint's chat template refuses the
    /// conversation.</exception>
    /// <exception cref="ObjectDisposedException">The transformer was disposed.</exception>
    public string Generate(Conversation conversation, GenerationOptions? options = null, CancellationToken cancellationToken = default) =>
        TextOf(Answer([TextRow.Of(conversation)], options, cancellationToken)[0]);

    /// <summary>Answers questions together, with what each answer cost and why it ended.</summary>
    /// <param name="rows">What is asked; outputs are not looked at.</param>
    /// <param name="options">How these answers are generated; null for <see cref="Generation"/>.</param>
    /// <param name="cancellationToken">Ends the generation with an <see cref="OperationCanceledException"/>, within half a second.</param>
    /// <returns>An answer for each row in their order; one that failed has a <see cref="GeneratedText.Error"/>.</returns>
    /// <exception cref="ObjectDisposedException">The transformer was disposed.</exception>
    public IReadOnlyList<GeneratedText> Generate(IReadOnlyList<InstructionRow> rows, GenerationOptions? options = null,
        CancellationToken cancellationToken = default) =>
        Answer(TextRow.Of(rows), options, cancellationToken);

    /// <summary>Answers the ends of conversations together, with what each answer cost and why it ended.</summary>
    /// <param name="conversations">Each ends with the user or a tool.</param>
    /// <param name="options">How these answers are generated; null for <see cref="Generation"/>.</param>
    /// <param name="cancellationToken">Ends the generation with an <see cref="OperationCanceledException"/>, within half a second.</param>
    /// <returns>An answer for each conversation in their order; one that failed has a <see cref="GeneratedText.Error"/>.</returns>
    /// <exception cref="ObjectDisposedException">The transformer was disposed.</exception>
    public IReadOnlyList<GeneratedText> Generate(
        IReadOnlyList<Conversation> conversations,
        GenerationOptions? options = null,
        CancellationToken cancellationToken = default) =>
        Answer(TextRow.Of(conversations), options, cancellationToken);

    /// <summary>Answers one question and gives the answer out as it comes; the last piece holds the whole, with finish reason and token counts.</summary>
    /// <param name="instruction">What is asked.</param>
    /// <param name="input">What it is asked about; null or empty for none.</param>
    /// <param name="options">How this answer is generated; null for <see cref="Generation"/>.</param>
    /// <param name="cancellationToken">Ends the enumeration with an <see cref="OperationCanceledException"/>, within half a second.</param>
    /// <returns>
    /// The pieces. The generation begins when the first one is asked for, beside those of other callers, is not held up by a reader who takes his time, and
    /// ends when the enumerator is disposed. A prompt that is too long for the model's context is an <see cref="MLNetLoraException"/> there.
    /// </returns>
    /// <exception cref="ObjectDisposedException">The transformer was disposed.</exception>
    public IAsyncEnumerable<GeneratedChunk> GenerateAsync(
        string instruction,
        string? input = null,
        GenerationOptions? options = null,
        CancellationToken cancellationToken = default) =>
        Stream(Question(instruction, input), options, cancellationToken);

    /// <summary>Answers the end of a conversation and gives the answer out as it comes, as the other overload does for a question.</summary>
    /// <param name="conversation">A conversation that ends with the user or a tool, with the tools that may be called.</param>
    /// <param name="options">How this answer is generated; null for <see cref="Generation"/>.</param>
    /// <param name="cancellationToken">Ends the enumeration with an <see cref="OperationCanceledException"/>, within half a second.</param>
    /// <exception cref="ObjectDisposedException">The transformer was disposed.</exception>
    public IAsyncEnumerable<GeneratedChunk> GenerateAsync(Conversation conversation, GenerationOptions? options = null,
        CancellationToken cancellationToken = default) =>
        Stream(TextRow.Of(conversation), options, cancellationToken);

    /// <summary>The one way to a whole answer: every view, engine and method above that gives no pieces comes here.</summary>
    /// <param name="rows">What is asked.</param>
    /// <param name="options">How; null for <see cref="Generation"/>.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <param name="firstNumber">The number of the first row in errors.</param>
    /// <param name="onChunk">Called with the row's index and pieces of its answer as they come.</param>
    internal IReadOnlyList<GeneratedText> Answer(
        IReadOnlyList<TextRow> rows,
        GenerationOptions? options,
        CancellationToken cancellationToken,
        long firstNumber = 1,
        Action<int, GeneratedChunk>? onChunk = null)
    {
        ThrowIfDisposed();
        options?.Validate();
        using Cancellation cancellation = new(_host, _cancellation, cancellationToken);
        return cancellation.Run(token => _generator.Open(token).Generate(rows, options ?? _model.Generation, onChunk, token, firstNumber));
    }

    /// <summary>The engine, opened where it is not.</summary>
    /// <param name="cancellationToken">Ends the waiting.</param>
    internal async Task<TextGenerator> OpenEngineAsync(CancellationToken cancellationToken)
    {
        ThrowIfDisposed();
        using Cancellation cancellation = new(_host, _cancellation, cancellationToken);
        return await cancellation.RunAsync(_generator.OpenAsync).ConfigureAwait(false);
    }

    /// <summary>Answers a row piece by piece.</summary>
    internal IAsyncEnumerable<GeneratedChunk> Stream(TextRow row, GenerationOptions? options, CancellationToken cancellationToken)
    {
        ThrowIfDisposed();
        options?.Validate();
        return AnswerStream.Of(Pieces, cancellationToken, _cancellation);

        async IAsyncEnumerable<GeneratedChunk> Pieces([EnumeratorCancellation] CancellationToken ending)
        {
            ThrowIfDisposed();
            using Cancellation cancellation = new(_host, CancellationToken.None, ending);
            TextGenerator generator = await _generator.OpenAsync(cancellation.Token).ConfigureAwait(false);
            IAsyncEnumerable<GeneratedChunk> pieces = generator.Pieces(row, options ?? _model.Generation, cancellation.Token);
            await foreach (GeneratedChunk piece in pieces.ConfigureAwait(false))
            {
                yield return piece;
            }
        }
    }

    private static TextRow Question(string instruction, string? input)
    {
        ArgumentNullException.ThrowIfNull(instruction);
        return new TextRow(new InstructionRow(instruction, Input: string.IsNullOrEmpty(input) ? null : input));
    }

    private static string TextOf(GeneratedText answer) => answer.Error is { } error ? throw error : answer.Text;
}
