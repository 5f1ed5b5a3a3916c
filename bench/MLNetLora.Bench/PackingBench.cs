using System.Diagnostics;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Bench;

/// <summary>Rows shuffled into padded batches.</summary>
/// <param name="Useful">Share of the positions that are tokens.</param>
/// <param name="MeanLength">Padded length of a batch, on average.</param>
/// <param name="Labelled">Share of the positions that have a label.</param>
internal sealed record PaddedBatches(double Useful, int MeanLength, double Labelled);

/// <summary>How much of a training step is useful tokens: packed sequences beside padded batches of the same rows.</summary>
internal static class PackingBench
{
    public static void Run(string folder, string[] files, int capacity, int batch)
    {
        ConversationFormatter formatter = new(QwenTokenizer.Load(folder), ChatTemplate.Load(folder));
        TrainingRow[] rows = [.. formatter.TokenizeRows(Dataset.Read(files), LabelScope.Answer, capacity).Select(row => row.Row)];
        long tokens = rows.Sum(row => (long)row.InputIds.Length);
        Packing.BestFitDecreasing(rows, capacity);
        long begun = Stopwatch.GetTimestamp();
        IReadOnlyList<TrainingRow[]> sequences = Packing.BestFitDecreasing(rows, capacity);
        TimeSpan time = Stopwatch.GetElapsedTime(begun);
        int fullest = sequences.Max(sequence => sequence.Sum(row => row.InputIds.Length));

        TrainingRow[] shuffled = [.. rows];
        new Random(1).Shuffle(shuffled);
        Console.WriteLine(
            $"rows                         {rows.Length}, {tokens} tokens, longest {rows.Max(row => row.InputIds.Length)}, {(double)tokens / rows.Length:F1} "
            + "on average");
        Console.WriteLine(
            $"packed at {capacity,-19}{sequences.Count} sequences, {100.0 * tokens / ((long)sequences.Count * capacity):F2}% of the capacity filled, fullest "
            + $"{fullest}, {time.TotalMilliseconds:F1} ms");
        Console.WriteLine($"fewest possible              {(tokens + capacity - 1) / capacity} sequences, "
            + $"{100.0 * tokens / ((tokens + capacity - 1) / capacity * capacity):F2}%");
        Console.WriteLine($"padded, shuffled batches     {batch} rows: {100.0 * tokens / Padded(shuffled):F2}% of the positions are tokens");
        Console.WriteLine($"padded, grouped by length    {batch} rows: {100.0 * tokens / Padded(shuffled.OrderBy(row => row.InputIds.Length)):F2}%");

        long Padded(IEnumerable<TrainingRow> order) => order.Chunk(batch).Sum(part => (long)part.Length * part.Max(row => row.InputIds.Length));
    }

    /// <summary>What padding makes of the rows of data files.</summary>
    public static PaddedBatches Padded(string folder, string[] files, int limit, int batch)
    {
        ConversationFormatter formatter = new(QwenTokenizer.Load(folder), ChatTemplate.Load(folder));
        TrainingRow[] rows = [.. formatter.TokenizeRows(Dataset.Read(files), LabelScope.Answer, limit).Select(row => row.Row)];
        new Random(1).Shuffle(rows);
        TrainingRow[][] batches = [.. rows.Chunk(batch)];
        double positions = batches.Sum(part => (double)part.Length * part.Max(row => row.InputIds.Length));
        return new PaddedBatches(rows.Sum(row => (double)row.InputIds.Length) / positions,
            (int)Math.Round(batches.Average(part => part.Max(row => row.InputIds.Length))), rows.Sum(row => (double)row.LabelTokens) / positions);
    }
}
