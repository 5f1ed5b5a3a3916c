using System.Text;
using MLNetLora.Text;

namespace MLNetLora.Inference;

/// <summary>
/// Takes the calls of tools out of an answer while it comes in pieces. What could be the beginning of a call waits, and so does white space, which
/// belongs to the text where no call follows or stands before it. For one answer on one thread at a time.
/// </summary>
/// <param name="parse">Gives a call out; false where what stands between the tags is none, so that it stays text.</param>
/// <param name="onText">Receives the text around the calls.</param>
internal sealed class ToolCallReader(Func<string, bool> parse, Action<string> onText)
{
    /// <summary>Text that came and of which it is not known yet what it is; within a call, the whole call so far.</summary>
    private readonly StringBuilder _pending = new();
    private bool _isInCall;

    /// <summary>White space before the call, which is text again where the call is none.</summary>
    private string _gap = "";

    /// <summary>Whether white space has a call before it and no text behind that.</summary>
    private bool _followsCall;

    /// <summary>Takes the next piece.</summary>
    public void Add(string piece)
    {
        int seen = _pending.Length;
        _pending.Append(piece);
        while (_isInCall ? EndCall(ref seen) : BeginCall(ref seen))
        {
        }
    }

    /// <summary>Ends the answer.</summary>
    /// <param name="isWhole">Whether the model ended it, rather than the limit of its length: what it opened and did not close may be a whole call
    /// then.</param>
    public void Finish(bool isWhole)
    {
        string rest = _pending.ToString();
        _pending.Clear();
        bool isCall = isWhole && _isInCall && parse(rest[ToolCallTags.Open.Length..]);
        _isInCall = false;
        if (!isCall)
        {
            Text(_gap + rest);
        }
    }

    /// <summary>Gives text out up to where a call begins or may begin.</summary>
    /// <returns>Whether a call has begun.</returns>
    private bool BeginCall(ref int seen)
    {
        string text = _pending.ToString();
        int open = text.IndexOf(ToolCallTags.Open, StringComparison.Ordinal);
        int known = open >= 0 ? open : text.Length - Overlap(text);
        // White space before what is or may be a call, or at the end, before which one may come.
        int end = text.AsSpan(0, known).TrimEnd().Length;
        Text(text[..end]);
        _gap = open >= 0 ? text[end..open] : "";
        _pending.Remove(0, open >= 0 ? open : end);
        (_isInCall, seen) = (open >= 0, 0);
        return _isInCall;
    }

    /// <summary>Gives the call out where it is whole.</summary>
    /// <returns>Whether it is.</returns>
    private bool EndCall(ref int seen)
    {
        // A tag may have begun in the pieces before.
        int from = Math.Max(ToolCallTags.Open.Length, seen - ToolCallTags.Close.Length + 1);
        string tail = from < _pending.Length ? _pending.ToString(from, _pending.Length - from) : "";
        int close = tail.IndexOf(ToolCallTags.Close, StringComparison.Ordinal);
        if (close < 0)
        {
            return false;
        }

        int end = from + close + ToolCallTags.Close.Length;
        string call = _pending.ToString(0, end);
        _pending.Remove(0, end);
        (_isInCall, seen) = (false, 0);
        if (parse(call[ToolCallTags.Open.Length..^ToolCallTags.Close.Length]))
        {
            _followsCall = true;
        }
        else
        {
            Text(_gap + call);
        }

        _gap = "";
        return true;
    }

    private void Text(string text)
    {
        if (_followsCall)
        {
            text = text.TrimStart();
        }

        if (text.Length > 0)
        {
            _followsCall = false;
            onText(text);
        }
    }

    /// <summary>How many characters at a text's end a call may begin with.</summary>
    private static int Overlap(string text)
    {
        int length = Math.Min(ToolCallTags.Open.Length - 1, text.Length);
        while (length > 0 && !text.AsSpan(text.Length - length).SequenceEqual(ToolCallTags.Open.AsSpan(0, length)))
        {
            length--;
        }

        return length;
    }
}
