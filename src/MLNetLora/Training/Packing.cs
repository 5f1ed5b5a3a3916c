using MLNetLora.Text;

namespace MLNetLora.Training;

/// <summary>Puts several short rows into one sequence, so that little of a batch is padding. Rows are never cut, and never see each other (see
/// <see cref="GraphInputs"/>).</summary>
internal static class Packing
{
    /// <summary>The sequences that batches are made of: packed where <see cref="TrainingOptions.PackingLength"/> says so, else one for each row.</summary>
    public static IReadOnlyList<TrainingRow[]> Sequences(IReadOnlyList<TrainingRow> rows, TrainingOptions options) =>
        options.PackingLength > 0 ? BestFitDecreasing(rows, options.PackingLength) : [.. rows.Select(row => new[] { row })];

    /// <summary>Best-fit decreasing: the longest row first, each into the fullest sequence that still has room.</summary>
    /// <param name="rows">Rows.</param>
    /// <param name="capacity">Tokens per sequence; a longer row gets a sequence of its own.</param>
    public static IReadOnlyList<TrainingRow[]> BestFitDecreasing(IEnumerable<TrainingRow> rows, int capacity)
    {
        List<List<TrainingRow>> sequences = [];
        SortedDictionary<int, Stack<int>> byRoom = []; // room left -> sequences with it
        foreach (TrainingRow row in rows.OrderByDescending(row => row.InputIds.Length))
        {
            int size = row.InputIds.Length;
            int room = byRoom.Keys.FirstOrDefault(free => free >= size, -1);
            int index;
            if (room < 0)
            {
                index = sequences.Count;
                sequences.Add([]);
                room = Math.Max(capacity, size);
            }
            else
            {
                index = byRoom[room].Pop();
                if (byRoom[room].Count == 0)
                {
                    byRoom.Remove(room);
                }
            }

            sequences[index].Add(row);
            if (!byRoom.TryGetValue(room - size, out Stack<int>? stack))
            {
                byRoom[room - size] = stack = new Stack<int>();
            }

            stack.Push(index);
        }

        return [.. sequences.Select(sequence => sequence.ToArray())];
    }
}
