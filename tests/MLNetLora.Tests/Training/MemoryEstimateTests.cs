using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>A run that cannot fit is refused with figures, before anything is allocated.</summary>
public sealed class MemoryEstimateTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly Checkpoint _base;
    private readonly TrainingRow[] _rows;

    public MemoryEstimateTests()
    {
        _base = TinyModel.WriteCheckpoint(_folder.File("base"));
        Random random = new(4);
        _rows = [.. Enumerable.Range(0, 6).Select(i => TinyModel.Row(random, 6 + i))];
    }

    private static LoraOptions Lora => new() { Rank = 4, TargetModules = "all-linear", Dropout = 0 };

    [Fact]
    public void Counts_parameters_activations_and_copies()
    {
        TrainingOptions options = new() { BatchSize = 2, Threads = 1 };
        MemoryEstimate estimate = Of(options);
        long trained = LoraAdapter.Create(Lora, _base, 1).ParameterCount;
        Assert.Equal(5 * 4 * trained, estimate.Parameters); // values, gradients, two moments, and the adapter that it starts from
        Assert.Equal(0, estimate.Copies);

        // Two layers of hidden 16, four heads of 8 for q and the output, two of k and v, intermediate 24; the two sequences are 11 tokens long.
        long activations = 2 * 11 * 2 * ((2 * 16) + (12 * 8) + (2 * 24)) * 4;
        Assert.InRange(estimate.Activations, activations, activations + (2 * 11 * TinyModel.Vocabulary * 4));

        options.ActivationCheckpointing = true;
        Assert.True(Of(options).Activations < estimate.Activations);
        options.BatchSize = 1;
        Assert.True(Of(options).Activations < activations);
        options.Precision = WeightPrecision.Int8;
        Assert.Equal(2 * LoraTargets.Resolve(Lora, _base.Architecture, _base.Config).Sum(lora => (long)lora.Module.In * lora.Module.Out), Of(options).Copies);
        options.PrepackWeights = true;
        Assert.Equal(Prepacking.Bytes(_base, options.Precision), Of(options).Copies);
    }

    [Fact]
    public void Counts_a_bit_of_dropout_for_each_token_and_input()
    {
        TrainingOptions options = new() { BatchSize = 2, Threads = 1 };
        IReadOnlyList<TrainingRow[]> sequences = Packing.Sequences(_rows, options);
        ChunkPlan plan = TrainingLoop.Plan(_base.Config, sequences, [], options);
        TrainingTarget with = TrainingTarget.Lora(_base, Lora.With(o => o.Dropout = 0.1));
        long inputs = with.Loras.Sum(lora => lora.Module.In); // all are multiples of 8
        long masks = MemoryEstimate.Of(with, options, plan, sequences).Activations
            - MemoryEstimate.Of(with with { Dropout = 0 }, options, plan, sequences).Activations;
        Assert.Equal(2 * 11 * inputs / 8, masks);
    }

    [Fact]
    public void Counts_for_each_token_which_of_the_trained_ones_it_is()
    {
        TrainingOptions options = new() { BatchSize = 2, Threads = 1 };
        IReadOnlyList<TrainingRow[]> sequences = Packing.Sequences(_rows, options);
        ChunkPlan plan = TrainingLoop.Plan(_base.Config, sequences, [], options);
        long labels = sequences.Select(sequence => (long)sequence.Sum(row => row.LabelTokens)).OrderDescending().Take(2).Sum();
        long with = MemoryEstimate.Of(TrainingTarget.Lora(_base, Lora.With(o => o.TrainableTokenIndices = [1, 5, 7])), options, plan, sequences).Activations;
        long without = MemoryEstimate.Of(TrainingTarget.Lora(_base, Lora), options, plan, sequences).Activations;
        Assert.Equal(4 * 3 * ((2 * 11) + (labels / plan.Loss)), with - without); // embedding and output layer are one in this model
    }

    [Fact]
    public void A_run_is_refused_with_figures_where_there_is_less_and_starts_where_there_is_as_much()
    {
        TrainingOptions options = new() { Threads = 1, MaximumSteps = 1 };
        long bytes = Of(options).Bytes;
        int calls = 0;
        NativeCalls.Before = _ => calls++;
        try
        {
            string message = Assert.Throws<OptionException>(() => WithMemory(bytes - 1, () => LoraTraining.Train(_base, Lora, _rows, options))).Message;
            Assert.StartsWith($"The training would take at least {MachineMemory.Gigabytes(bytes)} and there are", message, StringComparison.Ordinal);
            Assert.EndsWith("MB", MachineMemory.Gigabytes(bytes), StringComparison.Ordinal);
            Assert.Contains("for the trained parameters with gradients and the optimizer's states", message, StringComparison.Ordinal);
            Assert.Equal(0, calls);
        }
        finally
        {
            NativeCalls.Before = null;
        }

        WithMemory(bytes, () => LoraTraining.Train(_base, Lora, _rows, options));
    }

    [Fact]
    public void What_options_save_is_what_the_estimate_says_of_them()
    {
        TrainingOptions options = new() { BatchSize = 4, GradientAccumulationSteps = 2, Threads = 1 };
        LoraOptions wide = Lora.With(o => o.Rank = 16);
        long all = Of(options, wide).Bytes;
        long recomputed = Of(With(options, o => o.ActivationCheckpointing = true), wide).Bytes;
        long half = Of(With(options, o => o.BatchSize = 2), wide).Bytes;
        long single = Of(With(options, o => o.BatchSize = 1), wide).Bytes;
        long narrow = Of(options, wide.With(o => o.Rank = 8)).Bytes;

        // With so much, half of the batch is enough, and so is what saves as much as that.
        string message = Refusal(half);
        Assert.Contains($"BatchSize 2 instead of 4 (with GradientAccumulationSteps 4 steps stay as large), {Saved(half)}", message, StringComparison.Ordinal);
        Assert.Contains($"Rank 8 instead of 16, {Saved(narrow)}", message, StringComparison.Ordinal);
        Assert.Contains("MaximumSequenceLength 5 (the longest row has 11 tokens), ", message, StringComparison.Ordinal);
        string enough = message[message.IndexOf("Enough alone: ", StringComparison.Ordinal)..];
        Assert.Contains("BatchSize 2", enough, StringComparison.Ordinal);
        Assert.Equal(recomputed <= half, enough.Contains("ActivationCheckpointing true", StringComparison.Ordinal));
        WithMemory(half, () => LoraTraining.Train(_base, wide, _rows, With(options, o => (o.BatchSize, o.GradientAccumulationSteps) = (2, 1))));

        // The most that saves comes first.
        (string Name, long Saved)[] sorted = [("ActivationCheckpointing true", all - recomputed), ("Rank 8", all - narrow), ("BatchSize 2", all - half)];
        int[] at = [.. sorted.OrderByDescending(option => option.Saved).Select(option => message.IndexOf(option.Name, StringComparison.Ordinal))];
        Assert.Equal(at.Order(), at);

        Assert.Contains("None is enough alone; these together are, with ", Refusal(new[] { recomputed, single, narrow }.Min() - 1), StringComparison.Ordinal);
        Assert.Contains("Even with all of them it is ", Refusal(1000), StringComparison.Ordinal);
        Assert.Contains("BatchSize 1 instead of 4", Refusal(1000), StringComparison.Ordinal);

        // What is on already, or cannot be less, is not named.
        TrainingOptions least = new() { BatchSize = 1, ActivationCheckpointing = true, Optimizer = OptimizerKind.AdamW8Bit, Threads = 1 };
        string last = Message(1000, least, Lora);
        Assert.All(["ActivationCheckpointing", "BatchSize", "Optimizer", "Rank"], name => Assert.DoesNotContain($" {name} ", last, StringComparison.Ordinal));
        least.Precision = WeightPrecision.Int8;
        Assert.Contains($"Precision Checkpoint instead of Int8, {MachineMemory.Gigabytes(Prepacking.Int8Bytes(_base))}", Message(1000, least, Lora),
            StringComparison.Ordinal);

        string Saved(long bytes) => MachineMemory.Gigabytes(all - bytes);
        string Refusal(long bytes) => Message(bytes, options, wide);
        string Message(long bytes, TrainingOptions o, LoraOptions lora) =>
            Assert.Throws<OptionException>(() => WithMemory(bytes, () => LoraTraining.Train(_base, lora, _rows, o))).Message;
    }

    [Fact]
    public void A_run_that_memory_runs_out_in_says_what_options_save()
    {
        TrainingOptions options = new() { BatchSize = 2, Threads = 1, MaximumSteps = 2 };
        long saved = Of(options).Bytes - Of(With(options, o => o.ActivationCheckpointing = true)).Bytes;
        string expected = $"At the least the run takes {MachineMemory.Gigabytes(Of(options).Bytes)}. What would save memory: ";
        string recomputed = $"ActivationCheckpointing true, {MachineMemory.Gigabytes(saved)}";
        foreach (int failing in new[] { 0, 3 })
        {
            int runs = 0;
            NativeCalls.Before = kind =>
            {
                if (kind == "run" && runs++ / 2 == failing) // each is counted twice: its options, and itself
                {
                    throw Tests.Runtime.Failing.Runtime("Failed to allocate memory for requested buffer");
                }
            };
            try
            {
                string message = Assert.ThrowsAny<MLNetLoraException>(() => LoraTraining.Train(_base, Lora, _rows, options)).Message;
                Assert.Contains(expected, message, StringComparison.Ordinal);
                Assert.Contains(recomputed, message, StringComparison.Ordinal);
                Assert.DoesNotContain("Lower BatchSize", message, StringComparison.Ordinal);
            }
            finally
            {
                NativeCalls.Before = null;
            }
        }
    }

    [Fact]
    public void A_full_training_that_does_not_fit_is_told_what_an_adapter_saves()
    {
        Checkpoint nano = Checkpoint.Open(Repository.Nano);
        TrainingOptions options = new() { Threads = 1 };
        string message = Assert.Throws<OptionException>(() => WithMemory(1000, () => FullTraining.Train(
            Repository.Nano, _rows, options, _folder.File("model.safetensors"), TensorType.Float32, nano))).Message;
        RunMemory full = new(nano.Config, nano, null, options, _rows, []);
        Assert.Contains($"Method Lora instead of Full, {Saved(full with { Lora = new LoraOptions() })}", message, StringComparison.Ordinal);
        Assert.Contains($"Optimizer AdamW8Bit instead of AdamW, {Saved(full.With(o => o.Optimizer = OptimizerKind.AdamW8Bit))}", message,
            StringComparison.Ordinal);

        string Saved(RunMemory other) => MachineMemory.Gigabytes(full.Estimate().Bytes - other.Estimate().Bytes);
    }

    [Fact]
    public void A_GPU_holds_the_weights_too()
    {
        TrainingOptions options = new() { Device = new CudaDevice() };
        MemoryEstimate floats = Of(new TrainingOptions { Device = new CudaDevice(), ComputeType = ComputeType.Float32 });
        MemoryEstimate halves = Of(options);
        long matrices = _base.Tensors.Values.Where(tensor => tensor.Entry.Shape.Count == 2).Sum(tensor => tensor.Entry.Length);
        Assert.Equal(_base.Tensors.Values.Sum(tensor => tensor.Entry.Length), floats.Weights);
        Assert.Equal(matrices / 2, floats.Weights - halves.Weights);
        Assert.True(Of(new TrainingOptions { Device = new CudaDevice(), Precision = WeightPrecision.Nf4 }).Weights < halves.Weights);
        Assert.True(halves.Activations < floats.Activations);

        MemoryEstimate large = new(1_000_000_000, 2_000_000_000, 0) { Weights = 15_000_000_000 };
        string message = Assert.Throws<OptionException>(() => WithMemory(16_000_000_000, () => large.Require(On(new CudaDevice())))).Message;
        Assert.Contains("at least 18.0 GB of cuda:0, which has 16.0 GB: 15.0 GB for the frozen weights", message, StringComparison.Ordinal);
        Assert.Contains($"Precision Nf4, {MachineMemory.Gigabytes(halves.Bytes - Of(With(options, o => o.Precision = WeightPrecision.Nf4)).Bytes)}", message,
            StringComparison.Ordinal);
        WithMemory(18_000_000_000, () => large.Require(On(new CudaDevice())));

        // The limit is one for weights and parameters, and one for each session's activations.
        WithMemory(24_000_000_000, () => large.Require(On(new CudaDevice { MemoryLimit = 16_000_000_000 })));
        Assert.Contains("whose MemoryLimit is 15.9 GB", Assert.Throws<OptionException>(
            () => WithMemory(24_000_000_000, () => large.Require(On(new CudaDevice { MemoryLimit = 15_900_000_000 })))).Message, StringComparison.Ordinal);

        // What is trained in the place of a weight is no weight of the base.
        TrainingTarget norms = TrainingTarget.Lora(_base, Lora.With(o => o.ModulesToSave = ["input_layernorm"]));
        long replaced = _base.Tensors.Values.Where(tensor => tensor.Entry.Name.Contains("input_layernorm", StringComparison.Ordinal))
            .Sum(tensor => tensor.Entry.Length);
        Assert.Equal(replaced, halves.Weights - MemoryEstimate.Of(norms, options, ChunkPlan.Whole, [_rows]).Weights);

        RunMemory On(Device device) => new(_base.Config, _base, Lora, With(options, o => o.Device = device), _rows, []);
    }

    [Fact]
    public void Full_training_and_Fit_ask_too()
    {
        TrainingOptions options = new() { Threads = 1 };
        string output = _folder.File("model.safetensors");
        Assert.Throws<OptionException>(() => WithMemory(1000, () => FullTraining.Train(_folder.File("base"), _rows, options, output, TensorType.Float32)));
        Assert.False(File.Exists(output));

        MLContext context = new(seed: 1);
        IDataView rows = context.Data.LoadFromEnumerable<Row>([new("why", "because")]);
        QwenLoraTrainer trainer = context.TextGeneration.Trainers.QwenLora(new QwenLoraTrainer.Options { ModelPath = Repository.Nano, Threads = 1 });
        Assert.Contains("of memory", Assert.Throws<OptionException>(() => WithMemory(1000, () => trainer.Fit(rows))).Message, StringComparison.Ordinal);

        // Before callbacks hear of a run, such as logs, which would leave files of it.
        QwenLoraTrainer full = context.TextGeneration.Trainers.QwenLora(new QwenLoraTrainer.Options
        {
            ModelPath = Repository.Nano,
            Threads = 1,
            Method = FineTuningMethod.Full,
            OutputFolder = _folder.File("out"),
            Callbacks = [new JsonLinesLog(_folder.File("logs/metrics.jsonl"))],
        });
        Assert.Contains("of memory", Assert.Throws<OptionException>(() => WithMemory(1000, () => full.Fit(rows))).Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder.File("logs")));
    }

    [Fact]
    public void Impossible_sizes_are_refused_by_name_at_once()
    {
        Refused(() => new LoraOptions { Rank = 100_000 }.Validate(), "Rank is 100000");
        Refused(() => new TrainingOptions { Threads = 100_000 }.Validate(), "Threads is 100000");
        Refused(() => new TrainingOptions { BatchSize = 1_000_000 }.Validate(), "BatchSize is 1000000");
        Refused(() => new TrainingOptions { MaximumGradientNorm = double.NaN }.Validate(), "MaximumGradientNorm is NaN");
        Refused(() => new TrainingOptions { MaximumGradientNorm = double.PositiveInfinity }.Validate(), "MaximumGradientNorm is Infinity");
        Refused(() => new TrainingOptions { AdamEpsilon = double.PositiveInfinity }.Validate(), "AdamEpsilon is Infinity");

        LoraModule module = LoraTargets.Resolve(Lora, _base.Architecture, _base.Config)[0];
        LoraModule head = module with { Rank = 16_384, Module = module.Module with { Name = "lm_head", Out = 151_936 } };
        Refused(() => LoraAdapter.RequireSize(head), "Rank is 16384 for 'lm_head'; a factor of 16384 x 151936 numbers would take 10.0 GB");

        TrainedTokens tokens = new(new TensorSpec("model.embed_tokens.weight", TensorKind.Embedding, 151_936, 8192), [.. Enumerable.Range(0, 100_000)]);
        Refused(() => LoraAdapter.RequireSize(tokens), "TrainableTokenIndices names 100000 tokens; their rows of 8192 numbers would take 3.3 GB");

        static void Refused(Action action, string begins) =>
            Assert.StartsWith(begins, Assert.Throws<OptionException>(action).Message, StringComparison.Ordinal);
    }

    public void Dispose() => _folder.Dispose();

    private MemoryEstimate Of(TrainingOptions options, LoraOptions? lora = null)
    {
        IReadOnlyList<TrainingRow[]> sequences = Packing.Sequences(_rows, options);
        return MemoryEstimate.Of(TrainingTarget.Lora(_base, lora ?? Lora), options, TrainingLoop.Plan(_base.Config, sequences, [], options), sequences);
    }

    private static TrainingOptions With(TrainingOptions options, Action<TrainingOptions> change)
    {
        TrainingOptions changed = options.Copy();
        change(changed);
        return changed;
    }

    private static void WithMemory(long bytes, Action action)
    {
        MachineMemory.Given = bytes;
        try
        {
            action();
        }
        finally
        {
            MachineMemory.Given = null;
        }
    }

    private sealed record Row(string Instruction, string Output);
}
