using Microsoft.ML;
using Microsoft.ML.Runtime;
using MLNetLora.Evaluation;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.TextGeneration;

// How likely the model finds given answers.
public sealed partial class QwenLoraTransformer
{
    /// <summary>Loss, perplexity and token accuracy of rows with their answers, as they are computed for validation rows in training. Generates
    /// nothing.</summary>
    /// <remarks>
    /// Rows become tokens as in training: with the model's prompt settings, label scope and maximum length, which a zip remembers (of
    /// <c>ml.TextGeneration.LoadAdapter</c> the trainer's defaults). What is lost of them is a warning in <c>MLContext.Log</c>. The graph is another than that
    /// of answers and opens for the call; the weights stay mapped, or are 4-bit numbers where <see cref="Options.WeightPrecision"/> is NF4 or FP4. With
    /// <see cref="WeightPrecision.Int8"/> and <see cref="WeightPrecision.Int4"/>, which are for answers alone, they are those of the checkpoint.
    /// </remarks>
    /// <param name="rows">Rows with the columns that the trainer reads, answers included; read once and kept as tokens.</param>
    /// <param name="batchSize">Rows in a batch, 1 to 65,536. More need more memory, and are faster on a GPU.</param>
    /// <param name="cancellationToken">Ends it with an <see cref="OperationCanceledException"/>, within half a second.</param>
    /// <returns>Means over all label tokens.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A column is missing or is not text; the message names it.</exception>
    /// <exception cref="DatasetException">There are no rows, a row lacks its question or answer, or nothing of them is a label.</exception>
    /// <exception cref="OptionException"><paramref name="batchSize"/> is out of its bounds.</exception>
    /// <exception cref="CheckpointException">The base checkpoint was replaced, or cannot be read.</exception>
    /// <exception cref="ObjectDisposedException">The transformer was disposed.</exception>
    public LanguageModelMetrics EvaluateLoss(IDataView rows, int batchSize = 1, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(rows);
        ThrowIfDisposed();
        TrainingOptions options = new()
        {
            BatchSize = batchSize,
            Precision = _model.Precision is WeightPrecision.Int8 or WeightPrecision.Int4 ? WeightPrecision.Checkpoint : _model.Precision,
            Threads = _model.Threads,
            Device = _model.Device is CudaDevice gpu ? gpu with { Graphs = false } : _model.Device, // rows of many lengths, each looked at once
        };
        options.Validate();
        using Cancellation cancellation = new(_host, _cancellation, cancellationToken);
        return cancellation.Run(token =>
        {
            using IChannel channel = _host.Start(nameof(EvaluateLoss));
            IEnumerable<TextRow> read = TrainingRows.Read(rows, _model.Columns, "evaluation", token);
            Checkpoint checkpoint = _model.OpenBase(token);
            IReadOnlyList<TrainingRow> tokens = new FineTuning(checkpoint, _model.Prompt).Tokenize(
                read, "evaluation", options.Threads, warning => channel.Warning(MessageSensitivity.UserData, warning));
            TokenSums sums = LossEvaluation.Run(checkpoint, _model.Adapter, tokens, options, token);
            return new LanguageModelMetrics(tokens.Count, sums.Labels, sums.Mean.Loss, sums.Mean.TokenAccuracy);
        });
    }
}
