using System.Text;
using MLNetLora.Inference;
using MLNetLora.Text;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>Gives the continuations of prompts out: piece by piece, or whole.</summary>
/// <param name="call">The call.</param>
/// <param name="request">What was asked for.</param>
/// <param name="generator">The model.</param>
/// <param name="prompts">The tokens of the prompts.</param>
/// <param name="id">The answer's.</param>
internal sealed class CompletionAnswer(ApiCall call, CompletionRequest request, TextGenerator generator, IReadOnlyList<int[]> prompts, AnswerId id)
{
    private readonly CompletionTokens?[] _tokens =
        [.. Enumerable.Range(0, prompts.Count * request.Choices).Select(_ => request.Logprobs is { } top ? new CompletionTokens(top) : null)];

    private readonly GeneratedText?[] _answers = new GeneratedText?[prompts.Count * request.Choices];
    private readonly IReadOnlyList<GeneratedToken>?[] _scores = new IReadOnlyList<GeneratedToken>?[prompts.Count];

    /// <summary>Answers.</summary>
    public async Task RunAsync()
    {
        if (request.Echo && request.Logprobs is { } top)
        {
            await call.AliveAsync(request.Stream, ScoreAsync(top)).ConfigureAwait(false);
        }

        await (request.Stream ? StreamAsync() : WriteAsync()).ConfigureAwait(false);
    }

    private async Task ScoreAsync(int top)
    {
        CancellationToken cancellation = call.Context.RequestAborted;
        IReadOnlyList<GeneratedToken>[] scores = await Task.WhenAll(prompts.Select(
            ids => generator.ScoreAsync(ids, top, request.UsesPrefixCache, request.CacheSalt, cancellation))).ConfigureAwait(false);
        scores.CopyTo(_scores, 0);
    }

    private async Task WriteAsync()
    {
        StringBuilder[] texts = [.. _answers.Select((_, i) => new StringBuilder(Head(i)))];
        CompletionLogprobs?[] logprobs = new CompletionLogprobs?[texts.Length];
        if (request.Generation is not null)
        {
            await call.EachAsync(Answers(), next =>
            {
                texts[next.Choice].Append(next.Chunk.Text);
                Take(next);
            }).ConfigureAwait(false);
        }

        CompletionChoice[] choices =
            [.. texts.Select((text, i) => new CompletionChoice(i, text.ToString(), Reason(_answers[i])) { Logprobs = _tokens[i]?.Take() })];
        await call.WriteAsync(Completion(choices) with { Usage = Usage() }, WireJson.Instance.Completion).ConfigureAwait(false);
    }

    private async Task StreamAsync()
    {
        for (int i = 0; i < _answers.Length; i++)
        {
            if (Head(i) is { Length: > 0 } head)
            {
                await SendAsync(new CompletionChoice(i, head, request.Generation is null ? Reason(null) : null) { Logprobs = _tokens[i]?.Take() })
                    .ConfigureAwait(false);
            }
        }

        if (request.Generation is not null)
        {
            await call.StreamAsync(Answers(), async next =>
            {
                Take(next);
                GeneratedText? answer = next.Chunk.Answer;
                if (answer is not null || next.Chunk.Text.Length > 0)
                {
                    await SendAsync(new CompletionChoice(next.Choice, next.Chunk.Text, answer is null ? null : Reason(answer))
                    {
                        Logprobs = _tokens[next.Choice]?.Take(),
                    }).ConfigureAwait(false);
                }
            }).ConfigureAwait(false);
        }

        if (request.IncludeUsage)
        {
            await call.Events.SendAsync(Completion([]) with { Usage = Usage() }, WireJson.Instance.Completion).ConfigureAwait(false);
        }

        await call.Events.DoneAsync().ConfigureAwait(false);
    }

    private IReadOnlyList<Answering> Answers() => [.. _answers.Select((_, i) => Answer(prompts[i / request.Choices], i % request.Choices))];

    private Answering Answer(int[] ids, int choice) =>
        cancellation => generator.CompleteAsync(ids, Sampling.ForChoice(request.Generation!, choice), cancellation);

    /// <summary>What an answer begins with: its prompt where that is to be echoed, whose tokens come first then.</summary>
    private string Head(int choice)
    {
        if (!request.Echo)
        {
            return "";
        }

        int prompt = choice / request.Choices;
        if (_tokens[choice] is { } tokens)
        {
            tokens.AddFirst(generator.Tokenizer.Bytes(prompts[prompt][0], skipSpecialTokens: false).ToArray());
            foreach (GeneratedToken token in _scores[prompt]!)
            {
                tokens.Add(token);
            }
        }

        return request.Prompts[prompt].Text ?? generator.Tokenizer.Decode(prompts[prompt], skipSpecialTokens: false);
    }

    private void Take(AnswerEvent next)
    {
        foreach (GeneratedToken token in next.Chunk.Tokens ?? [])
        {
            _tokens[next.Choice]?.Add(token);
        }

        if (next.Chunk.Answer is { } answer)
        {
            int first = next.Choice - (next.Choice % request.Choices);
            bool isFirst = _answers.Skip(first).Take(request.Choices).All(other => other is null);
            _answers[next.Choice] = answer;
            call.Ended(Reason(answer), answer, isFirst);
        }
    }

    private static string Reason(GeneratedText? answer) => answer?.Reason == FinishReason.Stop ? "stop" : "length";

    private Usage Usage()
    {
        int cached = 0;
        for (int i = 0; i < _answers.Length; i += request.Choices)
        {
            cached += _answers.Skip(i).Take(request.Choices).Min(answer => answer?.CachedPromptTokens ?? 0);
        }

        return new Usage(prompts.Sum(ids => ids.Length), _answers.Sum(answer => answer?.NewTokens ?? 0))
        {
            PromptTokensDetails = new PromptTokensDetails(cached),
        };
    }

    private Task SendAsync(CompletionChoice choice) => call.Events.SendAsync(Completion([choice]), WireJson.Instance.Completion);

    private Completion Completion(IReadOnlyList<CompletionChoice> choices) => new(id.Id, id.Created, id.Model, id.Fingerprint, choices);
}
