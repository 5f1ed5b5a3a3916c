namespace MLNetLora.Inference;

public sealed partial class TextGenerator
{
    /// <summary>
    /// What the model thinks of tokens that are given: each is looked at behind those before it, beside the requests of other callers. A step is one token, so
    /// it takes as long as generating them would.
    /// </summary>
    /// <param name="ids">Ids of the checkpoint's vocabulary, at least one, and no more than the context has.</param>
    /// <param name="top">How many of the likeliest tokens in each place.</param>
    /// <param name="usesPrefixCache">Whether they are kept for prompts that begin alike.</param>
    /// <param name="cacheSalt">See <see cref="GenerationOptions.CacheSalt"/>.</param>
    /// <param name="cancellation">Ends it with an <see cref="OperationCanceledException"/>.</param>
    /// <returns>All tokens but the first, before which nothing stands, with their log probabilities.</returns>
    internal async Task<IReadOnlyList<GeneratedToken>> ScoreAsync(
        int[] ids, int top, bool usesPrefixCache, string? cacheSalt, CancellationToken cancellation)
    {
        if (ids.Length < 2)
        {
            return [];
        }

        AnswerTokens tokens = new(_tokenizer);
        GenerationOptions options = _model.Prepare(new GenerationOptions
        {
            MaximumNewTokens = ids.Length - 1,
            TopLogprobs = top,
            ForcedTokens = ids[1..],
            UsesPrefixCache = usesPrefixCache,
            CacheSalt = cacheSalt,
        });
        GenerationRequest request = _model.Begin(ids[..1], options, Take, _tokenizer.VocabularySize, cancellation);
        await _model.ResultAsync(request).ConfigureAwait(false);
        return tokens.All;

        bool Take(ChosenToken token)
        {
            tokens.Add(token, 0);
            return false;
        }
    }
}
