using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using MLNetLora.Inference;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>A piece of an answer for a client.</summary>
/// <param name="Delta">What is new.</param>
/// <param name="Logprobs">The tokens that came with it, where they are asked for.</param>
internal sealed record ChatPiece(AnswerDelta Delta, LogprobsContent? Logprobs);

/// <summary>Turns the pieces of one answer into what a client gets: text, thinking apart from it, calls of tools, and at the end why it ended.</summary>
internal sealed class ChatPieces
{
    private readonly ChatTools _tools;
    private readonly ToolCallReader? _reader;
    private readonly Logprobs _logprobs = new();
    private List<AnswerDelta> _ready = [];
    private int _calls;

    /// <summary>Pieces of one answer.</summary>
    /// <param name="tools">What it may call.</param>
    public ChatPieces(ChatTools tools)
    {
        _tools = tools;
        _reader = tools.Descriptions.Count > 0 ? new ToolCallReader(Call, text => _ready.Add(new AnswerDelta { Content = text })) : null;
    }

    /// <summary>Why it ended; null while it has not.</summary>
    public string? FinishReason { get; private set; }

    /// <summary>Takes the next piece.</summary>
    /// <returns>What there is to give out.</returns>
    public IReadOnlyList<ChatPiece> Add(GeneratedChunk chunk)
    {
        _logprobs.Add(chunk);
        if (chunk.Text.Length > 0)
        {
            if (chunk.IsThinking)
            {
                _ready.Add(new AnswerDelta { ReasoningContent = chunk.Text });
            }
            else if (_reader is null)
            {
                _ready.Add(new AnswerDelta { Content = chunk.Text });
            }
            else
            {
                _reader.Add(chunk.Text);
            }
        }

        if (chunk.Answer is { } answer)
        {
            bool isCut = answer.Reason == Inference.FinishReason.Length;
            _reader?.Finish(isWhole: !isCut);
            FinishReason = isCut ? "length" : _calls > 0 ? "tool_calls" : "stop";
        }

        IReadOnlyList<ChatPiece> ready = [.. _ready.Select(delta => new ChatPiece(delta, delta.ReasoningContent is null ? _logprobs.Take() : null))];
        _ready = [];
        return ready;
    }

    private bool Call(string body)
    {
        if (ToolCallSyntax.Parse(body, _tools.Schemas) is not { } call)
        {
            return false;
        }

        FunctionCallAnswer function = new(call.Name, Arguments(call.Arguments ?? new Dictionary<string, object?>()));
        _ready.Add(new AnswerDelta { ToolCalls = [new ToolCallAnswer(call.CallId, function) { Index = _calls++ }] });
        return true;
    }

    private static string Arguments(IDictionary<string, object?> arguments)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = new(stream, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            foreach ((string name, object? value) in arguments)
            {
                json.WritePropertyName(name);
                if (value is JsonElement element)
                {
                    element.WriteTo(json);
                }
                else
                {
                    json.WriteNullValue(); // the parser has JSON and null alone
                }
            }

            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(stream.ToArray());
    }
}

/// <summary>Puts the pieces of one answer together again, for clients that wait for the whole.</summary>
internal sealed class ChatWhole
{
    private readonly StringBuilder _content = new();
    private readonly StringBuilder _reasoning = new();
    private readonly List<ToolCallAnswer> _calls = [];
    private readonly List<LogprobAnswer> _tokens = [];

    /// <summary>Takes what was given out.</summary>
    public void Add(ChatPiece piece)
    {
        AnswerDelta delta = piece.Delta;
        _tokens.AddRange(piece.Logprobs?.Content ?? []);
        _content.Append(delta.Content);
        _reasoning.Append(delta.ReasoningContent);
        _calls.AddRange((delta.ToolCalls ?? []).Select(call => call with { Index = null }));
    }

    /// <summary>The tokens with their log probabilities.</summary>
    public LogprobsContent Logprobs() => new(_tokens);

    /// <summary>The message; one that only calls has no content.</summary>
    public AnswerMessage Message() => new(_calls.Count > 0 && _content.Length == 0 ? null : _content.ToString())
    {
        ReasoningContent = _reasoning.Length > 0 ? _reasoning.ToString() : null,
        ToolCalls = _calls.Count > 0 ? _calls : null,
    };
}
