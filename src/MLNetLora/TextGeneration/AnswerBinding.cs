using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Text;

namespace MLNetLora.TextGeneration;

/// <summary>One transformer on one input schema: which columns are read, and what comes out. Output columns 0 to n−1 are the input's, column n is the answer.</summary>
internal sealed class AnswerBinding
{
    private readonly QwenLoraTransformer _transformer;
    private readonly RowColumns _columns;
    private readonly HashSet<int> _read;

    public AnswerBinding(QwenLoraTransformer transformer, DataViewSchema inputSchema)
    {
        ArgumentNullException.ThrowIfNull(inputSchema);
        _transformer = transformer;
        InputSchema = inputSchema;
        _columns = RowColumns.Find(transformer.Columns, TextColumns.Of(inputSchema), training: false);
        _read = [.. _columns.Of(inputSchema, transformer.Columns, training: false).Select(column => column.Index)];

        DataViewSchema.Builder builder = new();
        builder.AddColumns(inputSchema);
        builder.AddColumn(transformer.Columns.Answer, TextDataViewType.Instance);
        OutputSchema = builder.ToSchema();
    }

    public DataViewSchema InputSchema { get; }

    public DataViewSchema OutputSchema { get; }

    public int AnswerIndex => InputSchema.Count;

    public int BatchSize => _transformer.BatchSize;

    /// <summary>Which output columns are among the given ones, by index.</summary>
    public bool[] Active(IEnumerable<DataViewSchema.Column> outputColumns)
    {
        bool[] active = new bool[OutputSchema.Count];
        foreach (DataViewSchema.Column column in outputColumns)
        {
            active[column.Index] = true;
        }

        return active;
    }

    /// <summary>The input columns that these output columns are made from.</summary>
    public IEnumerable<DataViewSchema.Column> Dependencies(bool[] active) =>
        InputSchema.Where(column => active[column.Index] || (active[AnswerIndex] && _read.Contains(column.Index)));

    /// <summary>Reads the prompt of the row's current position.</summary>
    public Func<TextRow> PromptReader(DataViewRow row) => new RowReader(row, _transformer.Columns, _columns, training: false, () => $"Row {row.Position + 1}").Read;

    public IReadOnlyList<string> Generate(IReadOnlyList<TextRow> prompts) => _transformer.Generate(prompts, CancellationToken.None);

    /// <summary>A getter of the type that the caller asks for, or ML.NET's usual complaint.</summary>
    public static ValueGetter<TValue> Typed<TValue>(Delegate getter, DataViewSchema.Column column) => getter as ValueGetter<TValue>
        ?? throw new InvalidOperationException($"Column '{column.Name}' is of type {column.Type}; its values cannot be read as {typeof(TValue)}.");
}
