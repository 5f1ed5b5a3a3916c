using MLNetLora.Jinja;

namespace MLNetLora.Text;

/// <summary>A rendered conversation, cut into tokens that are known and text between them, and into turns.</summary>
internal sealed class RenderedTurns
{
    private readonly QwenTokenizer _tokenizer;
    private readonly TaggedText _text;
    private readonly List<(int Start, int Length, int Id)> _tokens = [];
    private readonly List<Turn> _assistant = [];

    /// <summary>Cuts a rendered conversation.</summary>
    /// <param name="tokenizer">The checkpoint's tokenizer.</param>
    /// <param name="text">What the template wrote.</param>
    public RenderedTurns(QwenTokenizer tokenizer, TaggedText text)
    {
        _tokenizer = tokenizer;
        _text = text;
        FindTokens();
        FindTurns();
    }

    /// <summary>Length of the rendered text.</summary>
    public int Length => _text.Length;

    /// <summary>The rendered text.</summary>
    public string Text => _text.Value;

    /// <summary>What the assistant says, in order.</summary>
    public IReadOnlyList<Turn> Assistant => _assistant;

    /// <summary>Index behind the last &lt;|im_start|&gt;; 0 where there is none.</summary>
    public int LastTurnStart { get; private set; }

    /// <summary>The characters of a part.</summary>
    public string Characters(int start, int end) => _text.Value[start..end];

    /// <summary>Whether a turn begins with some characters.</summary>
    public bool BeginsWith(Turn turn, string opening) => _text.Value.AsSpan(turn.Start, turn.End - turn.Start).StartsWith(opening, StringComparison.Ordinal);

    /// <summary>Index at which an assistant's answer begins: behind what the generation prompt would have written, else behind the role.</summary>
    public int AnswerStart(Turn turn, string opening) => turn.Start + (BeginsWith(turn, opening) ? opening.Length : GenerationPrompt.Header.Length);

    /// <summary>What an assistant's turn says, thinking included.</summary>
    public string Body(Turn turn) => Characters(turn.Start + GenerationPrompt.Header.Length, turn.End);

    /// <summary>The ids from a place to the end.</summary>
    public int[] Ids(int start)
    {
        IdBuffer buffer = new(Length - start);
        Encode(start, Length, ref buffer);
        int[] ids = buffer.ToArray();
        buffer.Dispose();
        return ids;
    }

    /// <summary>Appends the ids of a part of the text.</summary>
    public void Encode(int start, int end, ref IdBuffer ids)
    {
        int at = start;
        foreach ((int token, int length, int id) in _tokens)
        {
            if (token < start)
            {
                continue;
            }

            if (token >= end)
            {
                break;
            }

            if (token > at)
            {
                _tokenizer.Encode(_text.Value[at..token], QwenTokenizer.Recognition.None, ref ids);
            }

            ids.Add(id);
            at = token + length;
        }

        if (end > at)
        {
            _tokenizer.Encode(_text.Value[at..end], QwenTokenizer.Recognition.None, ref ids);
        }
    }

    /// <summary>
    /// A control token is one only where every character of it is the template's own. Tokens that models write (&lt;think&gt;, &lt;tool_call&gt;) may also be
    /// an assistant's.
    /// Elsewhere the same characters are text.
    /// </summary>
    private void FindTokens()
    {
        ReadOnlySpan<char> text = _text.Value;
        for (int from = 0; from < text.Length;)
        {
            AddedToken? token = _tokenizer.NextAddedToken(text[from..], out int offset);
            if (token is null)
            {
                return;
            }

            int start = from + offset;
            Origin origin = _text.LeastOf(start, token.Content.Length);
            bool isToken = origin == Origin.Template || (origin == Origin.Assistant && !token.Special);
            if (isToken)
            {
                _tokens.Add((start, token.Content.Length, token.Id));
            }

            from = start + (isToken ? token.Content.Length : 1);
        }
    }

    private void FindTurns()
    {
        int start = -1;
        foreach ((int token, int length, int id) in _tokens)
        {
            if (id == _tokenizer.ImStartId)
            {
                start = token + length;
                LastTurnStart = start;
            }
            else if (id == _tokenizer.ImEndId && start >= 0)
            {
                if (_text.Value.AsSpan(start, token - start).StartsWith(GenerationPrompt.Header, StringComparison.Ordinal))
                {
                    _assistant.Add(new Turn(start, token, token + length));
                }

                start = -1;
            }
        }
    }

    /// <summary>A turn of the assistant.</summary>
    /// <param name="Start">Index behind its &lt;|im_start|&gt;.</param>
    /// <param name="End">Index of its &lt;|im_end|&gt;.</param>
    /// <param name="After">Index behind that.</param>
    internal readonly record struct Turn(int Start, int End, int After);
}
