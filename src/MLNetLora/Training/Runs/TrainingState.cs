using MLNetLora.Text;

namespace MLNetLora.Training;

/// <summary>How far a run is after its last whole step: with the parameters and the optimizer's states, all that is needed to go on from there.</summary>
/// <param name="Step">Optimizer steps made.</param>
/// <param name="MicroBatch">Micro-batches of those steps, which number the dropout masks.</param>
/// <param name="Epoch">The epoch in which the next window lies, from 0; it decides the order of the rows.</param>
/// <param name="Window">Windows of that epoch that are done.</param>
/// <param name="Skipped">How many of the steps were skipped.</param>
/// <param name="Scale">The loss scale of the next step.</param>
internal sealed record TrainingState(int Step, long MicroBatch, int Epoch, int Window, int Skipped, LossScale Scale)
{
    /// <summary>Nothing done yet.</summary>
    public static TrainingState Start(LossScale scale) => new(0, 0, 0, 0, 0, scale);

    /// <summary>Steps that the optimizer has made: what it and the learning rate count.</summary>
    public int Made => Step - Skipped;

    /// <summary>The state after a window that was worked through and a step with its gradients.</summary>
    /// <param name="window">The window.</param>
    /// <param name="microBatches">How many micro-batches it had.</param>
    /// <param name="wasSkipped">Whether the step was skipped, since its gradients were not finite.</param>
    public TrainingState After(Window window, int microBatches, bool wasSkipped = false) => new(Step + 1, MicroBatch + microBatches, window.Epoch,
        window.Number + 1, Skipped + (wasSkipped ? 1 : 0), Scale.After(wasSkipped));
}

/// <summary>The rows of one optimizer step.</summary>
/// <param name="Epoch">Its epoch, from 0.</param>
/// <param name="Number">Its number in the epoch, from 0.</param>
/// <param name="Sequences">Its sequences, at most batch size times accumulation steps of them.</param>
internal sealed record Window(int Epoch, int Number, TrainingRow[][] Sequences)
{
    /// <summary>The windows from a position on, epoch after epoch without end.</summary>
    public static IEnumerable<Window> From(TrainingState state, IReadOnlyList<TrainingRow[]> sequences, TrainingOptions options)
    {
        int size = (int)Math.Min(int.MaxValue, (long)options.BatchSize * options.GradientAccumulationSteps);
        for (int epoch = state.Epoch; ; epoch++)
        {
            int done = epoch == state.Epoch ? state.Window : 0;
            foreach ((int number, TrainingRow[][] rows) in RowOrder.Of(sequences, options, epoch).Chunk(size).Index().Skip(done))
            {
                yield return new Window(epoch, number, rows);
            }
        }
    }

    /// <summary>Its micro-batches.</summary>
    /// <param name="batchSize">Sequences of each; the last may have fewer.</param>
    /// <param name="multiple">Their lengths become multiples of this.</param>
    public Batch[] Batches(int batchSize, int multiple) => [.. Sequences.Chunk(batchSize).Select(rows => Batch.Of(rows, multiple))];

    /// <summary>Epochs done after this window, fractional.</summary>
    /// <param name="sequences">Sequences of an epoch.</param>
    /// <param name="options">How they are cut.</param>
    public double EpochsAfter(int sequences, TrainingOptions options)
    {
        int batches = (sequences + options.BatchSize - 1) / options.BatchSize;
        return Epoch + (Math.Min(batches, (Number + 1L) * options.GradientAccumulationSteps) / (double)batches);
    }
}
