using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Inference;
using MLNetLora.Text;

namespace MLNetLora.TextGeneration;

/// <summary>
/// Reads a batch of rows ahead, keeps what was asked for of each, generates their answers together when the first of them is read, and serves the
/// rows one by one.
/// </summary>
internal sealed class AnswerCursor : DataViewRowCursor
{
    private readonly AnswerBinding _binding;
    private readonly DataViewRowCursor _input;
    private readonly Func<TextRow> _readPrompt;
    private readonly ValueGetter<DataViewRowId> _readId;
    private readonly bool[] _active;
    private readonly ColumnBuffer?[] _buffers;
    private readonly DataViewRowId[] _ids;
    private readonly List<TextRow> _prompts;
    private IReadOnlyList<GeneratedText>? _answers;
    private int _slot = -1;
    private long _position = -1;

    public AnswerCursor(AnswerBinding binding, DataViewRowCursor input, bool[] active)
    {
        _binding = binding;
        _input = input;
        _active = active;
        _readPrompt = binding.PromptReader(input);
        _readId = input.GetIdGetter();
        _ids = new DataViewRowId[binding.BatchSize];
        _prompts = new List<TextRow>(binding.BatchSize);
        _buffers = [.. binding.InputSchema.Select(column => active[column.Index] ? ColumnBuffer.Create(input, column, binding.BatchSize, () => Slot) : null)];
    }

    public override DataViewSchema Schema => _binding.OutputSchema;

    public override long Position => _position;

    /// <summary>Always 0: there is one cursor, so nothing has to be put in order with another.</summary>
    public override long Batch => 0;

    private int Slot => _slot >= 0
        ? _slot
        : throw new InvalidOperationException("The cursor is not on a row: call MoveNext first, and read nothing after it returned false.");

    public override bool MoveNext()
    {
        if (_slot + 1 >= _prompts.Count && !ReadBatch())
        {
            _position = -1;
            return false;
        }

        _slot++;
        _position++;
        return true;
    }

    public override bool IsColumnActive(DataViewSchema.Column column) => _active[column.Index];

    public override ValueGetter<DataViewRowId> GetIdGetter() => (ref DataViewRowId value) => value = _ids[Slot];

    public override ValueGetter<TValue> GetGetter<TValue>(DataViewSchema.Column column)
    {
        if (!_active[column.Index])
        {
            throw new InvalidOperationException($"Column '{column.Name}' was not asked for when this cursor was made.");
        }

        return _binding.IsAdded(column.Index)
            ? _binding.Getter<TValue>(column, Answer)
            : AnswerBinding.Typed<TValue>(_buffers[column.Index]!.Getter, column);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _input.Dispose();
        }

        base.Dispose(disposing);
    }

    /// <summary>The source's values are valid only while it stands on their row, so everything that was asked for is copied before it moves on.</summary>
    private bool ReadBatch()
    {
        _slot = -1;
        _answers = null;
        _prompts.Clear();
        while (_prompts.Count < _binding.BatchSize && _input.MoveNext())
        {
            _binding.ThrowIfCancelled();
            int slot = _prompts.Count;
            _readId(ref _ids[slot]);
            foreach (ColumnBuffer? buffer in _buffers)
            {
                buffer?.Capture(slot);
            }

            _prompts.Add(_readPrompt());
        }

        return _prompts.Count > 0;
    }

    /// <summary>The current row's answer. A row that fails does not end the pass: it is told in the log, and in the error column where there is one.</summary>
    private GeneratedText Answer()
    {
        int slot = Slot;
        if (_answers is null)
        {
            _answers = _binding.Answer([.. _prompts], _position - slot);
            foreach (MLNetLoraException error in _answers.Select(answer => answer.Error).OfType<MLNetLoraException>())
            {
                _binding.Warn(error.Message);
            }
        }

        return _answers[slot];
    }
}
