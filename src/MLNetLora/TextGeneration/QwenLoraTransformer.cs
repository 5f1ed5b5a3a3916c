using Microsoft.ML;
using Microsoft.ML.Data;
using Microsoft.ML.Runtime;
using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.TextGeneration;

/// <summary>
/// A Qwen checkpoint with a LoRA adapter that adds an answer to every row; comes from <see cref="QwenLoraTrainer.Fit"/>, from
/// <c>ml.TextGeneration.Load</c> or <c>ml.Model.Load</c>, or from <c>ml.TextGeneration.LoadAdapter</c>.
/// </summary>
/// <remarks>
/// <para>Lazy: <see cref="Transform"/> only checks the columns. Answers are generated when the answer column is read, in batches of
/// <see cref="Inference.GenerationOptions.BatchSize"/> rows, and again in every pass over the view: put <c>AppendCacheCheckpoint</c> or
/// <c>ml.Data.Cache</c> behind it where several passes are made.</para>
/// <para>A row that cannot be answered, because its prompt is too long for the model's context, the chat template refuses it or its conversation is not
/// valid JSON, does not end the pass: its answer is empty, a warning in <c>MLContext.Log</c> names it, and <see cref="Options.ErrorColumnName"/>
/// gives it a column. A prediction engine, which has one row, throws what that column would say.</para>
/// <para>Cancelled by the token of <see cref="With(CancellationToken)"/>, and by <c>MLContext.CancelExecution</c>, which AutoML calls when a trial's
/// time is up.</para>
/// <para>Thread-safe: prediction engines may share one. A prediction engine disposes it unless told otherwise
/// (<see cref="PredictionEngineOptions.OwnsTransformer"/>).
/// What <see cref="With(Action{Options})"/> gives shares the opened engine; the last of them that is disposed closes it.</para>
/// <para>Saved by <see cref="Save"/>, or <c>ml.Model.Save</c>, into one zip with the adapter; of the base checkpoint only a record is saved, by which
/// loading finds and verifies it.
/// When it is not found, <c>ml.TextGeneration.Load</c> throws a <see cref="CheckpointException"/> that says why; <c>ml.Model.Load</c> calls loaders
/// by reflection, so there it comes wrapped in a <see cref="System.Reflection.TargetInvocationException"/>.</para>
/// </remarks>
public sealed partial class QwenLoraTransformer : ITransformer, IDisposable
{
    private readonly QwenLoraModel _model;
    private readonly SharedGenerator _generator;
    private readonly IHost _host;
    private readonly CancellationToken _cancellation;
    private int _disposed;

    internal QwenLoraTransformer(QwenLoraModel model, TrainingSummary? summary, IHostEnvironment environment)
        : this(model, summary, environment.Register(nameof(QwenLoraTransformer)), new SharedGenerator(model.Open), CancellationToken.None)
    {
    }

    private QwenLoraTransformer(QwenLoraModel model, TrainingSummary? summary, IHost host, SharedGenerator generator, CancellationToken cancellation)
    {
        _model = model;
        _host = host;
        _generator = generator;
        _cancellation = cancellation;
        TrainingSummary = summary;
    }

    /// <summary>The trained LoRA factors. Usable after disposal too.</summary>
    public LoraAdapter Adapter => _model.Adapter;

    /// <summary>Steps and losses of the training; null when the model was loaded.</summary>
    public TrainingSummary? TrainingSummary { get; }

    /// <summary>Full path of the base checkpoint's folder.</summary>
    public string BaseFolder => _model.BaseFolder;

    /// <summary>How answers are generated; a copy, which <see cref="With(GenerationOptions)"/> takes.</summary>
    public GenerationOptions Generation => _model.Generation.Copy();

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

    /// <summary>What answers, opened where it is not.</summary>
    internal TextGenerator Engine => _generator.Open(CancellationToken.None);

    internal int BatchSize => _model.Generation.BatchSize;

    /// <summary>The same model with other options, as a transformer of its own: the opened engine is shared where prompt and weight precision stay,
    /// and open until both are disposed.</summary>
    /// <param name="change">Gets the options as they are and changes them, as in <c>model.With(options => options.Generation.Temperature = 0.7f)</c>.</param>
    /// <exception cref="OptionException">An option makes no sense; the message names it.</exception>
    /// <exception cref="ObjectDisposedException">The transformer was disposed.</exception>
    public QwenLoraTransformer With(Action<Options> change)
    {
        ArgumentNullException.ThrowIfNull(change);
        ThrowIfDisposed();
        Options options = new(_model) { CancellationToken = _cancellation };
        change(options);
        QwenLoraModel model = options.Apply(_model);
        SharedGenerator generator = model.SharesGenerator(_model) ? _generator.Share() : new SharedGenerator(model.Open);
        return new QwenLoraTransformer(model, TrainingSummary, _host, generator, options.CancellationToken);
    }

    /// <summary>The same model, generating otherwise; see <see cref="With(Action{Options})"/>.</summary>
    /// <param name="generation">How answers are generated; copied.</param>
    /// <exception cref="OptionException">An option makes no sense; the message names it.</exception>
    /// <exception cref="ObjectDisposedException">The transformer was disposed.</exception>
    public QwenLoraTransformer With(GenerationOptions generation)
    {
        ArgumentNullException.ThrowIfNull(generation);
        return With(options => options.Generation = generation);
    }

    /// <summary>The same model, ended by a token; see <see cref="Options.CancellationToken"/>.</summary>
    /// <param name="cancellationToken">Ends passes over the transformer's views, its prediction engines and its methods, within half a second.</param>
    /// <exception cref="ObjectDisposedException">The transformer was disposed.</exception>
    public QwenLoraTransformer With(CancellationToken cancellationToken) => With(options => options.CancellationToken = cancellationToken);

    /// <summary>The input's columns, a text column for the answer, and those that the options ask for beside it; they hide columns of the same names.</summary>
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

    /// <summary>Writes the model to a zip that <c>ml.TextGeneration.Load</c> and <c>ml.Model.Load</c> read.</summary>
    /// <remarks>A file that is there already is replaced in one step when the new one is whole and on disk. With <c>ml.Model.Save</c> a full disk
    /// costs the old one.</remarks>
    /// <param name="path">The zip.</param>
    /// <param name="inputSchema">The schema of the rows, which <c>ml.Model.Load</c> gives back; null for <see cref="InputSchema"/>.</param>
    /// <exception cref="IOException">The disk is full, or the folder cannot be written.</exception>
    public void Save(string path, DataViewSchema? inputSchema = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(path);
        ModelZip.Save(new MLContext(), this, inputSchema ?? InputSchema, path);
    }

    /// <summary>Writes base and adapter merged, as a plain Hugging Face checkpoint that needs no adapter.</summary>
    /// <param name="folder">The folder to write.</param>
    /// <param name="cancellationToken">
    /// Ends it with an <see cref="OperationCanceledException"/>, within half a second: files that are whole stay, the one being written does not.
    /// </param>
    /// <exception cref="ObjectDisposedException">The transformer was disposed.</exception>
    public void MergeAndSave(string folder, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(folder);
        ThrowIfDisposed();
        using Cancellation cancellation = new(_host, _cancellation, cancellationToken);
        cancellation.Run(token =>
        {
            token.ThrowIfCancellationRequested();
            Merge.Save(_model.OpenBase(token), _model.Adapter.WithPrompt(_model.Prompt.Settings), folder, cancellation: token);
            return true;
        });
    }

    /// <summary>
    /// Lets go of the engine, which is closed when no transformer of <see cref="With(Action{Options})"/> holds it any more; a call under way on
    /// another thread then ends with an answer or an <see cref="ObjectDisposedException"/>. Every later call throws one, saving excepted.
    /// </summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            _generator.Release();
        }
    }

    /// <summary>Closes the sessions, those of transformers that share them too; the next answer opens them again.</summary>
    internal void CloseEngine() => _generator.Close();

    void ICanSaveModel.Save(ModelSaveContext ctx) => MLNetInternals.Save(ctx, ModelZip.Parts(_model));

    /// <summary>Throws where the transformer's own token or ML.NET ended everything.</summary>
    internal void ThrowIfCancelled()
    {
        _cancellation.ThrowIfCancellationRequested();
        if (MLNetInternals.IsCancelled(_host))
        {
            throw new OperationCanceledException("The MLContext's execution was cancelled.");
        }
    }

    internal void Warn(string message)
    {
        using IChannel channel = _host.Start("Transform");
        channel.Warning(MessageSensitivity.UserData, message);
    }

    private void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(Volatile.Read(ref _disposed) != 0, this);
}
