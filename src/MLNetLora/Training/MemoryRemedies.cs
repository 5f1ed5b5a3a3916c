using MLNetLora.Adapters;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;

namespace MLNetLora.Training;

/// <summary>Says which options make a run smaller, by how much of its own memory, and whether that is enough. Estimated for the run with each option changed;
/// nothing is measured, so that it can be said when memory has run out.</summary>
internal static class MemoryRemedies
{
    private const int LowestRank = 8;
    private const int Notable = 100; // an option that saves less than one part in so many is left out

    /// <summary>What to do about a run that does not fit.</summary>
    public static string Sufficient(RunMemory run)
    {
        List<Saving> savings = Of(run, isLimited: true);
        if (savings.Count == 0)
        {
            return NoOption;
        }

        Saving[] alone = [.. savings.Where(saving => saving.Fits)];
        if (alone.Length > 0)
        {
            return $"{List(savings)} Enough alone: {string.Join("; ", alone.Select(saving => saving.Remedy.Name))}.";
        }

        RunMemory all = run;
        for (int i = 0; i < savings.Count; i++)
        {
            all = savings[i].Remedy.Apply(all);
            MemoryEstimate estimate = all.Estimate();
            if (estimate.Fits(run.Options.Device))
            {
                string names = string.Join("; ", savings.Take(i + 1).Select(saving => saving.Remedy.Name));
                return $"{List(savings)} None is enough alone; these together are, with {MachineMemory.Gigabytes(estimate.Bytes)} at least: {names}.";
            }
        }

        return $"{List(savings)} Even with all of them it is {MachineMemory.Gigabytes(all.Estimate().Bytes)} at least: take a smaller model, or more memory.";
    }

    /// <summary>What the options save; for a run whose memory has run out though its estimate has fitted.</summary>
    public static string Savings(RunMemory run)
    {
        List<Saving> savings = Of(run, isLimited: false);
        string all = $"At the least the run takes {MachineMemory.Gigabytes(run.Estimate().Bytes)}.";
        return savings.Count == 0 ? $"{all} {NoOption}" : $"{all} {List(savings)}";
    }

    private static string NoOption => "No option makes this run smaller by much: take a smaller model, or more memory.";

    private static string List(IEnumerable<Saving> savings) =>
        $"What would save memory: {string.Join("; ", savings.Select(saving => $"{saving.Remedy.Text}, {MachineMemory.Gigabytes(saving.Bytes)}"))}.";

    /// <summary>The options that help, those that save most first.</summary>
    /// <param name="run">The run.</param>
    /// <param name="isLimited">Whether it does not fit: then the mildest change is looked for that is enough.</param>
    private static List<Saving> Of(RunMemory run, bool isLimited)
    {
        long bytes = run.Estimate().Bytes;
        List<Saving> savings = [];
        foreach (IEnumerable<Remedy> levels in All(run))
        {
            Saving? last = null;
            foreach (Remedy remedy in levels)
            {
                if (Estimate(remedy.Apply(run)) is not { } estimate)
                {
                    continue;
                }

                last = new Saving(remedy, bytes - estimate.Bytes, isLimited && estimate.Fits(run.Options.Device));
                if (last.Fits)
                {
                    break;
                }
            }

            if (last is not null && last.Bytes > bytes / Notable)
            {
                savings.Add(last);
            }
        }

        return [.. savings.OrderByDescending(saving => saving.Bytes)];
    }

    /// <summary>The estimate; null where the options do not go together.</summary>
    private static MemoryEstimate? Estimate(RunMemory run)
    {
        try
        {
            run.Options.Validate();
            return run.Estimate();
        }
        catch (OptionException)
        {
            return null;
        }
    }

    /// <summary>Changes of options that are not made yet, each from mild to strong.</summary>
    private static IEnumerable<IEnumerable<Remedy>> All(RunMemory run)
    {
        TrainingOptions options = run.Options;
        bool isAdapter = run.Lora is not null;
        if (!options.ActivationCheckpointing)
        {
            yield return [Remedy.Set($"{nameof(options.ActivationCheckpointing)} true", changed => changed.ActivationCheckpointing = true)];
        }

        yield return Halves(Math.Min(options.BatchSize, Packing.Sequences(run.Rows, options).Count), lowest: 1).Select(size => Batch(options, size));
        yield return Lengths(run);
        if (options.PrepackWeights)
        {
            yield return [Remedy.Set($"{nameof(options.PrepackWeights)} false", changed => changed.PrepackWeights = false)];
        }

        if (options.Device is CudaDevice && isAdapter && options.Precision == WeightPrecision.Checkpoint && run.Checkpoint is { IsFourBit: false })
        {
            yield return [Remedy.Set($"{nameof(options.Precision)} {WeightPrecision.Nf4}", changed => changed.Precision = WeightPrecision.Nf4)];
        }
        else if (options.Precision == WeightPrecision.Int8)
        {
            yield return [Remedy.Set($"{nameof(options.Precision)} {WeightPrecision.Checkpoint} instead of {WeightPrecision.Int8}",
                changed => changed.Precision = WeightPrecision.Checkpoint)];
        }

        if (options.Optimizer is OptimizerKind.AdamW)
        {
            yield return [Remedy.Set($"{nameof(options.Optimizer)} {OptimizerKind.AdamW8Bit} instead of {options.Optimizer}",
                changed => changed.Optimizer = OptimizerKind.AdamW8Bit)];
        }

        if (run is { Lora: { } lora, HasInitial: false })
        {
            yield return Halves(lora.Rank, LowestRank).Select(rank => new Remedy($"{nameof(lora.Rank)} {rank}", $" instead of {lora.Rank}",
                other => other with { Lora = other.Lora!.With(changed => changed.Rank = rank) }));
        }
        else if (!isAdapter && run.Checkpoint is not null)
        {
            yield return [new Remedy("Method Lora", " instead of Full",
                other => other with { Lora = new LoraOptions() })];
        }
    }

    private static Remedy Batch(TrainingOptions options, int size)
    {
        int accumulation = (int)Math.Min(int.MaxValue, (((long)options.BatchSize * options.GradientAccumulationSteps) + size - 1) / size);
        return new Remedy($"{nameof(options.BatchSize)} {size}",
            $" instead of {options.BatchSize} (with {nameof(options.GradientAccumulationSteps)} {accumulation} steps stay as large)",
            run => run.With(changed => (changed.BatchSize, changed.GradientAccumulationSteps) = (size, accumulation)));
    }

    private static IEnumerable<Remedy> Lengths(RunMemory run)
    {
        const string Maximum = "MaximumSequenceLength"; // of the trainer, a room above
        const string Packed = nameof(TrainingOptions.PackingLength);
        int longest = run.Rows.Max(row => row.InputIds.Length);
        int packing = run.Options.PackingLength;
        if (packing > longest)
        {
            int length = Math.Max(longest, packing / 2);
            yield return new Remedy($"{Packed} {length}", $" instead of {packing}", other => other.With(changed => changed.PackingLength = length));
        }
        else if (longest / 2 >= 2)
        {
            int length = longest / 2;
            yield return new Remedy(packing > 0 ? $"{Maximum} and {Packed} {length}" : $"{Maximum} {length}", $" (the longest row has {longest} tokens)",
                other => other.With(changed => changed.PackingLength = Math.Min(changed.PackingLength, length)) with
                {
                    Rows = [.. other.Rows.Select(row => Cut(row, length))],
                    Validation = [.. other.Validation.Select(row => Cut(row, length))],
                });
        }
    }

    private static TrainingRow Cut(TrainingRow row, int length) => row.InputIds.Length <= length ? row : new(row.InputIds[..length], row.Labels[..length]);

    /// <summary>The half of a number, the half of that, and so on, the lowest included.</summary>
    private static IEnumerable<int> Halves(int number, int lowest)
    {
        while (number > lowest)
        {
            number = Math.Max(lowest, number / 2);
            yield return number;
        }
    }

    /// <summary>A change of options.</summary>
    /// <param name="Name">"BatchSize 1".</param>
    /// <param name="More">What it is instead of, where that is worth a word.</param>
    /// <param name="Apply">Makes it.</param>
    private sealed record Remedy(string Name, string More, Func<RunMemory, RunMemory> Apply)
    {
        public string Text => Name + More;

        public static Remedy Set(string name, Action<TrainingOptions> change) => new(name, "", run => run.With(change));
    }

    /// <summary>What a change saves.</summary>
    private sealed record Saving(Remedy Remedy, long Bytes, bool Fits);
}
