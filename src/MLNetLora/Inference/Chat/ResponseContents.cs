using Microsoft.Extensions.AI;

namespace MLNetLora.Inference;

/// <summary>Turns the pieces of an answer into contents of a response: text, thinking, calls, and at the end what it cost.</summary>
internal sealed class ResponseContents
{
    private readonly ChatRequest _request;
    private readonly ToolCallReader? _reader;
    private List<AIContent> _ready = [];
    private bool _hasCalls;

    /// <summary>Contents of one response.</summary>
    /// <param name="request">What was asked for.</param>
    public ResponseContents(ChatRequest request)
    {
        _request = request;
        _reader = request.Tools.Count > 0 ? new ToolCallReader(Call, text => _ready.Add(new TextContent(text))) : null;
    }

    /// <summary>Takes the next piece.</summary>
    /// <returns>With the last piece, why the answer ended.</returns>
    public ChatFinishReason? Add(GeneratedChunk chunk)
    {
        if (chunk.Answer is { } answer)
        {
            bool isCut = answer.Reason == FinishReason.Length;
            _reader?.Finish(isWhole: !isCut);
            _ready.Add(new UsageContent(Usage(answer)));
            return isCut ? ChatFinishReason.Length : _hasCalls ? ChatFinishReason.ToolCalls : ChatFinishReason.Stop;
        }

        if (chunk.IsThinking)
        {
            if (_request.ShowsThinking)
            {
                _ready.Add(new TextReasoningContent(chunk.Text));
            }
        }
        else if (_reader is not null)
        {
            _reader.Add(chunk.Text);
        }
        else
        {
            _ready.Add(new TextContent(chunk.Text));
        }

        return null;
    }

    /// <summary>What is ready to be given out; it is given out once.</summary>
    public IList<AIContent> Take()
    {
        List<AIContent> ready = _ready;
        _ready = [];
        return ready;
    }

    private static UsageDetails Usage(GeneratedText answer) => new()
    {
        InputTokenCount = answer.PromptTokens,
        OutputTokenCount = answer.NewTokens,
        TotalTokenCount = answer.PromptTokens + answer.NewTokens,
        CachedInputTokenCount = answer.CachedPromptTokens,
        ReasoningTokenCount = answer.ThinkingTokens,
    };

    private bool Call(string body)
    {
        if (ToolCallSyntax.Parse(body, _request.Schemas) is not { } call)
        {
            return false;
        }

        _ready.Add(call);
        return _hasCalls = true;
    }
}
