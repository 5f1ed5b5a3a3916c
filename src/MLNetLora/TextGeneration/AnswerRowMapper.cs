using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Inference;
using MLNetLora.Text;

namespace MLNetLora.TextGeneration;

/// <summary>Row by row, as prediction engines and transformer chains need it.</summary>
internal sealed class AnswerRowMapper(QwenLoraTransformer transformer, DataViewSchema inputSchema) : IRowToRowMapper
{
    private readonly AnswerBinding _binding = new(transformer, inputSchema);

    public DataViewSchema InputSchema => _binding.InputSchema;

    public DataViewSchema OutputSchema => _binding.OutputSchema;

    public IEnumerable<DataViewSchema.Column> GetDependencies(IEnumerable<DataViewSchema.Column> dependingColumns) =>
        _binding.Dependencies(_binding.Active(dependingColumns));

    public DataViewRow GetRow(DataViewRow input, IEnumerable<DataViewSchema.Column> activeColumns)
    {
        ArgumentNullException.ThrowIfNull(input);
        return input.Schema == InputSchema
            ? new AnswerRow(_binding, input, _binding.Active(activeColumns))
            : throw new ArgumentException("The row's schema is not the one that the mapper was made for.", nameof(input));
    }
}

/// <summary>A row with its answer, which is generated when it is read first at a position and remembered until the row moves on.</summary>
internal sealed class AnswerRow : DataViewRow
{
    private readonly AnswerBinding _binding;
    private readonly DataViewRow _input;
    private readonly bool[] _active;
    private readonly Func<TextRow>? _readPrompt;
    private long _answeredPosition = -1;
    private GeneratedText? _answer;

    public AnswerRow(AnswerBinding binding, DataViewRow input, bool[] active)
    {
        _binding = binding;
        _input = input;
        _active = active;
        _readPrompt = binding.AnyAdded(active) ? binding.PromptReader(input) : null;
    }

    public override DataViewSchema Schema => _binding.OutputSchema;

    public override long Position => _input.Position;

    public override long Batch => _input.Batch;

    public override bool IsColumnActive(DataViewSchema.Column column) => _active[column.Index];

    public override ValueGetter<DataViewRowId> GetIdGetter() => _input.GetIdGetter();

    public override ValueGetter<TValue> GetGetter<TValue>(DataViewSchema.Column column)
    {
        if (!_active[column.Index])
        {
            throw new InvalidOperationException($"Column '{column.Name}' was not asked for when this row was made.");
        }

        return _binding.IsAdded(column.Index)
            ? _binding.Getter<TValue>(column, Answer)
            : _input.GetGetter<TValue>(_binding.InputSchema[column.Index]);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _input.Dispose();
        }

        base.Dispose(disposing);
    }

    /// <summary>There is no other row that an error could spoil, so it is thrown, unless it has a column.</summary>
    private GeneratedText Answer()
    {
        if (_answer is null || _answeredPosition < 0 || _answeredPosition != _input.Position)
        {
            _answer = null;
            GeneratedText answer = _binding.Answer([_readPrompt!()], _input.Position)[0];
            _answer = answer.Error is { } error && !_binding.TellsErrors ? throw error : answer;
            _answeredPosition = _input.Position;
        }

        return _answer;
    }
}
