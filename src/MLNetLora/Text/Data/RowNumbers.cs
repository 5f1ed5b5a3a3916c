namespace MLNetLora.Text;

/// <summary>Rows that have something in common: how many, and the numbers of the first of them.</summary>
internal sealed class RowNumbers
{
    /// <summary>At most so many numbers are kept.</summary>
    private const int Kept = 1000;

    private const int Shown = 20;

    private readonly List<long> _first = [];

    /// <summary>How many rows.</summary>
    public long Count { get; private set; }

    /// <summary>The numbers of the first of them.</summary>
    public IReadOnlyList<long> First => _first;

    /// <summary>Counts one more.</summary>
    public void Add(long number)
    {
        if (++Count <= Kept)
        {
            _first.Add(number);
        }
    }

    /// <summary>The warning where these are the rows that a model cannot attend to from end to end.</summary>
    /// <param name="all">How many rows there are.</param>
    /// <param name="rows">What messages call them: "training rows".</param>
    /// <param name="context">Positions that the model knows.</param>
    public string BeyondContext(long all, string rows, int context) =>
        $"{Count} of {all} {rows} are longer than the model's context of {context} tokens (max_position_embeddings of the checkpoint): {this}. "
        + "It has never been trained on positions behind it. Lower the maximum length (option MaximumSequenceLength), or split the rows.";

    /// <summary>"row 3", or "rows 1, 2, …".</summary>
    public override string ToString() => (Count == 1 ? "row " : "rows ") + string.Join(", ", _first.Take(Shown)) + (Count > Shown ? ", …" : "");
}
