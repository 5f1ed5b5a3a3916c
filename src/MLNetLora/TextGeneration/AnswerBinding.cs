using Microsoft.ML;
using Microsoft.ML.Data;

namespace MLNetLora.TextGeneration;

/// <summary>One transformer on one input schema: which columns are read, and what comes out. Output columns 0 to n−1 are the input's, column n is the answer.</summary>
internal sealed class AnswerBinding
{
    private readonly QwenLoraTransformer _transformer;
    private readonly DataViewSchema.Column _instruction;
    private readonly DataViewSchema.Column? _input;

    public AnswerBinding(QwenLoraTransformer transformer, DataViewSchema inputSchema)
    {
        ArgumentNullException.ThrowIfNull(inputSchema);
        _transformer = transformer;
        InputSchema = inputSchema;
        ColumnNames columns = transformer.Columns;
        _instruction = TextColumns.Require(inputSchema, columns.Instruction, nameof(QwenLoraTrainer.Options.InstructionColumnName));
        _input = columns.InputIsRequired
            ? TextColumns.Require(inputSchema, columns.Input!, nameof(QwenLoraTrainer.Options.InputColumnName))
            : TextColumns.Find(inputSchema, columns.Input, nameof(QwenLoraTrainer.Options.InputColumnName));

        DataViewSchema.Builder builder = new();
        builder.AddColumns(inputSchema);
        builder.AddColumn(columns.Answer, TextDataViewType.Instance);
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
        InputSchema.Where(column => active[column.Index]
            || (active[AnswerIndex] && (column.Index == _instruction.Index || (_input is { } input && column.Index == input.Index))));

    /// <summary>Reads the prompt of the row's current position.</summary>
    public Func<PromptRow> PromptReader(DataViewRow row)
    {
        ValueGetter<ReadOnlyMemory<char>> instructionGetter = row.GetGetter<ReadOnlyMemory<char>>(_instruction);
        ValueGetter<ReadOnlyMemory<char>>? inputGetter = _input is { } input ? row.GetGetter<ReadOnlyMemory<char>>(input) : null;
        return () =>
        {
            ReadOnlyMemory<char> instruction = default;
            ReadOnlyMemory<char> input = default;
            instructionGetter(ref instruction);
            inputGetter?.Invoke(ref input);
            return new PromptRow(instruction.ToString(), input.IsEmpty ? null : input.ToString());
        };
    }

    public IReadOnlyList<string> Generate(IReadOnlyList<PromptRow> prompts) => _transformer.Generate(prompts, CancellationToken.None);

    /// <summary>A getter of the type that the caller asks for, or ML.NET's usual complaint.</summary>
    public static ValueGetter<TValue> Typed<TValue>(Delegate getter, DataViewSchema.Column column) => getter as ValueGetter<TValue>
        ?? throw new InvalidOperationException($"Column '{column.Name}' is of type {column.Type}; its values cannot be read as {typeof(TValue)}.");
}
