using MLNetLora.Text;

namespace MLNetLora.Training;

/// <summary>Some sequences as the graphs take them: right-padded ids, and the labelled positions alone. A sequence is one row, or several packed one
/// after another.</summary>
/// <param name="Rows">Number of sequences.</param>
/// <param name="Length">Padded length.</param>
/// <param name="InputIds">[rows·length].</param>
/// <param name="PositionIds">[rows·length], from 0 at the start of each packed row.</param>
/// <param name="LabelPositions">[labels], row·length + the position before the label, whose logits predict it.</param>
/// <param name="LabelIds">[labels].</param>
/// <param name="Segments">[rows·length], which packed row a token belongs to; null where no sequence holds more than one row.</param>
/// <param name="Tokens">Tokens that are not padding.</param>
internal sealed record Batch(int Rows, int Length, long[] InputIds, long[] PositionIds, long[] LabelPositions, long[] LabelIds, int[]? Segments, int Tokens)
{
    /// <summary>A batch of single rows.</summary>
    public static Batch Of(IEnumerable<TrainingRow> rows, int multiple = 1) => Of([.. rows.Select(row => new[] { row })], multiple);

    /// <summary>The same, padded to a length; what the padding holds is never seen.</summary>
    /// <param name="length">At least the present one.</param>
    public Batch PaddedTo(int length) => length == Length ? this : this with
    {
        Length = length,
        InputIds = Padded(InputIds, Rows, length),
        PositionIds = Padded(PositionIds, Rows, length),
        LabelPositions = [.. LabelPositions.Select(at => (at / Length * length) + (at % Length))],
        Segments = Segments is null ? null : Padded(Segments, Rows, length),
    };

    /// <summary>Numbers of tokens, row after row, with zeros behind those of each row.</summary>
    public static T[] Padded<T>(T[] numbers, int rows, int length)
    {
        T[] padded = new T[rows * length];
        int from = numbers.Length / rows;
        for (int row = 0; row < rows; row++)
        {
            numbers.AsSpan(row * from, from).CopyTo(padded.AsSpan(row * length));
        }

        return padded;
    }

    /// <summary>Pads sequences to the longest of them. Under a causal mask padding on the right is never seen by a token, so any id will do.</summary>
    /// <param name="sequences">Each with the rows packed into it; no loss crosses a border, since the first token of a row has no label.</param>
    /// <param name="multiple">The length becomes a multiple of this.</param>
    public static Batch Of(IReadOnlyList<TrainingRow[]> sequences, int multiple = 1)
    {
        int longest = sequences.Max(rows => rows.Sum(row => row.InputIds.Length));
        int length = (longest + multiple - 1) / multiple * multiple;
        long[] ids = new long[sequences.Count * length];
        long[] positions = new long[sequences.Count * length];
        int[]? segments = sequences.Any(rows => rows.Length > 1) ? new int[sequences.Count * length] : null;
        List<long> labelPositions = [];
        List<long> labelIds = [];
        for (int s = 0; s < sequences.Count; s++)
        {
            int at = s * length;
            for (int r = 0; r < sequences[s].Length; r++)
            {
                TrainingRow row = sequences[s][r];
                for (int i = 0; i < row.InputIds.Length; i++, at++)
                {
                    ids[at] = row.InputIds[i];
                    positions[at] = i;
                    if (segments is not null)
                    {
                        segments[at] = r + 1;
                    }

                    if (i > 0 && row.Labels[i] != TrainingRow.Ignore)
                    {
                        labelPositions.Add(at - 1);
                        labelIds.Add(row.Labels[i]);
                    }
                }
            }
        }

        return new Batch(sequences.Count, length, ids, positions, [.. labelPositions], [.. labelIds], segments,
            sequences.Sum(rows => rows.Sum(row => row.InputIds.Length)));
    }
}
