using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Text;

public sealed class PackingTests
{
    [Fact]
    public void Every_row_is_packed_whole_and_at_least_as_tightly_as_by_first_fit()
    {
        for (int seed = 0; seed < 200; seed++)
        {
            Random random = new(seed);
            int capacity = random.Next(20, 400);
            int longest = random.Next(1, capacity + 1);
            TrainingRow[] rows = [.. Enumerable.Range(0, random.Next(1, 300)).Select(i => Row(i, random.Next(1, longest + 1)))];
            IReadOnlyList<TrainingRow[]> sequences = Packing.BestFitDecreasing(rows, capacity);
            AssertSame(rows, sequences);
            Assert.All(sequences, sequence => Assert.InRange(Tokens(sequence), 1, capacity));
            Assert.InRange(sequences.Count, (rows.Sum(row => row.InputIds.Length) + capacity - 1) / capacity, FirstFit(rows, capacity));
        }
    }

    [Fact]
    public void The_same_rows_are_packed_the_same_way()
    {
        TrainingRow[] rows = [.. Enumerable.Range(0, 100).Select(i => Row(i, (i * 37 % 50) + 1))];
        IReadOnlyList<TrainingRow[]> once = Packing.BestFitDecreasing(rows, 64);
        IReadOnlyList<TrainingRow[]> again = Packing.BestFitDecreasing(rows, 64);
        Assert.Equal(once.Count, again.Count);
        Assert.All(once.Zip(again), pair => Assert.Equal(pair.First, pair.Second));
    }

    [Fact]
    public void A_row_above_the_capacity_stands_alone_and_uncut()
    {
        TrainingRow[] rows = [Row(0, 3), Row(1, 12), Row(2, 7), Row(3, 10), Row(4, 11)];
        IReadOnlyList<TrainingRow[]> sequences = Packing.BestFitDecreasing(rows, 10);
        AssertSame(rows, sequences);
        Assert.Equal(["1", "4", "3", "2 0"], sequences.Select(sequence => string.Join(' ', sequence.Select(row => row.InputIds[0]))));
        Assert.Empty(Packing.BestFitDecreasing([], 10));
    }

    [Fact]
    public void The_fullest_sequence_with_room_is_taken()
    {
        // 6 and 5 begin sequences; 4 fills the first one (room 4) rather than the second (room 5), which is left for 5.
        IReadOnlyList<TrainingRow[]> sequences = Packing.BestFitDecreasing([Row(0, 4), Row(1, 6), Row(2, 5), Row(3, 5)], 10);
        Assert.Equal(["1 0", "2 3"], sequences.Select(sequence => string.Join(' ', sequence.Select(row => row.InputIds[0]))));
    }

    private static TrainingRow Row(int number, int length)
    {
        int[] ids = [number, .. Enumerable.Repeat(1, length - 1)];
        return new TrainingRow(ids, ids);
    }

    private static int Tokens(IEnumerable<TrainingRow> rows) => rows.Sum(row => row.InputIds.Length);

    private static void AssertSame(TrainingRow[] rows, IEnumerable<TrainingRow[]> sequences)
    {
        TrainingRow[] packed = [.. sequences.SelectMany(sequence => sequence).OrderBy(row => row.InputIds[0])];
        Assert.Equal(rows.Length, packed.Length);
        Assert.All(rows.Zip(packed), pair => Assert.Same(pair.First, pair.Second));
    }

    private static int FirstFit(IEnumerable<TrainingRow> rows, int capacity)
    {
        List<int> used = [];
        foreach (TrainingRow row in rows)
        {
            int at = used.FindIndex(tokens => tokens + row.InputIds.Length <= capacity);
            if (at < 0)
            {
                used.Add(row.InputIds.Length);
            }
            else
            {
                used[at] += row.InputIds.Length;
            }
        }
        return used.Count;
    }
}
