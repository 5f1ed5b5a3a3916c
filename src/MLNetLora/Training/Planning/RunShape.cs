using MLNetLora.Artifacts;
using MLNetLora.Models;
using MLNetLora.Text;

namespace MLNetLora.Training.Planning;

/// <summary>Some micro-batches of like size, of which one stands for all.</summary>
/// <param name="Batch">Its sequences.</param>
/// <param name="Count">How many of it would have as many tokens as all of them in the whole run.</param>
internal sealed record Stratum(TrainingRow[][] Batch, double Count);

/// <summary>What a run consists of: how many steps and micro-batches there are, of which sizes.</summary>
internal sealed record RunShape
{
    private const int MostSequences = 200_000; // of several epochs that are looked at; beyond it one epoch stands for all
    private const int Calibrated = 512; // tokens, see Calibration

    /// <summary>How the graphs are cut.</summary>
    public required ChunkPlan Plan { get; init; }

    /// <summary>Tokens of the longest sequence.</summary>
    public required int Longest { get; init; }

    /// <summary>Optimizer steps.</summary>
    public required int Steps { get; init; }

    /// <summary>Tokens of the run that are not padding.</summary>
    public required double Tokens { get; init; }

    /// <summary>Micro-batches of the run.</summary>
    public required double MicroBatches { get; init; }

    /// <summary>Groups of micro-batches, from short to long.</summary>
    public required IReadOnlyList<Stratum> Strata { get; init; }

    /// <summary>The micro-batch with most tokens, and the one with most labels where that is another.</summary>
    public required IReadOnlyList<TrainingRow[][]> Largest { get; init; }

    /// <summary>What is to be measured: one micro-batch for each of the groups in order, then the largest, where none of those is as large.</summary>
    public IReadOnlyList<TrainingRow[][]> Batches =>
        [.. Strata.Select(stratum => stratum.Batch), .. Largest.Where(large => !Strata.Any(stratum => IsAsLarge(stratum.Batch, large)))];

    /// <summary>The first sequences of the data, which 8-bit weights are calibrated with.</summary>
    public required IReadOnlyList<TrainingRow[]> First { get; init; }

    /// <summary>The largest micro-batch of the validation rows; empty where there are none.</summary>
    public required IReadOnlyList<TrainingRow> Validation { get; init; }

    /// <summary>How many of that would have as many tokens as all evaluations of the run.</summary>
    public required double Evaluations { get; init; }

    /// <summary>The shape of a run.</summary>
    /// <param name="config">The model.</param>
    /// <param name="maximumLossChunks">Most parts of the loss, as what is trained allows.</param>
    /// <param name="rows">Its rows.</param>
    /// <param name="validation">Its validation rows.</param>
    /// <param name="options">Its options.</param>
    /// <param name="strata">Into how many groups its micro-batches are put.</param>
    public static RunShape Of(QwenConfig config, int maximumLossChunks, IReadOnlyList<TrainingRow> rows, IReadOnlyList<TrainingRow> validation,
        TrainingOptions options, int strata)
    {
        IReadOnlyList<TrainingRow[]> sequences = Packing.Sequences(rows, options);
        ChunkPlan plan = TrainingLoop.Plan(config, sequences, validation, options, maximumLossChunks);
        int steps = Schedule.TotalSteps(sequences.Count, options);
        int perEpoch = Schedule.StepsPerEpoch(sequences.Count, options);
        int looked = (double)steps / perEpoch * sequences.Count <= MostSequences ? steps : Math.Min(steps, perEpoch);
        double scale = (double)steps / looked;
        MicroBatch[] all = [.. Window.From(TrainingState.Start(LossScale.For(ComputeTypeOf(options))), sequences, options).Take(looked)
            .SelectMany(window => window.Sequences.Chunk(options.BatchSize)).Select(batch => MicroBatch.Of(batch, plan.Attention))];
        MicroBatch longest = all.MaxBy(batch => batch.Padded)!;
        MicroBatch mostLabels = all.MaxBy(batch => batch.Labels)!;
        MicroBatch[] checks = [.. validation.Chunk(options.BatchSize).Select(chunk => MicroBatch.Of([.. chunk.Select(row => new[] { row })], plan.Attention))];
        MicroBatch? check = checks.MaxBy(batch => batch.Padded);
        int every = options.EvaluationSteps > 0 ? options.EvaluationSteps : perEpoch;
        return new RunShape
        {
            Plan = plan,
            Longest = sequences.Max(Length),
            Steps = steps,
            Tokens = scale * all.Sum(batch => (double)batch.Tokens),
            MicroBatches = scale * all.Length,
            Strata = [.. Grouped(all, strata).Select(stratum => stratum with { Count = scale * stratum.Count })],
            Largest = mostLabels.Labels > longest.Labels ? [longest.Sequences, mostLabels.Sequences] : [longest.Sequences],
            First = Beginning(sequences),
            Validation = check is null ? [] : [.. check.Sequences.SelectMany(sequence => sequence)],
            Evaluations = check is null ? 0 : (steps + every - 1) / every * checks.Sum(batch => (double)batch.Padded) / check.Padded,
        };
    }

    /// <summary>Groups of about as many tokens each.</summary>
    private static IEnumerable<Stratum> Grouped(MicroBatch[] all, int count)
    {
        MicroBatch[] sorted = [.. all.OrderBy(batch => batch.Padded)];
        if (sorted[0].Padded == sorted[^1].Padded)
        {
            count = 1;
        }

        double total = sorted.Sum(batch => (double)batch.Padded);
        double before = 0;
        List<List<MicroBatch>> groups = [];
        foreach (MicroBatch batch in sorted)
        {
            int group = Math.Min(count - 1, (int)(before / total * count));
            before += batch.Padded;
            if (groups.Count == 0 || group >= groups.Count)
            {
                groups.Add([]);
            }

            groups[^1].Add(batch);
        }

        foreach (List<MicroBatch> group in groups)
        {
            (double tokens, double labels) = (group.Average(batch => batch.Padded), Math.Max(1, group.Average(batch => batch.Labels)));
            MicroBatch middle = group.MinBy(batch => Math.Abs((batch.Padded / tokens) - 1) + Math.Abs((batch.Labels / labels) - 1))!;
            yield return new Stratum(middle.Sequences, group.Sum(batch => (double)batch.Padded) / middle.Padded);
        }
    }

    private static TrainingRow[][] Beginning(IReadOnlyList<TrainingRow[]> sequences)
    {
        int tokens = 0;
        return [.. sequences.TakeWhile(sequence => (tokens += Length(sequence)) - Length(sequence) < Calibrated)];
    }

    private static Runtime.ComputeType ComputeTypeOf(TrainingOptions options) => options.ComputeType ?? Runtime.ComputeType.Float32;

    private static bool IsAsLarge(TrainingRow[][] batch, TrainingRow[][] other) => batch.Length == other.Length && batch.Max(Length) == other.Max(Length)
        && Labels(batch) >= Labels(other);

    private static int Labels(TrainingRow[][] batch) => batch.Sum(sequence => sequence.Sum(row => row.LabelTokens));

    private static int Length(TrainingRow[] sequence) => sequence.Sum(row => row.InputIds.Length);

    /// <summary>A micro-batch by its size.</summary>
    /// <param name="Sequences">What it consists of.</param>
    /// <param name="Padded">Tokens with the padding.</param>
    /// <param name="Tokens">Tokens without.</param>
    /// <param name="Labels">Label tokens.</param>
    private sealed record MicroBatch(TrainingRow[][] Sequences, long Padded, long Tokens, int Labels)
    {
        public static MicroBatch Of(TrainingRow[][] sequences, int multiple)
        {
            int longest = sequences.Max(Length);
            long padded = (longest + multiple - 1L) / multiple * multiple;
            return new MicroBatch(sequences, padded * sequences.Length, sequences.Sum(Length), sequences.Sum(sequence => sequence.Sum(row => row.LabelTokens)));
        }
    }
}
