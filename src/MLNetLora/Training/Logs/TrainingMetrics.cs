using System.Diagnostics.Metrics;

namespace MLNetLora.Training;

/// <summary>
/// The figures of running trainings as instruments of <c>System.Diagnostics.Metrics</c>, for OpenTelemetry, dotnet-counters and whatever else listens to a
/// meter. Always there; without a listener they cost nothing.
/// </summary>
/// <remarks>
/// Instruments of the meter <see cref="MeterName"/>, names and units as OpenTelemetry has them; each measurement has the tag <c>mlnetlora.method</c> (Lora
/// or Full):
/// <list type="bullet">
/// <item>mlnetlora.training.active, {run}, up-down counter: trainings under way;</item>
/// <item>mlnetlora.training.steps, {step}, counter: optimizer steps;</item>
/// <item>mlnetlora.training.skipped_steps, {step}, counter: those of them that changed nothing, see <see cref="TrainingProgress.WasSkipped"/>;</item>
/// <item>mlnetlora.training.tokens, {token}, counter: non-padding tokens;</item>
/// <item>mlnetlora.training.label_tokens, {token}, counter: tokens that counted in the loss;</item>
/// <item>mlnetlora.training.step.duration, s, histogram: an optimizer step, without validation;</item>
/// <item>mlnetlora.training.loss, {nat}, gauge: loss of the last step;</item>
/// <item>mlnetlora.training.validation.loss, {nat}, gauge: loss of the last validation;</item>
/// <item>mlnetlora.training.gradient_norm, 1, gauge: L2 norm before clipping, of the last step where it is finite;</item>
/// <item>mlnetlora.training.learning_rate, 1, gauge: the rate of the last step;</item>
/// <item>mlnetlora.training.progress, 1, gauge: the share of the steps that is made, from 0 to 1.</item>
/// </list>
/// </remarks>
public static class TrainingMetrics
{
    /// <summary>The name of the meter.</summary>
    public const string MeterName = "MLNetLora";

    private static readonly Meter s_meter = new(MeterName, typeof(TrainingMetrics).Assembly.GetName().Version?.ToString(3));
    private static readonly UpDownCounter<long> s_active = s_meter.CreateUpDownCounter<long>("mlnetlora.training.active", "{run}", "Trainings under way.");
    private static readonly Counter<long> s_steps = s_meter.CreateCounter<long>("mlnetlora.training.steps", "{step}", "Optimizer steps.");
    private static readonly Counter<long> s_skipped =
        s_meter.CreateCounter<long>("mlnetlora.training.skipped_steps", "{step}", "Optimizer steps that changed nothing.");

    private static readonly Counter<long> s_tokens = s_meter.CreateCounter<long>("mlnetlora.training.tokens", "{token}", "Non-padding tokens.");
    private static readonly Counter<long> s_labels =
        s_meter.CreateCounter<long>("mlnetlora.training.label_tokens", "{token}", "Tokens that counted in the loss.");

    private static readonly Histogram<double> s_duration = s_meter.CreateHistogram(
        "mlnetlora.training.step.duration", "s", "Time of an optimizer step, without validation.", tags: null,
        new InstrumentAdvice<double> { HistogramBucketBoundaries = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250] });

    private static readonly Gauge<double> s_loss = s_meter.CreateGauge<double>("mlnetlora.training.loss", "{nat}", "Loss of the last step.");
    private static readonly Gauge<double> s_validation =
        s_meter.CreateGauge<double>("mlnetlora.training.validation.loss", "{nat}", "Loss of the last validation.");

    private static readonly Gauge<double> s_norm =
        s_meter.CreateGauge<double>("mlnetlora.training.gradient_norm", "1", "L2 norm of the last step's gradients, before clipping.");

    private static readonly Gauge<double> s_rate = s_meter.CreateGauge<double>("mlnetlora.training.learning_rate", "1", "Learning rate of the last step.");
    private static readonly Gauge<double> s_progress =
        s_meter.CreateGauge<double>("mlnetlora.training.progress", "1", "Share of the steps that is made.");

    /// <summary>One training, measured.</summary>
    internal sealed class Run : TrainingCallback
    {
        private KeyValuePair<string, object?> _method;

        /// <inheritdoc/>
        public override void OnTrainBegin(TrainingStart start)
        {
            _method = new("mlnetlora.method", start.Method);
            s_active.Add(1, _method);
        }

        /// <inheritdoc/>
        public override void OnStep(TrainingProgress progress)
        {
            s_steps.Add(1, _method);
            s_tokens.Add(progress.Tokens, _method);
            s_labels.Add(progress.LabelTokens, _method);
            s_duration.Record(progress.Tokens / progress.TokensPerSecond, _method);
            s_rate.Record(progress.LearningRate, _method);
            s_progress.Record((double)progress.Step / progress.TotalSteps, _method);
            s_loss.Record(progress.Loss, _method);
            if (progress.WasSkipped)
            {
                s_skipped.Add(1, _method);
            }
            else
            {
                s_norm.Record(progress.GradientNorm, _method);
            }

            if (progress.ValidationLoss is { } validation)
            {
                s_validation.Record(validation, _method);
            }
        }

        /// <inheritdoc/>
        public override void OnTrainEnd(TrainingSummary? summary, Exception? failure) => s_active.Add(-1, _method);
    }
}
