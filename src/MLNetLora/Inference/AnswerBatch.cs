using System.Threading.Channels;
using MLNetLora.Text;

namespace MLNetLora.Inference;

/// <summary>
/// The prompts of one call, <see cref="GenerationOptions.BatchSize"/> of them at a time: where one is answered, the next begins. The engine's thread makes text
/// of the tokens; the caller's takes it from there, so that a caller who takes his time holds nobody up.
/// </summary>
/// <param name="model">What answers.</param>
/// <param name="options">How.</param>
/// <param name="tokenizer">The checkpoint's.</param>
/// <param name="isThinking">Whether the prompts end inside of thinking.</param>
/// <param name="onAnswer">Called on the caller's thread with a prompt's row and its answer.</param>
/// <param name="onChunk">Called on the caller's thread with a prompt's row and text as it comes.</param>
/// <param name="cancellation">Ends the call.</param>
internal sealed class AnswerBatch(
    CausalLanguageModel model,
    GenerationOptions options,
    QwenTokenizer tokenizer,
    bool isThinking,
    Action<int, GeneratedText> onAnswer,
    Action<int, GeneratedChunk> onChunk,
    CancellationToken cancellation) : IDisposable
{
    private readonly Channel<Event> _events = Channel.CreateUnbounded<Event>(new UnboundedChannelOptions { SingleReader = true });
    private readonly CancellationTokenSource _ending = CancellationTokenSource.CreateLinkedTokenSource(cancellation);

    /// <summary>Answers prompts.</summary>
    /// <param name="prompts">The row and the tokens of each.</param>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public void Run(IReadOnlyList<(int Row, int[] Ids)> prompts)
    {
        GenerationOptions resolved = model.Prepare(options);
        (int begun, int open) = (0, 0);
        try
        {
            while (begun < prompts.Count || open > 0)
            {
                for (; begun < prompts.Count && open < options.BatchSize; begun++, open++)
                {
                    _ = Start(prompts[begun].Row, prompts[begun].Ids, resolved);
                }

                Event next = Next();
                if (next.Chunk is { } chunk)
                {
                    onChunk(next.Row, chunk);
                    continue;
                }

                open--;
                onAnswer(next.Row, next.Answer!.GetAwaiter().GetResult());
            }
        }
        catch
        {
            // Nobody looks at the other answers any more, but their rows must be free before the caller goes on.
            _ending.Cancel();
            while (open > 0)
            {
                open -= Next().Answer is null ? 0 : 1;
            }

            cancellation.ThrowIfCancellationRequested();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _ending.Dispose();

    private async Task Start(int row, int[] ids, GenerationOptions resolved)
    {
        Task<GeneratedText> answer = Answer(row, ids, resolved);
        await ((Task)answer).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _events.Writer.TryWrite(new Event(row, null, answer));
    }

    private async Task<GeneratedText> Answer(int row, int[] ids, GenerationOptions resolved)
    {
        AnswerText text = new(tokenizer, options.StopStrings, isThinking, chunk => _events.Writer.TryWrite(new Event(row, chunk, null)));
        GeneratedIds generated = await model.Start(ids, resolved, text.Add, tokenizer.VocabularySize, _ending.Token).ConfigureAwait(false);
        text.Finish();
        return new GeneratedText(text.Text, generated.Reason, ids.Length, generated.Ids.Count) { Thinking = text.Thinking };
    }

    private Event Next()
    {
        while (true)
        {
            if (_events.Reader.TryRead(out Event next))
            {
                return next;
            }

            _events.Reader.WaitToReadAsync(CancellationToken.None).AsTask().GetAwaiter().GetResult();
        }
    }

    /// <summary>Text of a row, or its end.</summary>
    private readonly record struct Event(int Row, GeneratedChunk? Chunk, Task<GeneratedText>? Answer);
}
