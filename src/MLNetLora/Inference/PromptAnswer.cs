using MLNetLora.Inference.Constraints;
using MLNetLora.Text;

namespace MLNetLora.Inference;

/// <summary>
/// The answer to one prompt on its way: begun on the engine, whose thread makes text of the tokens and hands pieces on. Whoever waits for them takes them from
/// there, with a thread of his own (<see cref="AnswerBatch"/>) or without one (<see cref="TextGenerator.Pieces"/>), and holds nobody up.
/// </summary>
internal sealed class PromptAnswer
{
    private readonly CausalLanguageModel _model;
    private readonly int _promptTokens;
    private readonly AnswerText _text;
    private readonly GenerationRequest _request;
    private Action<GeneratedChunk> _onChunk;

    /// <summary>Begins the request.</summary>
    /// <param name="model">What answers.</param>
    /// <param name="tokenizer">The checkpoint's.</param>
    /// <param name="prompt">The prompt.</param>
    /// <param name="options">What <see cref="CausalLanguageModel.Prepare"/> gives, with <see cref="AnswerText.WithEnds"/>.</param>
    /// <param name="onChunk">Called with pieces on the engine's thread, for which all other callers wait.</param>
    /// <param name="onEnd">Called when there are no more, and the memory of the row is free; on whatever thread that is, and maybe before this constructor is
    /// through.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <exception cref="ObjectDisposedException">The model was disposed.</exception>
    public PromptAnswer(CausalLanguageModel model, QwenTokenizer tokenizer, AskedPrompt prompt, GenerationOptions options, Action<GeneratedChunk> onChunk,
        Action onEnd, CancellationToken cancellation)
    {
        (_model, _promptTokens, _onChunk) = (model, prompt.Ids.Length, onChunk);
        _text = new AnswerText(tokenizer, options, prompt.Start, chunk => _onChunk(chunk));
        ThinkingPart thinking = prompt.Start is AnswerStart.OpenedThinking or AnswerStart.WithinThinking ? ThinkingPart.Rest
            : prompt.MayThink ? ThinkingPart.Optional
            : ThinkingPart.None;
        ITokenMask? mask = options.Constraint?.Begin(tokenizer, model.Checkpoint.Config.EosTokenIds, thinking, prompt.Calls);
        _request = model.Begin(prompt.Ids, options, _text.Add, tokenizer.VocabularySize, cancellation, onEnd, mask);
    }

    /// <summary>Waits until the memory of the row is free, however the answer has ended.</summary>
    public async Task EndAsync() => await ((Task)_request.Answer).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);

    /// <summary>The whole answer, which is waited for.</summary>
    /// <param name="rest">Receives pieces that no token brought.</param>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public GeneratedText Finish(Action<GeneratedChunk> rest) => Finish(_model.Result(_request), rest);

    /// <summary>The whole answer, for who waits without a thread.</summary>
    /// <param name="rest">Receives pieces that no token brought.</param>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public async Task<GeneratedText> FinishAsync(Action<GeneratedChunk> rest) => Finish(await _model.ResultAsync(_request).ConfigureAwait(false), rest);

    private GeneratedText Finish(GeneratedIds generated, Action<GeneratedChunk> rest)
    {
        _onChunk = rest;
        _text.Finish();
        return new GeneratedText(_text.Text, generated.Reason, _promptTokens, generated.Ids.Count)
        {
            Thinking = _text.Thinking,
            ThinkingTokens = _text.ThinkingTokens,
            Tokens = _text.Tokens,
            CachedPromptTokens = generated.KnownPromptTokens,
            GuessedTokens = generated.GuessedTokens,
        };
    }
}
