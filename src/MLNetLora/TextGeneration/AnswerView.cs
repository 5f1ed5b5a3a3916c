using Microsoft.ML;
using Microsoft.ML.Data;

namespace MLNetLora.TextGeneration;

/// <summary>The rows of a view with their answers. A pass that does not ask for the answer costs nothing.</summary>
internal sealed class AnswerView(QwenLoraTransformer transformer, IDataView input) : IDataView
{
    private readonly AnswerBinding _binding = new(transformer, input.Schema);

    /// <summary>Answers come in the order of the rows; with sampling, another order would give other answers.</summary>
    public bool CanShuffle => false;

    public DataViewSchema Schema => _binding.OutputSchema;

    public long? GetRowCount() => input.GetRowCount();

    public DataViewRowCursor GetRowCursor(IEnumerable<DataViewSchema.Column> columnsNeeded, Random? rand = null)
    {
        bool[] active = _binding.Active(columnsNeeded);
        DataViewRowCursor cursor = input.GetRowCursor(_binding.Dependencies(active));
        return _binding.AnyAdded(active) ? new AnswerCursor(_binding, cursor, active) : new PassThroughCursor(_binding, cursor, active);
    }

    public DataViewRowCursor[] GetRowCursorSet(IEnumerable<DataViewSchema.Column> columnsNeeded, int n, Random? rand = null)
    {
        bool[] active = _binding.Active(columnsNeeded);
        return _binding.AnyAdded(active)
            ? [GetRowCursor(columnsNeeded, rand)]
            : [.. input.GetRowCursorSet(_binding.Dependencies(active), n).Select(cursor => new PassThroughCursor(_binding, cursor, active))];
    }
}

/// <summary>The input's rows under the output's schema, for passes that do not ask for the answer.</summary>
internal sealed class PassThroughCursor(AnswerBinding binding, DataViewRowCursor input, bool[] active) : DataViewRowCursor
{
    public override DataViewSchema Schema => binding.OutputSchema;

    public override long Position => input.Position;

    public override long Batch => input.Batch;

    public override bool MoveNext() => input.MoveNext();

    public override bool IsColumnActive(DataViewSchema.Column column) => active[column.Index];

    public override ValueGetter<DataViewRowId> GetIdGetter() => input.GetIdGetter();

    public override ValueGetter<TValue> GetGetter<TValue>(DataViewSchema.Column column) => active[column.Index]
        ? input.GetGetter<TValue>(binding.InputSchema[column.Index])
        : throw new InvalidOperationException($"Column '{column.Name}' was not asked for when this cursor was made.");

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            input.Dispose();
        }

        base.Dispose(disposing);
    }
}
