using MLNetLora.Training;

namespace MLNetLora.Reports.Tests;

// DOCS begin
/// <summary>Ends a training when the mean loss of an epoch is low enough. What was learned is kept.</summary>
public sealed class StopWhenLearned(double loss, CancellationTokenSource stop) : TrainingCallback
{
    private readonly List<double> _epoch = [];
    private int _epochs;

    public override void OnTrainBegin(TrainingStart start) => Console.WriteLine($"{start.TotalSteps} steps over {start.Rows} rows");

    public override void OnStep(TrainingProgress progress)
    {
        _epoch.Add(progress.Loss);
        if ((int)progress.Epoch > _epochs)
        {
            if (_epoch.Average() < loss)
            {
                stop.Cancel();
            }

            _epochs = (int)progress.Epoch;
            _epoch.Clear();
        }
    }
}
// DOCS end
