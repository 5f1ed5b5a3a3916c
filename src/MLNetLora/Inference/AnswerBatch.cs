using System.Collections.Concurrent;
using MLNetLora.Text;

namespace MLNetLora.Inference;

/// <summary>
/// The prompts of one call, <see cref="GenerationOptions.BatchSize"/> of them at a time: where one is answered, the next begins. The caller's thread takes the
/// text.
/// </summary>
/// <param name="model">What answers.</param>
/// <param name="options">How.</param>
/// <param name="tokenizer">The checkpoint's.</param>
/// <param name="onAnswer">Called on the caller's thread with a prompt's row and its answer.</param>
/// <param name="onChunk">Called on the caller's thread with a prompt's row and text as it comes.</param>
/// <param name="cancellation">Ends the call.</param>
internal sealed class AnswerBatch(
    CausalLanguageModel model,
    GenerationOptions options,
    QwenTokenizer tokenizer,
    Action<int, GeneratedText> onAnswer,
    Action<int, GeneratedChunk> onChunk,
    CancellationToken cancellation) : IDisposable
{
    private readonly BlockingCollection<Event> _events = []; // callers that wait need no thread of the pool
    private readonly CancellationTokenSource _ending = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
    private readonly Dictionary<int, PromptAnswer> _open = [];

    /// <summary>Answers prompts.</summary>
    /// <param name="prompts">The row and the prompt of each.</param>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public void Run(IReadOnlyList<(int Row, AskedPrompt Prompt)> prompts)
    {
        GenerationOptions resolved = AnswerText.WithEnds(model.Prepare(options), tokenizer);
        int begun = 0;
        try
        {
            while (begun < prompts.Count || _open.Count > 0)
            {
                for (; begun < prompts.Count && _open.Count < options.BatchSize; begun++)
                {
                    Begin(prompts[begun].Row, prompts[begun].Prompt, resolved);
                }

                Event next = _events.Take(CancellationToken.None);
                if (next.Chunk is { } chunk)
                {
                    onChunk(next.Row, chunk);
                    continue;
                }

                _open.Remove(next.Row, out PromptAnswer? answer);
                onAnswer(next.Row, answer!.Finish(rest => onChunk(next.Row, rest)));
            }
        }
        catch
        {
            // Nobody looks at the other answers any more, but their rows must be free before the caller goes on.
            _ending.Cancel();
            while (_open.Count > 0)
            {
                Event next = _events.Take(CancellationToken.None);
                if (next.Chunk is null)
                {
                    _open.Remove(next.Row);
                }
            }

            cancellation.ThrowIfCancellationRequested();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _ending.Dispose();
        _events.Dispose();
    }

    private void Begin(int row, AskedPrompt prompt, GenerationOptions resolved) => _open.Add(row, new PromptAnswer(
        model, tokenizer, prompt, resolved, chunk => _events.Add(new Event(row, chunk)), () => _events.Add(new Event(row, null)), _ending.Token));

    /// <summary>Text of a prompt's answer, or, where it is null, its end.</summary>
    private readonly record struct Event(int Row, GeneratedChunk? Chunk);
}
