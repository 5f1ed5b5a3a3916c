using System.Text;
using MLNetLora.Text;

namespace MLNetLora.Inference;

/// <summary>
/// Tokens of an answer become text as they come: whole characters only, thinking apart from the answer, the answer cut at the first stop string. What could be
/// the beginning of a tag or of a stop string waits. For one answer on one thread at a time.
/// </summary>
/// <param name="tokenizer">The checkpoint's tokenizer.</param>
/// <param name="options">
/// Strings before which the answer ends, which are not looked for in the thinking; tokens that end it (see <see cref="WithEnds"/>); whether tokens are kept.
/// </param>
/// <param name="start">What the prompt has of the answer.</param>
/// <param name="emit">Receives the pieces.</param>
internal sealed class AnswerText(QwenTokenizer tokenizer, GenerationOptions options, AnswerStart start, Action<GeneratedChunk> emit)
{
    private readonly StreamingDecoder _decoder = tokenizer.CreateStreamingDecoder(skipSpecialTokens: true);
    private readonly StringBuilder _thinking = new();
    private readonly StringBuilder _answer = new();
    private readonly AnswerTokens? _tokens = options.TopLogprobs is null ? null : new(tokenizer);

    /// <summary>Text that came and of which it is not known yet what it is.</summary>
    private string _pending = "";
    private Part _part = start switch
    {
        AnswerStart.Nothing => Part.Beginning,
        AnswerStart.Answer => Part.Answer,
        _ => Part.Thinking,
    };

    private int _read; // characters that came
    private int _count; // tokens that came
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

    /// <summary>Tokens that were thought, those of the tags included.</summary>
    public int ThinkingTokens { get; private set; }

    /// <summary>The tokens with their log probabilities; null where nobody asks for them.</summary>
    public IReadOnlyList<GeneratedToken>? Tokens => _tokens?.All;

    /// <summary>Options with all tokens that end an answer among the stop tokens: every answer is trained to end with im_end, and a base checkpoint's
    /// configuration does not name it. With all strings that do, too.</summary>
    /// <param name="options">A copy that nobody else has; it is changed.</param>
    /// <param name="tokenizer">The checkpoint's tokenizer.</param>
    public static GenerationOptions WithEnds(GenerationOptions options, QwenTokenizer tokenizer)
    {
        IEnumerable<int> ends = options.IgnoreEndOfText ? [] : ((int?[])[tokenizer.ImEndId, tokenizer.EndOfTextId]).OfType<int>();
        options.StopTokenIds = [.. options.StopTokenIds.Union(ends)];
        options.StopStrings = options.EndsWithCall ? [.. options.StopStrings, ToolCallTags.Close] : options.StopStrings;
        return options;
    }

    /// <summary>Takes the next token.</summary>
    /// <returns>Whether the answer ends here.</returns>
    public bool Add(ChosenToken token)
    {
        _count++;
        if (options.StopTokenIds.Contains(token.Id))
        {
            _tokens?.Add(token, int.MaxValue);
            return true;
        }

        string text = _decoder.Add(token.Id);
        _read += text.Length;
        _tokens?.Add(token, _decoder.HasPending ? _read + 1 : _read);
        bool thinks = _part == Part.Thinking;
        Append(text);
        ThinkingTokens += thinks || _part == Part.Thinking ? 1 : 0;
        return _stopped;
    }

    /// <summary>Gives out what waits.</summary>
    public void Finish()
    {
        if (_stopped)
        {
            return;
        }

        string rest = _decoder.Finish();
        _read += rest.Length;
        Append(rest);
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
        foreach (string stop in options.StopStrings)
        {
            if (text.Contains(stop, StringComparison.Ordinal))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Takes what was thought: what waits begins with it.</summary>
    private void Think(string text)
    {
        int end = _read - _pending.Length + text.Length;
        text = _thinking.Length == 0 && start != AnswerStart.WithinThinking ? text.TrimStart('\n') : text;
        if (text.Length > 0)
        {
            _thinking.Append(text);
            emit(new GeneratedChunk(text, IsThinking: true) { Tokens = _tokens?.Take(end) });
        }
    }

    private void Answer(string text)
    {
        if (_stopped)
        {
            return;
        }

        _answer.Append(text);
        if (options.StopStrings.Count == 0 || _count <= options.MinimumNewTokens)
        {
            Emit(_answer.Length);
            return;
        }

        // A stop string may have begun before this piece, but not before what was given out already.
        string tail = _answer.ToString(_emitted, _answer.Length - _emitted);
        int stop = options.StopStrings.Select(s => tail.IndexOf(s, StringComparison.Ordinal)).Where(at => at >= 0).DefaultIfEmpty(-1).Min();
        if (stop >= 0)
        {
            int left = tail.Length - stop;
            _answer.Length -= left;
            _stopped = true;
            Emit(_answer.Length, left);
            return;
        }

        Emit(_answer.Length - options.StopStrings.Max(s => Overlap(tail, s)));
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

    /// <summary>Gives out the answer up to a place.</summary>
    /// <param name="upTo">The place.</param>
    /// <param name="left">Characters that came behind the answer and are no part of it.</param>
    private void Emit(int upTo, int left = 0)
    {
        // Half a character waits for the other half.
        if (upTo > _emitted && upTo < _answer.Length && char.IsHighSurrogate(_answer[upTo - 1]))
        {
            upTo--;
        }

        if (upTo > _emitted)
        {
            int end = _read - left - (_answer.Length - upTo);
            emit(new GeneratedChunk(_answer.ToString(_emitted, upTo - _emitted)) { Tokens = _tokens?.Take(end) });
            _emitted = upTo;
        }
    }
}
