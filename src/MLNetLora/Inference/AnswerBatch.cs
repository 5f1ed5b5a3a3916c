using System.Collections.Concurrent;
using MLNetLora.Inference.Constraints;
using MLNetLora.Text;

namespace MLNetLora.Inference;

/// <summary>
/// The prompts of one call, <see cref="GenerationOptions.BatchSize"/> of them at a time: where one is answered, the next begins. The engine's thread makes text
/// of the tokens; the caller's takes it from there, so that a caller who takes his time holds nobody up.
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

    /// <summary>Answers prompts.</summary>
    /// <param name="prompts">The row and the prompt of each.</param>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public void Run(IReadOnlyList<(int Row, AskedPrompt Prompt)> prompts)
    {
        GenerationOptions resolved = AnswerText.WithEnds(model.Prepare(options), tokenizer);
        (int begun, int open) = (0, 0);
        try
        {
            while (begun < prompts.Count || open > 0)
            {
                for (; begun < prompts.Count && open < options.BatchSize; begun++, open++)
                {
                    Begin(prompts[begun].Row, prompts[begun].Prompt, resolved);
                }

                Event next = _events.Take(CancellationToken.None);
                if (next.Chunk is { } chunk)
                {
                    onChunk(next.Answering.Row, chunk);
                    continue;
                }

                open--;
                onAnswer(next.Answering.Row, next.Answering.Finish(model));
            }
        }
        catch
        {
            // Nobody looks at the other answers any more, but their rows must be free before the caller goes on.
            _ending.Cancel();
            while (open > 0)
            {
                open -= _events.Take(CancellationToken.None).Chunk is null ? 1 : 0;
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

    private void Begin(int row, AskedPrompt prompt, GenerationOptions resolved)
    {
        Answering answering = new(row, prompt.Ids);
        answering.Text = new AnswerText(tokenizer, resolved, prompt.Start, chunk =>
        {
            if (answering.HasEnded)
            {
                onChunk(row, chunk);
            }
            else
            {
                _events.Add(new Event(answering, chunk));
            }
        });
        ThinkingPart thinking = prompt.Start is AnswerStart.OpenedThinking or AnswerStart.WithinThinking ? ThinkingPart.Rest
            : prompt.MayThink ? ThinkingPart.Optional
            : ThinkingPart.None;
        ITokenMask? mask = options.Constraint?.Begin(tokenizer, model.Checkpoint.Config.EosTokenIds, thinking, prompt.Calls);
        answering.Request = model.Begin(
            prompt.Ids, resolved, answering.Text.Add, tokenizer.VocabularySize, _ending.Token, () => _events.Add(new Event(answering, null)), mask);
    }

    /// <summary>A prompt on its way.</summary>
    private sealed class Answering(int row, int[] prompt)
    {
        public int Row => row;

        public AnswerText? Text { get; set; }

        public GenerationRequest? Request { get; set; }

        /// <summary>Whether there are no more tokens; what waits of the text is then given out on the caller's thread.</summary>
        public bool HasEnded { get; private set; }

        public GeneratedText Finish(CausalLanguageModel model)
        {
            GeneratedIds generated = model.Result(Request!);
            HasEnded = true;
            Text!.Finish();
            return new GeneratedText(Text.Text, generated.Reason, prompt.Length, generated.Ids.Count)
            {
                Thinking = Text.Thinking,
                ThinkingTokens = Text.ThinkingTokens,
                Tokens = Text.Tokens,
                CachedPromptTokens = generated.KnownPromptTokens,
                GuessedTokens = generated.GuessedTokens,
            };
        }
    }

    /// <summary>Text of a prompt's answer, or, where it is null, its end.</summary>
    private readonly record struct Event(Answering Answering, GeneratedChunk? Chunk);
}
