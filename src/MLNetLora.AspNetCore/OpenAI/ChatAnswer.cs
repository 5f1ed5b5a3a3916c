using MLNetLora.Inference;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>Gives the answers of a chat out: piece by piece, or whole.</summary>
/// <param name="call">The call.</param>
/// <param name="request">What was asked for.</param>
/// <param name="id">The answer's.</param>
internal sealed class ChatAnswer(ApiCall call, ChatRequest request, AnswerId id)
{
    private readonly ChatPieces[] _pieces = [.. Enumerable.Range(0, request.Choices).Select(_ => new ChatPieces(request.Tools))];
    private readonly GeneratedText?[] _answers = new GeneratedText?[request.Choices];

    /// <summary>Answers when all answers are whole.</summary>
    public async Task WriteAsync(IReadOnlyList<Answering> answers)
    {
        ChatWhole[] whole = [.. _pieces.Select(_ => new ChatWhole())];
        await call.EachAsync(answers, next =>
        {
            foreach (ChatPiece piece in Take(next))
            {
                whole[next.Choice].Add(piece);
            }
        }).ConfigureAwait(false);
        IReadOnlyList<ChatChoice> choices = [.. whole.Select((answer, i) => new ChatChoice(i, answer.Message(), _pieces[i].FinishReason!)
        {
            Logprobs = request.Generation.TopLogprobs is null ? null : answer.Logprobs(),
        })];
        ChatCompletion completion = new(id.Id, id.Created, id.Model, id.Fingerprint, choices, Usage());
        await call.WriteAsync(completion, WireJson.Instance.ChatCompletion).ConfigureAwait(false);
    }

    /// <summary>Answers with the pieces as they come.</summary>
    public async Task StreamAsync(IReadOnlyList<Answering> answers)
    {
        HashSet<int> begun = [];
        await call.StreamAsync(answers, async next =>
        {
            if (begun.Add(next.Choice))
            {
                await SendAsync(new ChatChunkChoice(next.Choice, new AnswerDelta { Role = "assistant", Content = "" })).ConfigureAwait(false);
            }

            foreach (ChatPiece piece in Take(next))
            {
                await SendAsync(new ChatChunkChoice(next.Choice, piece.Delta) { Logprobs = piece.Logprobs }).ConfigureAwait(false);
            }

            if (_pieces[next.Choice].FinishReason is { } reason)
            {
                await SendAsync(new ChatChunkChoice(next.Choice, new AnswerDelta(), reason)).ConfigureAwait(false);
            }
        }).ConfigureAwait(false);
        if (request.IncludeUsage)
        {
            await call.Events.SendAsync(Chunk([]) with { Usage = Usage() }, WireJson.Instance.ChatChunk).ConfigureAwait(false);
        }

        await call.Events.DoneAsync().ConfigureAwait(false);
    }

    private IReadOnlyList<ChatPiece> Take(AnswerEvent next)
    {
        IReadOnlyList<ChatPiece> pieces = _pieces[next.Choice].Add(next.Chunk);
        if (next.Chunk.Answer is { } answer)
        {
            bool isFirst = _answers.All(other => other is null); // several answers have one prompt, which counts once
            _answers[next.Choice] = answer;
            call.Ended(_pieces[next.Choice].FinishReason!, answer, isFirst);
        }

        return pieces;
    }

    private Usage Usage() => new(_answers.Max(answer => answer!.PromptTokens), _answers.Sum(answer => answer!.NewTokens))
    {
        PromptTokensDetails = new PromptTokensDetails(_answers.Min(answer => answer!.CachedPromptTokens)),
    };

    private Task SendAsync(ChatChunkChoice choice) => call.Events.SendAsync(Chunk([choice]), WireJson.Instance.ChatChunk);

    private ChatChunk Chunk(IReadOnlyList<ChatChunkChoice> choices) => new(id.Id, id.Created, id.Model, id.Fingerprint, choices);
}
