using System.Security.Cryptography;
using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>However a run ends after its first whole step, what was learned is kept; and a file that was there is not replaced by less.</summary>
public sealed class TrainingFailureTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly Checkpoint _base;
    private readonly TrainingRow[] _rows;

    public TrainingFailureTests()
    {
        _base = TinyModel.WriteCheckpoint(_folder.File("base"));
        Random random = new(4);
        _rows = [.. Enumerable.Range(0, 6).Select(i => TinyModel.Row(random, 6 + i))];
    }

    private static LoraOptions Lora => new() { Rank = 4, Alpha = 8, Dropout = 0, TargetModules = "all-linear" };

    // With a constant rate a run of three steps is the beginning of a longer one.
    private static TrainingOptions Options => new()
    {
        GradientAccumulationSteps = 2,
        LearningRate = 5e-3,
        Schedule = LearningRateSchedule.Constant,
        NumberOfEpochs = 3,
        Threads = 1,
    };

    [Fact]
    public void A_callback_that_throws_after_a_step_loses_nothing()
    {
        InvalidOperationException cause = new("the disk of the log is full");
        TrainingException error = Assert.Throws<TrainingException>(() => LoraTraining.Train(_base, Lora, _rows, Options, progress: ThrowAt(3, cause)));

        Assert.Same(cause, error.InnerException);
        Assert.Equal((3, 3), (error.Step, error.LastGoodStep));
        Assert.StartsWith("Training ended after step 3 of 9 (InvalidOperationException): the disk of the log is full", error.Message, StringComparison.Ordinal);
        Assert.Contains("e.LastGoodAdapter.SaveAsPeft(\"folder\")", error.Message, StringComparison.Ordinal);
        Assert.Equal(AfterSteps(3), Numbers(error.LastGoodAdapter!));
    }

    [Fact]
    public void Whatever_fails_within_a_later_step_leaves_the_adapter_of_the_step_before()
    {
        // The rows of the second step are spoiled when the first is made: something that only shows on the way.
        TrainingRow[] rows = [.. _rows.Select(row => new TrainingRow([.. row.InputIds], [.. row.Labels]))];
        TrainingOptions options = Options;
        options.Shuffle = false;
        TrainingException error = Assert.Throws<TrainingException>(
            () => LoraTraining.Train(_base, Lora, rows, options, progress: _ => rows[2].InputIds[0] = 1_000_000));

        Assert.Equal((2, 1), (error.Step, error.LastGoodStep));
        Assert.StartsWith("Training ended in step 2 of 9", error.Message, StringComparison.Ordinal);
        Assert.IsAssignableFrom<MLNetLoraException>(error.InnerException);
        options.MaximumSteps = 1;
        Assert.Equal(Numbers(LoraTraining.Train(_base, Lora, _rows, options).Adapter), Numbers(error.LastGoodAdapter!));
    }

    [Fact]
    public void What_fails_before_the_first_whole_step_comes_as_it_is()
    {
        TrainingRow[] rows = [.. _rows.Select(row => new TrainingRow([.. row.InputIds], [.. row.Labels]))];
        Assert.Throws<DatasetException>(() => LoraTraining.Train(_base, Lora, [new([1, 2], [1])], Options));
        TrainingOptions wild = Wild();
        wild.LearningRate = 1e-3;
        TrainingDivergedException error = Assert.Throws<TrainingDivergedException>(() => LoraTraining.Train(_base, Lora, _rows, wild, initial: Broken()));
        Assert.Equal((1, 0), (error.Step, error.LastGoodStep));
        Assert.Null(error.LastGoodAdapter);
        Assert.DoesNotContain("SaveAsPeft", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_handler_of_the_log_that_throws_loses_nothing()
    {
        foreach (string sign in (string[])["Step 2/", "Done in"])
        {
            MLContext context = new(seed: 1);
            IDataView rows = context.Data.LoadFromEnumerable<Row>([new("why", "because"), new("what", "that")]);
            QwenLoraTrainer trainer = context.TextGeneration.Trainers.QwenLora(new QwenLoraTrainer.Options
            {
                ModelPath = Repository.Nano,
                Rank = 2,
                GradientAccumulationSteps = 1,
                NumberOfEpochs = 2,
                Threads = 1,
            });
            context.Log += (_, e) => _ = e.RawMessage.StartsWith(sign, StringComparison.Ordinal) ? throw new IOException("the log is closed") : 0;
            TrainingException error = Assert.Throws<TrainingException>(() => trainer.Fit(rows));
            Assert.Equal(sign == "Done in" ? 4 : 2, error.LastGoodStep);
            Assert.NotNull(error.LastGoodAdapter);
            Assert.Contains("the log is closed", error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Wherever_native_memory_runs_out_the_last_whole_step_is_kept()
    {
        TrainingOptions options = Options;
        options.MaximumSteps = 3;
        float[][] after = [[], .. Enumerable.Range(1, 3).Select(AfterSteps)];
        HashSet<int> kept = [];
        for (int failing = 0; ; failing += 5)
        {
            Exception? error = FailAt(failing, () => LoraTraining.Train(_base, Lora, _rows, options));
            if (error is null)
            {
                break; // the run has fewer native calls
            }

            if (error is not TrainingException training)
            {
                Assert.IsType<NativeMemoryException>(error); // before the first whole step it comes as it is
                Assert.Empty(kept);
                continue;
            }

            kept.Add(training.LastGoodStep);
            Assert.IsType<NativeMemoryException>(training.InnerException);
            Assert.Equal(after[training.LastGoodStep], Numbers(training.LastGoodAdapter!));
        }

        Assert.Equal([1, 2], kept.Order());
    }

    [Fact]
    public void A_base_file_that_vanished_leaves_the_adapter()
    {
        // Whether the files are still those that were opened is looked at before every micro-batch.
        TrainingException error = Assert.Throws<TrainingException>(() => LoraTraining.Train(_base, Lora, _rows, Options, [_rows[0]],
            progress => _ = progress.Step == 2 ? Vanish() : 0));

        Assert.Equal((3, 2), (error.Step, error.LastGoodStep));
        Assert.Equal(AfterSteps(2, TinyModel.WriteCheckpoint(_folder.File("base"))), Numbers(error.LastGoodAdapter!));

        int Vanish()
        {
            File.Move(_folder.File("base/model.safetensors"), _folder.File("moved.safetensors"));
            return 0;
        }
    }

    [Fact]
    public void Fit_keeps_the_adapter_too_when_the_callback_throws_or_memory_runs_out()
    {
        InvalidOperationException cause = new("no");
        TrainingException thrown = Assert.Throws<TrainingException>(() => Fit(o => o.ProgressCallback = ThrowAt(2, cause)));
        Assert.Same(cause, thrown.InnerException);
        Assert.Equal(2, thrown.LastGoodStep);
        Saves(thrown);

        int steps = 0;
        TrainingException failed = Assert.IsType<TrainingException>(
            FailAt(0, () => Fit(o => o.ProgressCallback = progress => steps = progress.Step), () => steps == 3));
        Assert.IsType<NativeMemoryException>(failed.InnerException);
        Assert.Equal(3, failed.LastGoodStep);
        Saves(failed);

        void Saves(TrainingException error)
        {
            string folder = _folder.File($"kept{error.LastGoodStep}");
            error.LastGoodAdapter!.SaveAsPeft(folder);
            Assert.Equal(Numbers(error.LastGoodAdapter), Numbers(LoraAdapter.LoadPeft(folder, Checkpoint.Open(Repository.Nano))));
        }
    }

    [Fact]
    public void Fit_returns_the_last_whole_step_when_it_is_cancelled_and_throws_before_there_is_one()
    {
        using CancellationTokenSource late = new();
        using QwenLoraTransformer model = Fit(o =>
        {
            o.CancellationToken = late.Token;
            o.ProgressCallback = progress => _ = progress.Step == 2 ? Cancel(late) : 0;
        });
        Assert.True(model.TrainingSummary!.WasCancelled);
        Assert.Equal(2, model.TrainingSummary.Steps.Count);

        using CancellationTokenSource early = new();
        NativeCalls.Before = kind => _ = kind == "session" ? Cancel(early) : 0;
        try
        {
            Assert.ThrowsAny<OperationCanceledException>(() => Fit(o => o.CancellationToken = early.Token));
        }
        finally
        {
            NativeCalls.Before = null;
        }
    }

    [Theory]
    [InlineData(WeightPrecision.Checkpoint)]
    [InlineData(WeightPrecision.Int8)]
    public void A_token_ends_the_preparation(WeightPrecision precision)
    {
        TrainingOptions options = Options;
        options.Precision = precision;
        using CancellationTokenSource source = new();
        int sessions = 0;
        NativeCalls.Before = kind => sessions += kind == "session" ? 1 + Cancel(source) : 0;
        try
        {
            (LoraAdapter adapter, TrainingSummary summary) = LoraTraining.Train(_base, Lora, _rows, options, cancellation: source.Token);
            Assert.True(summary.WasCancelled);
            Assert.Empty(summary.Steps);
            Assert.Equal(1, sessions);
            Assert.Equal(Numbers(LoraAdapter.Create(Lora, _base, options.SeedOrDefault)), Numbers(adapter));
        }
        finally
        {
            NativeCalls.Before = null;
        }
    }

    [Fact]
    public void Before_a_whole_step_full_training_writes_nothing()
    {
        string output = Good(out byte[] hash);
        FullTraining.Train(_folder.File("base"), _rows, Options, output, TensorType.Float32, cancellation: new CancellationToken(canceled: true));
        Assert.Equal(hash, Hash(output));

        Checkpoint broken = WriteBroken();
        Assert.Throws<TrainingDivergedException>(() => FullTraining.Train(_folder.File("base"), _rows, Options, output, TensorType.Float32, initial: broken));
        Assert.Equal(hash, Hash(output));
        Assert.Equal([output], Directory.GetFiles(Path.GetDirectoryName(output)!));
    }

    [Fact]
    public void What_full_training_did_not_finish_goes_beside_the_file_that_was_there()
    {
        string output = Good(out byte[] hash);
        string beside = Path.Combine(Path.GetDirectoryName(output)!, "model.interrupted.safetensors");
        TrainingException error = Assert.Throws<TrainingException>(() =>
            FullTraining.Train(_folder.File("base"), _rows, Options, output, TensorType.Float32, progress: ThrowAt(1, new InvalidOperationException("no"))));
        Assert.Contains($"are in {beside}; {output}, which was there before, is unchanged", error.Message, StringComparison.Ordinal);
        Assert.Equal(hash, Hash(output));
        Assert.Equal(Hash(FullAfterSteps(1)), Hash(beside));

        TrainingDivergedException diverged = Assert.Throws<TrainingDivergedException>(
            () => FullTraining.Train(_folder.File("base"), _rows, Wild(), output, TensorType.Float32));
        Assert.Contains(beside, diverged.Message, StringComparison.Ordinal);
        Assert.Equal(hash, Hash(output));

        using CancellationTokenSource source = new();
        TrainingSummary cancelled = FullTraining.Train(_folder.File("base"), _rows, Options, output, TensorType.Float32, progress: _ => source.Cancel(),
            cancellation: source.Token);
        Assert.Contains(beside, Assert.Single(cancelled.Warnings), StringComparison.Ordinal);
        Assert.Equal(hash, Hash(output));
        Assert.Equal(Hash(FullAfterSteps(1)), Hash(beside));
    }

    [Fact]
    public void A_place_where_full_training_cannot_write_is_known_before_the_first_step()
    {
        string folder = _folder.File("full");
        Directory.CreateDirectory(folder);
        Assert.Contains($"{folder} is a folder", Refused(folder));
        Assert.Contains("cannot be written", Refused(Path.Combine(_folder.File("base/config.json"), "model.safetensors")));
        Assert.Empty(Directory.GetFiles(folder));

        string Refused(string output) => Assert.Throws<OptionException>(() => FullTraining.Train(_folder.File("base"), _rows, Options, output,
            TensorType.Float32, progress: _ => throw new InvalidOperationException("a step was made"))).Message;
    }

    [Fact]
    public void A_drive_that_is_too_full_for_the_weights_is_known_before_the_first_step()
    {
        long bytes = new FileInfo(FullAfterSteps(1)).Length;
        string output = _folder.File("new/model.safetensors");
        try
        {
            FileSet.FreeSpace = bytes - 1;
            OptionException error = Assert.Throws<OptionException>(() => FullTraining.Train(_folder.File("base"), _rows, Options, output,
                TensorType.Float32, progress: _ => throw new InvalidOperationException("a step was made")));
            Assert.Contains("Make room or give another folder", error.Message, StringComparison.Ordinal);
            FileSet.FreeSpace = bytes;
            FullTraining.Train(_folder.File("base"), _rows, Options, output, TensorType.Float32);
            Assert.Equal(bytes, new FileInfo(output).Length);
        }
        finally
        {
            FileSet.FreeSpace = null;
        }
    }

    [Fact]
    public void Weights_that_cannot_take_their_place_at_the_end_are_kept_beside_it()
    {
        string output = _folder.File("late/model.safetensors");
        TrainingException error = Assert.Throws<TrainingException>(() => FullTraining.Train(_folder.File("base"), _rows, Options, output, TensorType.Float32,
            progress: _ => Directory.CreateDirectory(output)));
        string beside = _folder.File("late/model.interrupted.safetensors");
        Assert.Equal(error.LastGoodStep, error.Step);
        Assert.Contains($"are in {beside}", error.Message, StringComparison.Ordinal);
        Assert.Equal(Hash(FullAfterSteps(error.Step)), Hash(beside));
        Assert.Equal([beside], Directory.GetFiles(_folder.File("late")));
    }

    [Fact]
    public void Where_no_file_was_the_unfinished_one_takes_its_name()
    {
        string output = _folder.File("new/model.safetensors");
        TrainingException error = Assert.Throws<TrainingException>(() =>
            FullTraining.Train(_folder.File("base"), _rows, Options, output, TensorType.Float32, progress: ThrowAt(2, new InvalidOperationException("no"))));
        Assert.Contains($"are in {output}.", error.Message, StringComparison.Ordinal);
        Assert.Equal(Hash(FullAfterSteps(2)), Hash(output));
    }

    public void Dispose() => _folder.Dispose();

    private static Action<TrainingProgress> ThrowAt(int step, Exception cause) => progress => _ = progress.Step == step ? throw cause : 0;

    private static int Cancel(CancellationTokenSource source)
    {
        source.Cancel();
        return 0;
    }

    /// <summary>Lets the native memory run out at one call of this thread.</summary>
    /// <param name="call">Its number, from 0.</param>
    /// <param name="run">What is run.</param>
    /// <param name="isArmed">Whether calls are counted yet; null: from the beginning.</param>
    /// <returns>How it ended; null when it was whole.</returns>
    private static Exception? FailAt(int call, Action run, Func<bool>? isArmed = null)
    {
        int calls = 0;
        NativeCalls.Before = kind =>
        {
            if (isArmed?.Invoke() != false && calls++ == call)
            {
                throw kind == "allocation"
                    ? new InsufficientMemoryException()
                    : Tests.Runtime.Failing.Runtime("Failed to allocate memory for requested buffer");
            }
        };
        try
        {
            return Record.Exception(run);
        }
        finally
        {
            NativeCalls.Before = null;
        }
    }

    private static QwenLoraTransformer Fit(Action<QwenLoraTrainer.Options> change)
    {
        MLContext context = new(seed: 1);
        IDataView rows = context.Data.LoadFromEnumerable<Row>([new("why", "because"), new("what", "that")]);
        QwenLoraTrainer.Options options = new()
        {
            ModelPath = Repository.Nano,
            Rank = 2,
            GradientAccumulationSteps = 1,
            NumberOfEpochs = 2,
            Threads = 1,
        };
        change(options);
        return context.TextGeneration.Trainers.QwenLora(options).Fit(rows);
    }

    private float[] AfterSteps(int steps) => AfterSteps(steps, _base);

    private float[] AfterSteps(int steps, Checkpoint checkpoint)
    {
        TrainingOptions options = Options;
        options.MaximumSteps = steps;
        return Numbers(LoraTraining.Train(checkpoint, Lora, _rows, options).Adapter);
    }

    private string FullAfterSteps(int steps)
    {
        TrainingOptions options = Options;
        options.MaximumSteps = steps;
        string path = _folder.File($"after{steps}.safetensors");
        FullTraining.Train(_folder.File("base"), _rows, options, path, TensorType.Float32);
        return path;
    }

    private static TrainingOptions Wild()
    {
        TrainingOptions options = Options;
        (options.LearningRate, options.NumberOfEpochs, options.MaximumGradientNorm) = (1e18, 50, 0);
        return options;
    }

    private string Good(out byte[] hash)
    {
        string output = _folder.File("good/model.safetensors");
        Directory.CreateDirectory(Path.GetDirectoryName(output)!);
        File.Copy(_folder.File("base/model.safetensors"), output);
        hash = Hash(output);
        return output;
    }

    private LoraAdapter Broken()
    {
        LoraAdapter adapter = LoraAdapter.Create(Lora, _base, 1);
        Array.Fill(adapter.Factors[0].A, float.NaN);
        return adapter;
    }

    private Checkpoint WriteBroken()
    {
        Checkpoint broken = TinyModel.WriteCheckpoint(_folder.File("broken"));
        SafetensorsWriter.Item[] items = [.. broken.Tensors.Select(tensor =>
        {
            float[] values = tensor.Value.ReadFloat32();
            Array.Fill(values, float.NaN);
            return SafetensorsWriter.Item.From(tensor.Key, TensorType.Float32, tensor.Value.Entry.Shape, values);
        })];
        SafetensorsWriter.Write(_folder.File("broken/model.safetensors"), items);
        return Checkpoint.Open(_folder.File("broken"));
    }

    private static byte[] Hash(string path) => SHA256.HashData(File.ReadAllBytes(path));

    private static float[] Numbers(LoraAdapter adapter) => [.. adapter.Factors.SelectMany(f => f.A.Concat(f.B))];

    private sealed record Row(string Instruction, string Output);
}
