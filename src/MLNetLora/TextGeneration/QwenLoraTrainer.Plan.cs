using Microsoft.ML;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.Training.Planning;

namespace MLNetLora.TextGeneration;

public sealed partial class QwenLoraTrainer
{
    /// <summary>The run that <see cref="Fit"/> would make, with its rows as tokens, to be looked at by a <see cref="Planner"/>.</summary>
    /// <param name="input">The training rows.</param>
    internal PlannedRun Planned(IDataView input)
    {
        using Cancellation cancellation = new(_host, _options.CancellationToken, CancellationToken.None);
        return cancellation.Run(token =>
        {
            IEnumerable<TextRow> rows = TrainingRows.Read(input, _options.Columns, "training", token);
            IEnumerable<TextRow>? validation = _options.ValidationSet is null ? null
                : TrainingRows.Read(_options.ValidationSet, _options.Columns, "validation", token);
            Checkpoint checkpoint = Checkpoint.Open(ModelFolder.Find(_options.ModelPath));
            return new FineTuning(checkpoint, Prompt()).Planned(rows, validation, _options);
        });
    }
}
