using System.Text;

namespace MLNetLora.Jinja;

/// <summary>Where a character comes from, which decides the tokens it may become part of. A higher value is trusted less.</summary>
internal enum Origin : byte
{
    /// <summary>The template's own text: control tokens in it are control tokens.</summary>
    Template,

    /// <summary>What an assistant's message brings: &lt;think&gt; and &lt;tool_call&gt; in it are those tokens, control tokens are text.</summary>
    Assistant,

    /// <summary>Whatever else comes from outside: every character is text.</summary>
    Data,
}

/// <summary>
/// A template's string. It knows of every character where it comes from, through every slice, trim and join, so that a rendered conversation can be cut into
/// control tokens and text without asking the text itself. Immutable.
/// </summary>
internal sealed class TaggedText
{
    /// <summary>The empty text.</summary>
    public static readonly TaggedText Empty = new("", Origin.Template);

    private readonly Run[] _runs;

    /// <summary>Text of one origin.</summary>
    public TaggedText(string value, Origin origin)
        : this(value, [new Run(0, origin)])
    {
    }

    /// <summary>Text of several origins.</summary>
    /// <param name="value">The characters.</param>
    /// <param name="runs">Where each origin begins: ascending, the first at 0.</param>
    internal TaggedText(string value, Run[] runs) => (Value, _runs) = (value, runs);

    /// <summary>The characters.</summary>
    public string Value { get; }

    /// <summary>Number of UTF-16 units.</summary>
    public int Length => Value.Length;

    /// <summary>The least trusted origin of all characters.</summary>
    public Origin Least => _runs.Length == 1 ? _runs[0].Origin : _runs.Max(run => run.Origin);

    /// <summary>Where each origin begins.</summary>
    public ReadOnlySpan<Run> Runs => _runs;

    /// <summary>The least trusted origin of some characters.</summary>
    public Origin LeastOf(int start, int length)
    {
        Origin least = Origin.Template;
        for (int i = RunAt(start); i < _runs.Length && _runs[i].Start < start + length; i++)
        {
            least = _runs[i].Origin > least ? _runs[i].Origin : least;
        }

        return least;
    }

    /// <summary>A part of the text.</summary>
    public TaggedText Slice(int start, int length)
    {
        if (start == 0 && length == Length)
        {
            return this;
        }

        if (length == 0)
        {
            return Empty;
        }

        string value = Value.Substring(start, length);
        if (_runs.Length == 1)
        {
            return new TaggedText(value, _runs);
        }

        int first = RunAt(start);
        int last = RunAt(start + length - 1);
        Run[] runs = new Run[last - first + 1];
        for (int i = 0; i < runs.Length; i++)
        {
            runs[i] = new Run(Math.Max(0, _runs[first + i].Start - start), _runs[first + i].Origin);
        }

        return new TaggedText(value, runs);
    }

    /// <summary>Other characters made from this text: they keep their origins one by one where there are as many, else all get the least trusted.</summary>
    public TaggedText With(string value) =>
        ReferenceEquals(value, Value) ? this : value.Length == Length ? new TaggedText(value, _runs) : new TaggedText(value, Least);

    /// <inheritdoc/>
    public override string ToString() => Value;

    private int RunAt(int index)
    {
        int low = 0;
        int high = _runs.Length - 1;
        while (low < high)
        {
            int middle = (low + high + 1) / 2;
            if (_runs[middle].Start <= index)
            {
                low = middle;
            }
            else
            {
                high = middle - 1;
            }
        }
        return low;
    }

    /// <summary>The beginning of characters of one origin.</summary>
    internal readonly record struct Run(int Start, Origin Origin);
}

/// <summary>Joins texts and keeps their origins.</summary>
/// <param name="work">Pays for every character.</param>
internal sealed class TaggedTextBuilder(Work work)
{
    private const int LengthLimit = 1 << 28; // half a gigabyte; .NET's own limit is four times that, and no typed error

    private readonly StringBuilder _text = new();
    private readonly List<TaggedText.Run> _runs = [];

    /// <summary>Number of UTF-16 units so far.</summary>
    public int Length => _text.Length;

    /// <summary>Appends characters of one origin.</summary>
    public TaggedTextBuilder Append(ReadOnlySpan<char> text, Origin origin)
    {
        if (text.IsEmpty)
        {
            return this;
        }

        Pay(text.Length);
        Begin(origin);
        _text.Append(text);
        return this;
    }

    /// <summary>Appends a text.</summary>
    public TaggedTextBuilder Append(TaggedText text)
    {
        if (text.Length == 0)
        {
            return this;
        }

        Pay(text.Length);
        int offset = _text.Length;
        foreach (TaggedText.Run run in text.Runs)
        {
            Begin(run.Origin, offset + run.Start);
        }

        _text.Append(text.Value);
        return this;
    }

    /// <summary>The text so far.</summary>
    public TaggedText ToText() => _text.Length == 0 ? TaggedText.Empty : new TaggedText(_text.ToString(), [.. _runs]);

    private void Pay(int characters)
    {
        work.Charge(characters);
        if (_text.Length + characters > LengthLimit)
        {
            throw new JinjaFault($"the template makes a text of more than {LengthLimit} characters");
        }
    }

    private void Begin(Origin origin) => Begin(origin, _text.Length);

    private void Begin(Origin origin, int start)
    {
        if (_runs.Count == 0 || _runs[^1].Origin != origin)
        {
            _runs.Add(new TaggedText.Run(start, origin));
        }
    }
}
