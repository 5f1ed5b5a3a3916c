using Microsoft.ML;
using MLNetLora.Cli.Configuration;

namespace MLNetLora.Cli.Running;

/// <summary>The rows of a run: those to learn from, and those whose loss is measured.</summary>
internal static class RowFiles
{
    /// <summary>Opens them.</summary>
    /// <param name="ml">The context.</param>
    /// <param name="settings">Which files, how many rows, how they are split.</param>
    /// <returns>The rows, and those for validation, null for none.</returns>
    /// <exception cref="ConfigException">There is no data, or nothing is left to learn from.</exception>
    public static (IDataView Rows, IDataView? Validation) Open(MLContext ml, RunSettings settings)
    {
        IDataView rows = Load(ml, settings, settings.Data);
        if (settings.Validation.Count > 0)
        {
            return (rows, Load(ml, settings, settings.Validation));
        }

        return settings.ValidationSize > 0 ? Split(ml, rows, settings.ValidationSize, settings.Training.Seed ?? 42) : (rows, null);
    }

    private static IDataView Load(MLContext ml, RunSettings settings, IReadOnlyList<string> names)
    {
        if (names.Count == 0)
        {
            throw new ConfigException("There is no data: give --data FILE, or data in the configuration.");
        }

        IDataView rows = ml.Data.LoadFromInstructionFile(DatasetNames.Resolve(names, settings.DatasetFolder), settings.DataFormat);
        return settings.MaximumRows is { } most ? ml.Data.TakeRows(rows, most) : rows;
    }

    /// <summary>Keeps some rows, drawn by the seed, for validation; they and the others stay in the data's order.</summary>
    internal static (IDataView Rows, IDataView Validation) Split(MLContext ml, IDataView all, double size, int seed)
    {
        long count = 0;
        using (DataViewRowCursor cursor = all.GetRowCursor([]))
        {
            while (cursor.MoveNext())
            {
                count++;
            }
        }

        long kept = size < 1 ? (long)Math.Ceiling(count * size) : (long)size;
        if (kept >= count)
        {
            throw new ConfigException(FormattableString.Invariant(
                $"Of the {count} rows {kept} would be kept for validation (--validation-size), and none is left to learn from."));
        }

        // Whatever the number of rows, as many numbers are remembered as rows are kept (Floyd).
        Random random = new(seed);
        HashSet<long> drawn = [];
        for (long last = count - kept; last < count; last++)
        {
            long one = random.NextInt64(last + 1);
            drawn.Add(drawn.Contains(one) ? last : one);
        }

        return (Where(keeps: false), Where(keeps: true));

        IDataView Where(bool keeps) =>
            ml.Data.FilterByStatefulCustomPredicate<Nothing, Counter>(all, (_, counter) => drawn.Contains(counter.Next++) != keeps, counter => counter.Next = 0);
    }

    private sealed class Nothing;

    private sealed class Counter
    {
        public long Next { get; set; }
    }
}
