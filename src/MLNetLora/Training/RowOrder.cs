using MLNetLora.Text;

namespace MLNetLora.Training;

/// <summary>The order of the sequences in an epoch. It depends on the options and the epoch's number alone.</summary>
internal static class RowOrder
{
    private const long GroupedWindows = 50; // as transformers' group_by_length

    /// <summary>The sequences in the order of an epoch.</summary>
    public static IEnumerable<TrainingRow[]> Of(IReadOnlyList<TrainingRow[]> sequences, TrainingOptions options, int epoch)
    {
        if (!options.Shuffle)
        {
            return sequences;
        }

        TrainingRow[][] order = [.. sequences];
        Random random = new(unchecked((options.SeedOrDefault * 31) + epoch));
        random.Shuffle(order);
        return options.GroupByLength ? Grouped(order, options, random) : order;
    }

    /// <summary>Sorted within groups of 50 windows, cut into batches, the batches shuffled: like lengths meet, and long rows still come at any time.</summary>
    private static IEnumerable<TrainingRow[]> Grouped(TrainingRow[][] order, TrainingOptions options, Random random)
    {
        int group = (int)Math.Min(int.MaxValue, GroupedWindows * options.BatchSize * options.GradientAccumulationSteps);
        TrainingRow[][][] batches = [.. order.Chunk(group).SelectMany(part => part.OrderByDescending(Tokens).Chunk(options.BatchSize))];
        TrainingRow[][]? rest = batches.FirstOrDefault(batch => batch.Length < options.BatchSize); // stays last: a short batch inside would shift all others
        TrainingRow[][][] whole = [.. batches.Where(batch => batch != rest)];
        random.Shuffle(whole);
        return whole.Append(rest ?? []).SelectMany(batch => batch);
    }

    private static int Tokens(TrainingRow[] sequence) => sequence.Sum(row => row.InputIds.Length);
}
