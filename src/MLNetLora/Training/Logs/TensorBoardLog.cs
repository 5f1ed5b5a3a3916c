using System.Globalization;
using System.Text;

namespace MLNetLora.Training;

/// <summary>
/// Writes a run for TensorBoard: an event file in a folder, to be looked at with <c>tensorboard --logdir FOLDER</c>, while the run goes on too.
/// </summary>
/// <remarks>
/// The tags are those of transformers: train/loss, train/grad_norm, train/learning_rate, train/epoch, train/num_input_tokens_seen,
/// train/tokens_per_second, eval/loss; at the end train/train_runtime and train/train_loss; the options as text under args. A gradient norm that is not
/// finite is left out. Each run writes a file of its own, events.out.tfevents.TIME.HOST.PROCESS.N; that of a resumed run tells TensorBoard to forget
/// the steps that it makes again.
/// </remarks>
public sealed class TensorBoardLog : TrainingCallback
{
    private readonly string _folder;
    private EventFile? _file;
    private long _tokens;
    private int _step;
    private TimeSpan _elapsed;

    /// <summary>A log; nothing is written before a run begins.</summary>
    /// <param name="folder">Where the event files go; made if it is not there. transformers takes runs/NAME below the output folder.</param>
    public TensorBoardLog(string folder)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(folder);
        _folder = Path.GetFullPath(folder);
    }

    /// <inheritdoc/>
    public override void OnTrainBegin(TrainingStart start)
    {
        ArgumentNullException.ThrowIfNull(start);
        (_tokens, _step, _elapsed) = (start.TokensBefore, start.FirstStep - 1, start.ElapsedBefore);
        _file = EventFile.Create(_folder, start.Warn);
        if (start.FirstStep > 1)
        {
            _file.ForgetFrom(start.FirstStep);
        }

        _file.Text(_step, "args", Table(start));
    }

    /// <inheritdoc/>
    public override void OnStep(TrainingProgress progress)
    {
        ArgumentNullException.ThrowIfNull(progress);
        _tokens += progress.Tokens;
        (_step, _elapsed) = (progress.Step, progress.Elapsed);
        List<(string Tag, double Value)> values =
        [
            ("train/loss", progress.Loss),
            ("train/grad_norm", progress.GradientNorm),
            ("train/learning_rate", progress.LearningRate),
            ("train/epoch", progress.Epoch),
            ("train/num_input_tokens_seen", _tokens),
            ("train/tokens_per_second", progress.TokensPerSecond),
        ];
        if (progress.ValidationLoss is { } loss)
        {
            values.Add(("eval/loss", loss));
        }

        _file?.Scalars(progress.Step, values);
    }

    /// <inheritdoc/>
    public override void OnTrainEnd(TrainingSummary? summary, Exception? failure)
    {
        List<(string Tag, double Value)> values = [("train/train_runtime", (summary?.Duration ?? _elapsed).TotalSeconds)];
        if (summary is { Steps.Count: > 0 })
        {
            values.Add(("train/train_loss", summary.Steps.Average(step => step.Loss)));
        }

        _file?.Scalars(_step, values);
    }

    /// <summary>What TensorBoard shows as Markdown.</summary>
    private static string Table(TrainingStart start)
    {
        StringBuilder text = new("| option | value |\n|---|---|\n");
        (string Name, string Value)[] rows =
        [
            (nameof(start.ModelPath), start.ModelPath),
            (nameof(start.Method), start.Method),
            (nameof(start.TotalSteps), Number(start.TotalSteps)),
            (nameof(start.Rows), Number(start.Rows)),
            (nameof(start.LabelTokens), Number(start.LabelTokens)),
            (nameof(start.TrainableParameters), Number(start.TrainableParameters)),
            (nameof(start.Seed), Number(start.Seed)),
            (nameof(start.Device), start.Device),
            .. start.Options.Where(option => !option.IsDefault).Select(option => (option.Name, option.Value)),
        ];
        foreach ((string name, string value) in rows.DistinctBy(row => row.Name))
        {
            text.Append("| ").Append(name).Append(" | ").Append(value.ReplaceLineEndings(" ").Replace("|", "\\|", StringComparison.Ordinal)).Append(" |\n");
        }

        return text.ToString();
    }

    private static string Number(long value) => value.ToString(CultureInfo.InvariantCulture);
}
