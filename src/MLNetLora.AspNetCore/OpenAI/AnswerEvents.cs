using System.Runtime.CompilerServices;
using System.Threading.Channels;
using MLNetLora.Inference;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>Begins one of the answers of a request.</summary>
/// <param name="cancellation">Ends it.</param>
internal delegate IAsyncEnumerable<GeneratedChunk> Answering(CancellationToken cancellation);

/// <summary>A piece of one of the answers of a request.</summary>
/// <param name="Choice">Which answer, from 0.</param>
/// <param name="Chunk">The piece; the last one of each answer holds the whole of it.</param>
internal readonly record struct AnswerEvent(int Choice, GeneratedChunk Chunk);

/// <summary>The answers of a request, which come beside each other.</summary>
internal static class AnswerEvents
{
    private const int PiecesAhead = 16;

    /// <summary>The pieces of all answers in the order in which they come. Where one fails, the others end and its error is thrown.</summary>
    /// <param name="answers">The answers; their generations begin with the enumeration.</param>
    /// <param name="cancellation">Ends all of them.</param>
    public static IAsyncEnumerable<AnswerEvent> Merge(IReadOnlyList<Answering> answers, CancellationToken cancellation) =>
        answers.Count == 1 ? One(answers[0], cancellation) : Several(answers, cancellation);

    private static async IAsyncEnumerable<AnswerEvent> One(
        Answering answer, [EnumeratorCancellation] CancellationToken cancellation)
    {
        await foreach (GeneratedChunk chunk in answer(cancellation).ConfigureAwait(false))
        {
            yield return new AnswerEvent(0, chunk);
        }
    }

    private static async IAsyncEnumerable<AnswerEvent> Several(
        IReadOnlyList<Answering> answers, [EnumeratorCancellation] CancellationToken cancellation)
    {
        using CancellationTokenSource ending = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        Channel<AnswerEvent> events = Channel.CreateBounded<AnswerEvent>(new BoundedChannelOptions(PiecesAhead) { SingleReader = true });
        Task all = Complete();
        try
        {
            await foreach (AnswerEvent next in events.Reader.ReadAllAsync(cancellation).ConfigureAwait(false))
            {
                yield return next;
            }
        }
        finally
        {
            await ending.CancelAsync().ConfigureAwait(false);
            await all.ConfigureAwait(false);
        }

        async Task Complete()
        {
            Task[] readers = [.. answers.Select(Copy)];
            await Task.WhenAll(readers).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            events.Writer.TryComplete(); // where one has failed, it is completed with that error already
        }

        async Task Copy(Answering answer, int choice)
        {
            try
            {
                await foreach (GeneratedChunk chunk in answer(ending.Token).ConfigureAwait(false))
                {
                    await events.Writer.WriteAsync(new AnswerEvent(choice, chunk), ending.Token).ConfigureAwait(false);
                }
            }
            catch (Exception error)
            {
                events.Writer.TryComplete(error);
                await ending.CancelAsync().ConfigureAwait(false);
            }
        }
    }
}
