using System.Globalization;

namespace MLNetLora.Cli.NewCheckpoint;

/// <summary>Sizes that no model has, and no disk: refused before anything is written, and without counting millions of tensors.</summary>
internal static class SizeLimits
{
    private const int MostLayers = 10_000;
    private const int Widest = 1 << 20;
    private const int MostHeads = 1 << 14;
    private const int MostRows = 1 << 24;
    private const int MostExperts = 1 << 14;
    private const long MostTensors = 1_000_000;
    private const int MostFiles = 99_999; // of whose numbers names have five digits
    private const decimal MostSparseBytes = 100e12m; // beyond what file systems number

    /// <summary>Refuses a model by its sizes.</summary>
    /// <exception cref="OptionException">The message names the option, or says how much would be written.</exception>
    public static void Require(ModelSize size)
    {
        Within("--layers", size.Layers, MostLayers, "a model has at least one layer");
        Within("--vocab-size", size.VocabularySize, MostRows, "the vocabulary needs a row for each token");
        Within("--hidden-size", size.HiddenSize, Widest, "a model has a width");
        Within("--heads", size.Heads, MostHeads, "a model has at least one head");
        Within("--key-heads", size.KeyValueHeads, MostHeads, "a model has at least one head of keys");
        Within("--intermediate-size", size.Experts?.IntermediateSize ?? size.IntermediateSize, Widest, "a layer has a width");
        if (size.Experts is { } experts)
        {
            Within("--experts", experts.Count, MostExperts, "a mixture has at least one expert");
        }
    }

    /// <summary>Refuses what does not fit on the drive.</summary>
    /// <param name="size">The model; its sizes are within the limits.</param>
    /// <param name="type">The type of its weights.</param>
    /// <param name="shardBytes">The largest file.</param>
    /// <param name="target">The folder that would be written, in full.</param>
    /// <param name="isSparse">Whether weights take no room.</param>
    /// <exception cref="OptionException">The message says how much would be written.</exception>
    public static void RequireSpace(ModelSize size, ElementType type, long shardBytes, string target, bool isSparse)
    {
        (decimal elements, decimal tensors) = Totals(size);
        decimal bytes = elements * type.Size;
        string whole = string.Create(CultureInfo.InvariantCulture, $"{bytes / 1e9m:N1} GB would be written: {elements:N0} parameters in {type.Option}");
        if (tensors > MostTensors)
        {
            throw new OptionException(string.Create(CultureInfo.InvariantCulture,
                $"{whole}, in {tensors:N0} tensors; at most {MostTensors:N0} are written. Take fewer --layers or --experts."));
        }

        if (Math.Min(bytes / shardBytes, tensors) > MostFiles)
        {
            throw new OptionException(string.Create(CultureInfo.InvariantCulture,
                $"{whole}, in more than {MostFiles:N0} files of {shardBytes / 1e6m:N1} MB. Take a larger --shard-size, or smaller sizes."));
        }

        decimal room = isSparse ? MostSparseBytes : Free(target) ?? MostSparseBytes;
        if (bytes > room)
        {
            throw new OptionException(string.Create(CultureInfo.InvariantCulture,
                $"{whole}, and {(isSparse ? "sparse files may have" : "the drive has")} {room / 1e9m:N1} GB. Take smaller sizes, another --dtype or --out."));
        }
    }

    /// <summary>Numbers and tensors of a model. Layers repeat in groups of four, so that four tell all.</summary>
    internal static (decimal Elements, decimal Tensors) Totals(ModelSize size)
    {
        const int period = 4;
        (decimal Elements, decimal Tensors)[] first = [.. Enumerable.Range(0, period + 1).Select(layers =>
        {
            TensorSpec[] tensors = [.. (size with { Layers = layers }).Tensors()];
            return (tensors.Sum(tensor => (decimal)tensor.Elements), (decimal)tensors.Length);
        })];
        (int groups, int rest) = (size.Layers / period, size.Layers % period);
        return (first[rest].Elements + (groups * (first[period].Elements - first[0].Elements)),
            first[rest].Tensors + (groups * (first[period].Tensors - first[0].Tensors)));
    }

    private static void Within(string option, int value, int most, string why)
    {
        if (value < 1 || value > most)
        {
            throw new OptionException(string.Create(CultureInfo.InvariantCulture, $"{option} is {value}: {why}, and at most {most:N0} can be written."));
        }
    }

    /// <summary>What the drive has left that the folder would lie on; null where it does not tell.</summary>
    private static decimal? Free(string target)
    {
        string? at = target;
        while (at is not null && !Directory.Exists(at))
        {
            at = Path.GetDirectoryName(at);
        }

        try
        {
            return at is null ? null : new DriveInfo(at).AvailableFreeSpace;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return null;
        }
    }
}
