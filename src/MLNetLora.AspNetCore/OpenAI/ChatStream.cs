using MLNetLora.Inference;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>Writes the answers of a chat as they come.</summary>
/// <param name="id">The answer's.</param>
/// <param name="includeUsage">Whether a last chunk says what they cost.</param>
/// <param name="stream">Where to.</param>
internal sealed class ChatStream(AnswerId id, bool includeUsage, EventStream stream)
{
    private readonly HashSet<int> _begun = [];
    private readonly List<GeneratedText> _answers = [];

    /// <summary>Writes a piece.</summary>
    public async Task SendAsync(AnswerEvent next)
    {
        if (_begun.Add(next.Choice))
        {
            await SendAsync(new ChatChunkChoice(next.Choice, new AnswerDelta { Role = "assistant", Content = "" })).ConfigureAwait(false);
        }

        GeneratedChunk chunk = next.Chunk;
        if (chunk.Text.Length > 0)
        {
            AnswerDelta delta = chunk.IsThinking ? new AnswerDelta { ReasoningContent = chunk.Text } : new AnswerDelta { Content = chunk.Text };
            await SendAsync(new ChatChunkChoice(next.Choice, delta)).ConfigureAwait(false);
        }

        if (chunk.Answer is { } answer)
        {
            _answers.Add(answer);
            await SendAsync(new ChatChunkChoice(next.Choice, new AnswerDelta(), ChatAnswer.FinishReason(answer))).ConfigureAwait(false);
        }
    }

    /// <summary>Ends the stream.</summary>
    public async Task EndAsync()
    {
        if (includeUsage)
        {
            await stream.SendAsync(Chunk([]) with { Usage = ChatAnswer.Usage(_answers) }, WireJson.Instance.ChatChunk).ConfigureAwait(false);
        }

        await stream.DoneAsync().ConfigureAwait(false);
    }

    private Task SendAsync(ChatChunkChoice choice) => stream.SendAsync(Chunk([choice]), WireJson.Instance.ChatChunk);

    private ChatChunk Chunk(IReadOnlyList<ChatChunkChoice> choices) => new(id.Id, id.Created, id.Model, id.Fingerprint, choices);
}
