using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Adapters;
using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.TextGeneration;

/// <summary>A Qwen checkpoint with a LoRA adapter that adds an answer to every row; comes from <see cref="QwenLoraTrainer.Fit"/> or from <c>ml.Model.Load</c>.</summary>
/// <remarks>
/// <para>Lazy: <see cref="Transform"/> only checks the columns. Answers are generated when the answer column is read, in batches of <see cref="Inference.GenerationOptions.BatchSize"/>
/// rows, and again in every pass over the view: put <c>AppendCacheCheckpoint</c> or <c>ml.Data.Cache</c> behind it where several passes are made.</para>
/// <para>Thread-safe: prediction engines may share one. A prediction engine disposes it unless told otherwise (<see cref="PredictionEngineOptions.OwnsTransformer"/>).</para>
/// <para>Saved by <c>ml.Model.Save</c> into one zip with the adapter; of the base checkpoint only a record is saved, by which <c>ml.Model.Load</c> finds and verifies it.
/// When it is not found, ML.NET wraps the <see cref="CheckpointException"/> that says why in a <see cref="System.Reflection.TargetInvocationException"/>.</para>
/// </remarks>
public sealed class QwenLoraTransformer : ITransformer, IDisposable
{
    private readonly QwenLoraModel _model;
    private readonly SharedGenerator _generator;
    private int _disposed;

    internal QwenLoraTransformer(QwenLoraModel model, TrainingSummary? summary)
        : this(model, summary, new SharedGenerator(model.Open))
    {
    }

    private QwenLoraTransformer(QwenLoraModel model, TrainingSummary? summary, SharedGenerator generator)
    {
        _model = model;
        _generator = generator;
        TrainingSummary = summary;
    }

    /// <summary>The trained LoRA factors. Usable after disposal too.</summary>
    public LoraAdapter Adapter => _model.Adapter;

    /// <summary>Steps and losses of the training; null when the model was loaded.</summary>
    public TrainingSummary? TrainingSummary { get; }

    /// <summary>Full path of the base checkpoint's folder.</summary>
    public string BaseFolder => _model.BaseFolder;

    /// <summary>
    /// The columns that this transformer reads where rows are plain instructions (system message, history and conversation may stand beside them), for
    /// <c>ml.Model.Save(model, model.InputSchema, path)</c> where no view of the rows is at hand.
    /// </summary>
    public DataViewSchema InputSchema
    {
        get
        {
            DataViewSchema.Builder builder = new();
            builder.AddColumn(_model.Columns.Instruction, TextDataViewType.Instance);
            if (_model.Columns.Input is { } input)
            {
                builder.AddColumn(input, TextDataViewType.Instance);
            }

            return builder.ToSchema();
        }
    }

    bool ITransformer.IsRowToRowMapper => true;

    internal ColumnNames Columns => _model.Columns;

    internal QwenLoraModel Model => _model;

    /// <summary>Whether the sessions are there.</summary>
    internal bool IsOpen => _generator.IsOpen;

    internal int BatchSize => _model.Generation.BatchSize;

    /// <summary>The input's columns and one text column for the answer, which hides a column of the same name.</summary>
    /// <param name="inputSchema">The schema of the rows; must have the instruction column.</param>
    /// <exception cref="ArgumentOutOfRangeException">A column is missing or is not text; the message names it.</exception>
    public DataViewSchema GetOutputSchema(DataViewSchema inputSchema) => new AnswerBinding(this, inputSchema).OutputSchema;

    /// <summary>Adds the answer column; generates nothing before that column is read.</summary>
    /// <param name="input">The rows.</param>
    /// <exception cref="ArgumentOutOfRangeException">A column is missing or is not text; the message names it.</exception>
    /// <exception cref="ObjectDisposedException">The transformer was disposed.</exception>
    public IDataView Transform(IDataView input)
    {
        ArgumentNullException.ThrowIfNull(input);
        ThrowIfDisposed();
        return new AnswerView(this, input);
    }

    /// <summary>Maps row by row, for prediction engines; the answer is generated when it is read, once per row.</summary>
    /// <param name="inputSchema">The schema of the rows.</param>
    /// <exception cref="ArgumentOutOfRangeException">A column is missing or is not text; the message names it.</exception>
    /// <exception cref="ObjectDisposedException">The transformer was disposed.</exception>
    public IRowToRowMapper GetRowToRowMapper(DataViewSchema inputSchema)
    {
        ThrowIfDisposed();
        return new AnswerRowMapper(this, inputSchema);
    }

    /// <summary>Answers one question without a data view.</summary>
    /// <param name="instruction">What is asked.</param>
    /// <param name="input">What it is asked about; null or empty for none.</param>
    /// <param name="cancellationToken">Ends the generation with an <see cref="OperationCanceledException"/>.</param>
    /// <exception cref="ObjectDisposedException">The transformer was disposed.</exception>
    public string Generate(string instruction, string? input = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(instruction);
        return Generate([new TextRow(new InstructionRow(instruction, Input: string.IsNullOrEmpty(input) ? null : input))], cancellationToken)[0];
    }

    /// <summary>Answers the end of a conversation without a data view.</summary>
    /// <param name="conversation">A conversation that ends with the user or a tool, with the tools that may be called.</param>
    /// <param name="cancellationToken">Ends the generation with an <see cref="OperationCanceledException"/>.</param>
    /// <exception cref="TemplateException">The checkpoint's chat template refuses the conversation.</exception>
    /// <exception cref="ObjectDisposedException">The transformer was disposed.</exception>
    public string Generate(Conversation conversation, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(conversation);
        return Generate([new TextRow(Conversation: conversation)], cancellationToken)[0];
    }

    /// <summary>Writes base and adapter merged, as a plain Hugging Face checkpoint that needs no adapter.</summary>
    /// <param name="folder">The folder to write.</param>
    /// <exception cref="ObjectDisposedException">The transformer was disposed.</exception>
    public void MergeAndSave(string folder)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(folder);
        ThrowIfDisposed();
        Merge.Save(Checkpoint.Open(_model.BaseFolder), _model.Adapter, folder);
    }

    /// <summary>Frees the sessions; a call under way on another thread is finished first. Every later one throws an <see cref="ObjectDisposedException"/>, saving excepted.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            _generator.Release();
        }
    }

    void ICanSaveModel.Save(ModelSaveContext ctx) => MLNetInternals.Save(ctx, ModelZip.Parts(_model));

    internal IReadOnlyList<string> Generate(IReadOnlyList<TextRow> rows, CancellationToken cancellationToken)
    {
        ThrowIfDisposed();
        return [.. _generator.Open().Generate(rows, _model.Generation, onChunk: null, cancellationToken).Select(answer => answer.Text)];
    }

    private void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(Volatile.Read(ref _disposed) != 0, this);
}
