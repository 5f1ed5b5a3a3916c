using System.Buffers;
using System.Text.Json;
using MLNetLora.Checkpoints;

namespace MLNetLora.Training;

/// <summary>
/// Writes a run as JSON Lines (metrics.jsonl): one object a line under the names of transformers' log history, flushed line by line, so that
/// <c>tail -f</c>, pandas and <c>jq</c> read it while the run goes on.
/// </summary>
/// <remarks>
/// <para>The first line has the run itself: <c>step</c> 0 and <c>run</c> with the base, the options and the data. Then a line for each step
/// (<c>step</c>, <c>epoch</c>, <c>loss</c>, <c>grad_norm</c>, <c>learning_rate</c>, <c>num_input_tokens_seen</c>, <c>tokens_per_second</c>,
/// <c>elapsed</c> and <c>remaining</c> in seconds; <c>skipped</c> and <c>loss_scale</c> where the step changed nothing), one for each validation
/// (<c>step</c>, <c>epoch</c>, <c>eval_loss</c>), one for each checkpoint (<c>step</c>, <c>checkpoint</c>) and one for the end (<c>step</c>,
/// <c>outcome</c>: finished, cancelled or failed; <c>train_runtime</c> in seconds, <c>train_loss</c>, the mean of all steps' losses, or <c>error</c>).
/// A number that is none, such as the gradient norm of a skipped step, is null.</para>
/// <para>A new run takes the place of an older file. A run that is resumed goes on in the file: lines of steps that it makes again are dropped first, and
/// so is what a killed process left of a line.</para>
/// </remarks>
public sealed class JsonLinesLog : TrainingCallback
{
    private readonly string _path;
    private LogFile? _file; // of the run that is followed
    private readonly ArrayBufferWriter<byte> _line = new();
    private long _tokens;
    private int _step;
    private TimeSpan _elapsed;

    /// <summary>A log; nothing is written before a run begins.</summary>
    /// <param name="path">The file; its folder is made if it is not there.</param>
    public JsonLinesLog(string path)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(path);
        _path = Path.GetFullPath(path);
    }

    /// <inheritdoc/>
    public override void OnTrainBegin(TrainingStart start)
    {
        ArgumentNullException.ThrowIfNull(start);
        _file = new LogFile(_path, start.Warn);
        _step = start.FirstStep - 1;
        _elapsed = start.ElapsedBefore;
        _tokens = start.TokensBefore;
        if (start.FirstStep > 1 && File.Exists(_path))
        {
            long kept = JsonLinesFile.KeepBefore(_path, start.FirstStep);
            _tokens = start.EarlierSteps.Count > 0 ? _tokens : kept; // the checkpoint knows better than a log that may have lost lines
        }
        else
        {
            AtomicFile.Write(_path, _ => { });
        }

        Write(json =>
        {
            json.WriteNumber("step", _step);
            json.WriteStartObject("run");
            WriteRun(json, start);
            json.WriteEndObject();
        });
    }

    /// <inheritdoc/>
    public override void OnStep(TrainingProgress progress)
    {
        ArgumentNullException.ThrowIfNull(progress);
        _tokens += progress.Tokens;
        (_step, _elapsed) = (progress.Step, progress.Elapsed);
        Write(json =>
        {
            json.WriteNumber("step", progress.Step);
            Number(json, "epoch", progress.Epoch);
            Number(json, "loss", progress.Loss);
            Number(json, "grad_norm", progress.GradientNorm);
            Number(json, "learning_rate", progress.LearningRate);
            json.WriteNumber("num_input_tokens_seen", _tokens);
            Number(json, "tokens_per_second", progress.TokensPerSecond);
            Number(json, "elapsed", progress.Elapsed.TotalSeconds);
            Number(json, "remaining", progress.Remaining.TotalSeconds);
            if (progress.WasSkipped)
            {
                json.WriteBoolean("skipped", true);
                Number(json, "loss_scale", progress.LossScale);
            }
        });
        if (progress.ValidationLoss is { } loss)
        {
            Write(json =>
            {
                json.WriteNumber("step", progress.Step);
                Number(json, "epoch", progress.Epoch);
                Number(json, "eval_loss", loss);
            });
        }
    }

    /// <inheritdoc/>
    public override void OnSave(int savedStep, string folder) => Write(json =>
    {
        json.WriteNumber("step", savedStep);
        json.WriteString("checkpoint", folder);
    });

    /// <inheritdoc/>
    public override void OnTrainEnd(TrainingSummary? summary, Exception? failure)
    {
        Write(json =>
        {
            json.WriteNumber("step", _step);
            json.WriteString("outcome", RunOutcome.Of(summary, failure));
            Number(json, "train_runtime", (summary?.Duration ?? _elapsed).TotalSeconds);
            if (summary is { Steps.Count: > 0 })
            {
                Number(json, "train_loss", summary.Steps.Average(step => step.Loss));
            }

            if (failure is not null)
            {
                json.WriteString("error", failure.Message);
            }
        });
    }

    private static void WriteRun(Utf8JsonWriter json, TrainingStart start)
    {
        json.WriteString("model_name_or_path", start.ModelPath);
        json.WriteString("finetuning_type", start.Method);
        json.WriteNumber("max_steps", start.TotalSteps);
        json.WriteNumber("num_train_samples", start.Rows);
        json.WriteNumber("num_eval_samples", start.ValidationRows);
        json.WriteNumber("num_tokens", start.Tokens);
        json.WriteNumber("num_label_tokens", start.LabelTokens);
        json.WriteNumber("trainable_params", start.TrainableParameters);
        json.WriteNumber("all_params", start.AllParameters);
        json.WriteNumber("seed", start.Seed);
        json.WriteString("device", start.Device);
        json.WriteString("start_time", start.StartTime);
        json.WriteString("data_statistics", start.DataStatistics);
        json.WriteStartArray("warnings");
        foreach (string warning in start.Warnings)
        {
            json.WriteStringValue(warning);
        }

        json.WriteEndArray();
        json.WriteStartObject("options");
        foreach (TrainingOption option in start.Options)
        {
            json.WriteString(option.Name, option.Value);
        }

        json.WriteEndObject();
        json.WriteStartArray("changed_options");
        foreach (TrainingOption option in start.Options.Where(option => !option.IsDefault))
        {
            json.WriteStringValue(option.Name);
        }

        json.WriteEndArray();
    }

    private static void Number(Utf8JsonWriter json, string name, double value)
    {
        if (double.IsFinite(value))
        {
            json.WriteNumber(name, value);
        }
        else
        {
            json.WriteNull(name); // JSON has no other
        }
    }

    private void Write(Action<Utf8JsonWriter> write)
    {
        _line.ResetWrittenCount();
        using (Utf8JsonWriter json = new(_line, JsonLinesFile.Writing))
        {
            json.WriteStartObject();
            write(json);
            json.WriteEndObject();
        }

        _line.Write("\n"u8);

        // One write for a line, so that whoever reads meanwhile sees whole ones; and no handle between two steps, which may be hours apart.
        _file?.Append(_line.WrittenSpan);
    }
}
