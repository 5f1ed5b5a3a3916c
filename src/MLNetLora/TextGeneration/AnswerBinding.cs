using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Inference;
using MLNetLora.Text;

namespace MLNetLora.TextGeneration;

/// <summary>One transformer on one input schema: which columns are read, and what comes out. The input's columns come first, the answer and what
/// stands beside it follow.</summary>
internal sealed class AnswerBinding
{
    private readonly QwenLoraTransformer _transformer;
    private readonly IReadOnlyList<AnswerColumn> _added;
    private readonly RowColumns _columns;
    private readonly HashSet<int> _read;

    public AnswerBinding(QwenLoraTransformer transformer, DataViewSchema inputSchema)
    {
        ArgumentNullException.ThrowIfNull(inputSchema);
        _transformer = transformer;
        _added = AnswerColumn.Of(transformer.Columns);
        InputSchema = inputSchema;
        _columns = RowColumns.Find(transformer.Columns, TextColumns.Of(inputSchema), training: false);
        _read = [.. _columns.Of(inputSchema, transformer.Columns, training: false).Select(column => column.Index)];

        DataViewSchema.Builder builder = new();
        builder.AddColumns(inputSchema);
        foreach (AnswerColumn column in _added)
        {
            builder.AddColumn(column.Name, column.Type);
        }

        OutputSchema = builder.ToSchema();
    }

    public DataViewSchema InputSchema { get; }

    public DataViewSchema OutputSchema { get; }

    public int BatchSize => _transformer.BatchSize;

    /// <summary>Whether a row that fails is told in a column of its own.</summary>
    public bool TellsErrors => _transformer.Columns.Details?.Error is not null;

    /// <summary>Whether an output column is generated, and not the input's.</summary>
    public bool IsAdded(int index) => index >= InputSchema.Count;

    /// <summary>Whether anything that is generated is among the given output columns.</summary>
    public bool AnyAdded(bool[] active) => active.AsSpan(InputSchema.Count).Contains(true);

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
        InputSchema.Where(column => active[column.Index] || (AnyAdded(active) && _read.Contains(column.Index)));

    /// <summary>Reads the prompt of the row's current position; a row that is not what its columns should hold says so, and fails alone.</summary>
    public Func<TextRow> PromptReader(DataViewRow row)
    {
        RowReader reader = new(row, _transformer.Columns, _columns, training: false, () => RowName(row.Position))
        {
            KeepsAnswers = _transformer.Model.Generation.ContinueFinalMessage,
        };
        return () =>
        {
            try
            {
                return reader.Read();
            }
            catch (DatasetException error)
            {
                return new TextRow { Error = error };
            }
        };
    }

    /// <summary>Answers rows of a view; those that cannot be answered say why, by their number in the view.</summary>
    /// <param name="prompts">The rows.</param>
    /// <param name="first">The first one's position in the view.</param>
    public IReadOnlyList<GeneratedText> Answer(IReadOnlyList<TextRow> prompts, long first) =>
        _transformer.Answer(prompts, options: null, CancellationToken.None, firstNumber: first + 1);

    /// <summary>A warning in ML.NET's log.</summary>
    public void Warn(string message) => _transformer.Warn(message);

    /// <summary>Throws where the transformer was cancelled.</summary>
    public void ThrowIfCancelled() => _transformer.ThrowIfCancelled();

    /// <summary>A getter for one of the added columns.</summary>
    public ValueGetter<TValue> Getter<TValue>(DataViewSchema.Column column, Func<GeneratedText> current) =>
        Typed<TValue>(_added[column.Index - InputSchema.Count].Getter(current), column);

    /// <summary>A getter of the type that the caller asks for, or ML.NET's usual complaint.</summary>
    public static ValueGetter<TValue> Typed<TValue>(Delegate getter, DataViewSchema.Column column) => getter as ValueGetter<TValue>
        ?? throw new InvalidOperationException($"Column '{column.Name}' is of type {column.Type}; its values cannot be read as {typeof(TValue)}.");

    private static string RowName(long position) => $"Row {position + 1}";
}
