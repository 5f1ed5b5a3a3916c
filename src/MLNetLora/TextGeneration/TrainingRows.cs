using Microsoft.ML;
using MLNetLora.Text;

namespace MLNetLora.TextGeneration;

/// <summary>Reads the rows to learn from out of a data view.</summary>
internal static class TrainingRows
{
    /// <summary>
    /// The rows, in the order of the view, read while they are enumerated: a long file behind the view is never in memory. Throws an
    /// <see cref="ArgumentOutOfRangeException"/> that names a missing or mistyped column at once, and while enumerating a <see cref="DatasetException"/> for an
    /// empty view or for a row (counted from 1) with nothing to learn.
    /// </summary>
    /// <param name="data">The view.</param>
    /// <param name="names">The names of its columns.</param>
    /// <param name="what">"training" or "validation", for the messages.</param>
    /// <param name="cancellationToken">Checked at every row.</param>
    public static IEnumerable<TextRow> Read(IDataView data, ColumnNames names, string what, CancellationToken cancellationToken)
    {
        RowColumns columns = RowColumns.Find(names, TextColumns.Of(data.Schema), training: true);
        return Rows();

        IEnumerable<TextRow> Rows()
        {
            long number = 0;
            using DataViewRowCursor cursor = data.GetRowCursor(columns.Of(data.Schema, names, training: true));
            RowReader reader = new(cursor, names, columns, training: true, () => $"Row {number} of the {what} data");
            while (cursor.MoveNext())
            {
                cancellationToken.ThrowIfCancellationRequested();
                number++;
                yield return reader.Read();
            }

            if (number == 0)
            {
                throw new DatasetException($"The {what} data has no rows.");
            }
        }
    }
}
