using System.Runtime.CompilerServices;
using System.Threading.Channels;
using MLNetLora.Text;

namespace MLNetLora.Inference;

public sealed partial class TextGenerator
{
    /// <summary>Answers a row for a reader that waits without a thread.</summary>
    /// <param name="row">What is asked.</param>
    /// <param name="options">How.</param>
    /// <param name="ending">Ends it; it must say so before the enumerator is disposed (see <see cref="AnswerStream"/>).</param>
    internal IAsyncEnumerable<GeneratedChunk> Pieces(TextRow row, GenerationOptions options, CancellationToken ending) =>
        PiecesOf(Rows([row], options, ending)[0], options, ending);

    private async IAsyncEnumerable<GeneratedChunk> PiecesOf(
        Question question, GenerationOptions options, [EnumeratorCancellation] CancellationToken ending)
    {
        // As many wait for their reader as he is behind: the engine waits for nobody. All of them are one answer, which has a limit.
        Channel<GeneratedChunk> pieces = Channel.CreateUnbounded<GeneratedChunk>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true });

        // A long prompt takes its time in the template and the tokenizer, and the reader's thread may be one that must not wait.
        (PromptAnswer? answer, GeneratedText whole) = await Task.Run(Begin, ending).ConfigureAwait(false);
        List<GeneratedChunk> rest = [];
        int tokens = 0; // that were given out
        if (answer is not null)
        {
            try
            {
                await foreach (GeneratedChunk piece in pieces.Reader.ReadAllAsync(CancellationToken.None).ConfigureAwait(false))
                {
                    ending.ThrowIfCancellationRequested(); // whatever is there already
                    tokens += piece.Tokens?.Count ?? 0;
                    yield return piece;
                }
            }
            finally
            {
                await answer.EndAsync().ConfigureAwait(false);
            }

            whole = await answer.FinishAsync(rest.Add).ConfigureAwait(false);
            tokens += rest.Sum(piece => piece.Tokens?.Count ?? 0);
        }

        foreach (GeneratedChunk piece in (GeneratedChunk[])[.. rest, new("") { Answer = whole, Tokens = whole.Tokens?.Skip(tokens).ToArray() }])
        {
            ending.ThrowIfCancellationRequested();
            yield return piece;
        }

        (PromptAnswer?, GeneratedText) Begin()
        {
            _model.ThrowIfDisposed();
            if (Prompt(question with { Name = null }, 0, options, out GeneratedText unanswered) is not { } prompt)
            {
                return unanswered.Error is { } error ? throw error : (null, unanswered);
            }

            GenerationOptions resolved = AnswerText.WithEnds(_model.Prepare(options), _tokenizer);
            return (new PromptAnswer(_model, _tokenizer, prompt, resolved,
                piece => pieces.Writer.TryWrite(piece), () => pieces.Writer.TryComplete(), ending), unanswered);
        }
    }
}
