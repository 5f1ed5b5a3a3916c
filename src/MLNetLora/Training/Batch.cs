using MLNetLora.Text;

namespace MLNetLora.Training;

/// <summary>Some rows as the graphs take them: right-padded ids, and the labelled positions alone.</summary>
/// <param name="Rows">Number of rows.</param>
/// <param name="Length">Padded length.</param>
/// <param name="InputIds">[rows·length].</param>
/// <param name="PositionIds">[rows·length], from 0 in each row.</param>
/// <param name="LabelPositions">[labels], row·length + the position before the label, whose logits predict it.</param>
/// <param name="LabelIds">[labels].</param>
/// <param name="Tokens">Tokens that are not padding.</param>
internal sealed record Batch(int Rows, int Length, long[] InputIds, long[] PositionIds, long[] LabelPositions, long[] LabelIds, int Tokens)
{
    /// <summary>Pads rows to the longest of them. Under a causal mask padding on the right is never seen by a token, so any id will do.</summary>
    public static Batch Of(IReadOnlyList<TrainingRow> rows)
    {
        int length = rows.Max(row => row.InputIds.Length);
        long[] ids = new long[rows.Count * length];
        long[] positions = new long[rows.Count * length];
        List<long> labelPositions = [];
        List<long> labelIds = [];
        for (int r = 0; r < rows.Count; r++)
        {
            for (int i = 0; i < length; i++)
            {
                positions[(r * length) + i] = i;
            }

            TrainingRow row = rows[r];
            for (int i = 0; i < row.InputIds.Length; i++)
            {
                ids[(r * length) + i] = row.InputIds[i];
                if (i > 0 && row.Labels[i] != TrainingRow.Ignore)
                {
                    labelPositions.Add((r * length) + i - 1);
                    labelIds.Add(row.Labels[i]);
                }
            }
        }

        return new Batch(rows.Count, length, ids, positions, [.. labelPositions], [.. labelIds], rows.Sum(row => row.InputIds.Length));
    }
}
