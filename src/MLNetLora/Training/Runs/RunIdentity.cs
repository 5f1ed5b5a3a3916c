using System.Globalization;
using System.IO.Hashing;
using System.Runtime.InteropServices;
using MLNetLora.Text;

namespace MLNetLora.Training;

/// <summary>Rows by what decides a run: how many, and hashes of their tokens and labels.</summary>
/// <param name="Rows">How many.</param>
/// <param name="Tokens">Tokens of all of them.</param>
/// <param name="Hashes">XXH3 of at most 256 runs of rows of equal length, hexadecimal.</param>
internal sealed record RowsMark(int Rows, long Tokens, IReadOnlyList<string> Hashes)
{
    private const int MostHashes = 256;

    /// <summary>Of rows.</summary>
    public static RowsMark Of(IReadOnlyList<TrainingRow> rows) => new(rows.Count, rows.Sum(row => (long)row.InputIds.Length),
        [.. rows.Chunk(Each(rows.Count)).Select(Hash)]);

    /// <summary>In what other rows differ from these: "they are 24 rows, 25 were expected". Null: they do not.</summary>
    public string? Difference(RowsMark now)
    {
        if (now.Rows != Rows)
        {
            return FormattableString.Invariant($"they are {now.Rows} rows, and were {Rows}");
        }

        int each = Each(Rows);
        foreach (((string before, string after), int i) in Hashes.Zip(now.Hashes).Select((pair, i) => (pair, i)))
        {
            if (before != after)
            {
                (int first, int last) = ((i * each) + 1, Math.Min(Rows, (i + 1) * each));
                string which = first == last ? $"row {first} is" : $"rows {first} to {last} are not what they were: at least one is";
                return $"{which} another"
                    + " (its text, the chat template or the tokenizer)";
            }
        }

        return Hashes.Count == now.Hashes.Count ? null : "they are others";
    }

    private static int Each(int rows) => Math.Max(1, (rows + MostHashes - 1) / MostHashes);

    private static string Hash(TrainingRow[] rows)
    {
        XxHash3 hash = new();
        foreach (TrainingRow row in rows)
        {
            int length = row.InputIds.Length;
            hash.Append(MemoryMarshal.AsBytes(new ReadOnlySpan<int>(in length)));
            hash.Append(MemoryMarshal.AsBytes(row.InputIds.AsSpan()));
            hash.Append(MemoryMarshal.AsBytes(row.Labels.AsSpan()));
        }

        return hash.GetCurrentHashAsUInt64().ToString("x16", CultureInfo.InvariantCulture);
    }
}

/// <summary>What decides the result of a run, so that one that is resumed is known to be the same.</summary>
/// <param name="Base">The base checkpoint: what by what it is known by. Another base is another run.</param>
/// <param name="Shape">What the saved state has a place for, by name: rank, targets, optimizer. Another shape has none.</param>
/// <param name="Options">The other options that decide the result, by name.</param>
/// <param name="Machine">What changes the last digits, or when something is done, and nothing else.</param>
/// <param name="Rows">The training rows.</param>
/// <param name="Validation">The validation rows.</param>
internal sealed record RunIdentity(
    IReadOnlyDictionary<string, string> Base,
    IReadOnlyDictionary<string, string> Shape,
    IReadOnlyDictionary<string, string> Options,
    IReadOnlyDictionary<string, string> Machine,
    RowsMark Rows,
    RowsMark Validation)
{
    /// <summary>Refuses to go on with what was saved from another run, and says what may be different in the last digits.</summary>
    /// <param name="now">The run that would go on.</param>
    /// <param name="saved">Where this was saved.</param>
    /// <param name="allowsChanges">Whether other options and rows are wanted.</param>
    /// <returns>What is to be said in warnings.</returns>
    /// <exception cref="OptionException">It is another run.</exception>
    public IReadOnlyList<string> Require(RunIdentity now, string saved, bool allowsChanges)
    {
        string[] others = [.. Others(Base, now.Base).Select(other => $"the base's {other}"), .. Others(Shape, now.Shape)];
        string[] changed =
        [
            .. Others(Options, now.Options),
            .. Rows.Difference(now.Rows) is { } rows ? (string[])[$"the training rows are not the same: {rows}"] : [],
            .. Validation.Difference(now.Validation) is { } validation ? (string[])[$"the validation rows are not the same: {validation}"] : [],
        ];
        if (others.Length > 0)
        {
            throw new OptionException($"{saved} cannot be resumed: {string.Join("; ", others.Concat(changed))}. Put back what differs, or start a new run "
                + "(an adapter is gone on from with InitialAdapter).");
        }

        if (changed.Length > 0 && !allowsChanges)
        {
            throw new OptionException($"{saved} is of a run with other settings: {string.Join("; ", changed)}. Put them back to go on exactly, or set "
                + "ResumeWithChanges to go on with the new ones.");
        }

        return
        [
            .. changed.Select(change => $"Resumed with a change: {change}."),
            .. Others(Machine, now.Machine).Select(other => $"Resumed under other conditions: {other}; the result may differ from that of a run that was not "
                + "stopped."),
        ];
    }

    /// <summary>What only one of two versions of this library knows says nothing; a file of weights that is only on one side does.</summary>
    private static IEnumerable<string> Others(IReadOnlyDictionary<string, string> before, IReadOnlyDictionary<string, string> now) =>
        from name in before.Keys.Union(now.Keys)
        let isFile = name.EndsWith(".safetensors", StringComparison.Ordinal)
        where isFile || (before.ContainsKey(name) && now.ContainsKey(name))
        let was = before.GetValueOrDefault(name, "not there")
        let value = now.GetValueOrDefault(name, "not there")
        where was != value
        select $"{name} is {value}, and was {was}";
}
