using MLNetLora.Text;

namespace MLNetLora.Tools.NanoQwen.Corpus;

/// <summary>
/// Lays short rows behind each other in windows of one length, so that no arithmetic is spent on padding. A row is never cut.
/// The rows of a window can see each other; they stand in random order and each ends with a control token, so there is nothing to be gained from looking back.
/// </summary>
internal static class RowPacker
{
    // How many open windows are tried before the fullest one is closed: enough to fill windows to the brim, few enough to keep the random order.
    private const int OpenWindows = 32;

    /// <summary>Packs the rows in their order: each goes into the open window that it fills best.</summary>
    public static IEnumerable<TrainingRow> Pack(IEnumerable<TrainingRow> rows, int windowLength)
    {
        List<(List<TrainingRow> Rows, int Length)> open = [];
        foreach (TrainingRow row in rows)
        {
            int length = row.InputIds.Length;
            if (length > windowLength)
            {
                throw new OptionException($"a row of {length} tokens does not fit into a window of {windowLength}");
            }

            int best = -1;
            for (int i = 0; i < open.Count; i++)
            {
                if (open[i].Length + length <= windowLength && (best < 0 || open[i].Length > open[best].Length))
                {
                    best = i;
                }
            }

            if (best >= 0)
            {
                open[best].Rows.Add(row);
                open[best] = (open[best].Rows, open[best].Length + length);
                continue;
            }
            if (open.Count == OpenWindows)
            {
                int fullest = open.IndexOf(open.MaxBy(window => window.Length));
                yield return Join(open[fullest].Rows);
                open.RemoveAt(fullest);
            }
            open.Add(([row], length));
        }
        foreach ((List<TrainingRow> window, _) in open)
        {
            yield return Join(window);
        }
    }

    private static TrainingRow Join(List<TrainingRow> rows) =>
        new([.. rows.SelectMany(row => row.InputIds)], [.. rows.SelectMany(row => row.Labels)]);
}
