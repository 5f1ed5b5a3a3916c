using System.Text;
using MLNetLora.Text;

namespace MLNetLora.Inference;

/// <summary>
/// Tokens of an answer become text as they come: whole characters only, thinking apart from the answer, the answer cut at the first stop string. What could be
/// the beginning of a tag or of a stop string waits. For one answer on one thread at a time.
/// </summary>
/// <param name="tokenizer">The checkpoint's tokenizer.</param>
/// <param name="stops">Strings before which the answer ends; not looked for in the thinking.</param>
/// <param name="isThinking">Whether the prompt ended inside of thinking.</param>
/// <param name="emit">Receives the pieces.</param>
internal sealed class AnswerText(QwenTokenizer tokenizer, IReadOnlyList<string> stops, bool isThinking, Action<GeneratedChunk> emit)
{
    private readonly StreamingDecoder _decoder = tokenizer.CreateStreamingDecoder(skipSpecialTokens: true);
    private readonly StringBuilder _thinking = new();
    private readonly StringBuilder _answer = new();
    private readonly int _longestStop = stops.Select(stop => stop.Length).DefaultIfEmpty().Max();

    /// <summary>Text that came and of which it is not known yet what it is.</summary>
    private string _pending = "";
    private Part _part = isThinking ? Part.Thinking : Part.Beginning;
    private int _emitted;
    private bool _stopped;

    private enum Part
    {
        /// <summary>Nothing but white space, or the beginning of &lt;think&gt;.</summary>
        Beginning,

        /// <summary>Between the tags.</summary>
        Thinking,

        /// <summary>Behind &lt;/think&gt;, where line breaks separate the answer.</summary>
        Gap,

        /// <summary>The answer.</summary>
        Answer,
    }

    /// <summary>The answer so far.</summary>
    public string Text => _answer.ToString();

    /// <summary>What was thought; null where that is nothing but white space.</summary>
    public string? Thinking => _thinking.ToString() is { } text && string.IsNullOrWhiteSpace(text) ? null : _thinking.ToString();

    /// <summary>Takes the next token.</summary>
    /// <returns>Whether the answer ends here.</returns>
    public bool Add(int token)
    {
        // Every answer is trained to end with im_end, and a base checkpoint's configuration does not name it.
        if (token == tokenizer.ImEndId || token == tokenizer.EndOfTextId)
        {
            return true;
        }

        Append(_decoder.Add(token));
        return _stopped;
    }

    /// <summary>Gives out what waits.</summary>
    public void Finish()
    {
        if (_stopped)
        {
            return;
        }

        Append(_decoder.Finish());
        if (_part == Part.Thinking)
        {
            Think(_pending.TrimEnd('\n'));
        }
        else if (_part == Part.Beginning)
        {
            Answer(_pending);
        }

        if (!_stopped)
        {
            Emit(_answer.Length);
        }
    }

    private void Append(string text)
    {
        _pending += text;
        if (_part == Part.Beginning)
        {
            string begun = _pending.TrimStart();
            if (begun.StartsWith(ThinkTags.Open, StringComparison.Ordinal))
            {
                (_part, _pending) = (Part.Thinking, begun[ThinkTags.Open.Length..]);
            }
            else if (!ThinkTags.Open.StartsWith(begun, StringComparison.Ordinal) || HasStop(_pending.AsSpan(0, _pending.Length - begun.Length)))
            {
                _part = Part.Answer;
            }
        }

        if (_part == Part.Thinking)
        {
            int close = _pending.IndexOf(ThinkTags.Close, StringComparison.Ordinal);
            if (close >= 0)
            {
                Think(_pending[..close].TrimEnd('\n'));
                (_part, _pending) = (Part.Gap, _pending[(close + ThinkTags.Close.Length)..]);
            }
            else
            {
                int known = _pending.AsSpan(0, _pending.Length - Overlap(_pending, ThinkTags.Close)).TrimEnd('\n').Length;
                Think(_pending[..known]);
                _pending = _pending[known..];
            }
        }

        if (_part == Part.Gap)
        {
            _pending = _pending.TrimStart('\n');
            _part = _pending.Length > 0 ? Part.Answer : Part.Gap;
        }

        if (_part == Part.Answer)
        {
            Answer(_pending);
            _pending = "";
        }
    }

    /// <summary>Whether white space before the answer ends it: a stop string may be a line break.</summary>
    private bool HasStop(ReadOnlySpan<char> text)
    {
        foreach (string stop in stops)
        {
            if (text.Contains(stop, StringComparison.Ordinal))
            {
                return true;
            }
        }

        return false;
    }

    private void Think(string text)
    {
        text = _thinking.Length == 0 ? text.TrimStart('\n') : text;
        if (text.Length > 0)
        {
            _thinking.Append(text);
            emit(new GeneratedChunk(text, IsThinking: true));
        }
    }

    private void Answer(string text)
    {
        if (_stopped)
        {
            return;
        }

        _answer.Append(text);
        if (_longestStop == 0)
        {
            Emit(_answer.Length);
            return;
        }

        // A stop string may have begun before this piece, but not before what was given out already.
        string tail = _answer.ToString(_emitted, _answer.Length - _emitted);
        int stop = stops.Select(s => tail.IndexOf(s, StringComparison.Ordinal)).Where(at => at >= 0).DefaultIfEmpty(-1).Min();
        if (stop >= 0)
        {
            _answer.Length = _emitted + stop;
            _stopped = true;
            Emit(_answer.Length);
            return;
        }

        Emit(_answer.Length - stops.Max(s => Overlap(tail, s)));
    }

    /// <summary>How many characters at a text's end another one may begin with, the whole of it excluded.</summary>
    private static int Overlap(string text, string other)
    {
        int length = Math.Min(other.Length - 1, text.Length);
        while (length > 0 && !text.AsSpan(text.Length - length).SequenceEqual(other.AsSpan(0, length)))
        {
            length--;
        }

        return length;
    }

    private void Emit(int upTo)
    {
        // Half a character waits for the other half.
        if (upTo > _emitted && upTo < _answer.Length && char.IsHighSurrogate(_answer[upTo - 1]))
        {
            upTo--;
        }

        if (upTo > _emitted)
        {
            emit(new GeneratedChunk(_answer.ToString(_emitted, upTo - _emitted)));
            _emitted = upTo;
        }
    }
}
