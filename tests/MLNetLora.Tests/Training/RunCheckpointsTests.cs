using MLNetLora.Checkpoints;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>Checkpoints are written beside the next step, and are of the step that they say.</summary>
public sealed class RunCheckpointsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly TrainingRow[] _rows;

    public RunCheckpointsTests()
    {
        _ = TinyModel.WriteCheckpoint(_folder.File("base"));
        Random random = new(4);
        _rows = [.. Enumerable.Range(0, 4).Select(i => TinyModel.Row(random, 6 + i))];
    }

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void The_next_step_waits_for_a_slow_disk_before_it_changes_a_number()
    {
        int slow = 0;
        Train("slow", 3, _ =>
        {
            Thread.Sleep(300); // longer than a step; the state is written after it
            slow++;
        });
        Train("quick", 1, _ => { });
        Train("middle", 2, _ => { });
        Assert.Equal(3, slow);
        Assert.Equal(State("quick", 1), State("slow", 1));
        Assert.Equal(State("middle", 2), State("slow", 2));
        Assert.NotEqual(State("slow", 2), State("slow", 1));
    }

    [Fact]
    public void A_step_does_not_wait_for_the_checkpoint_before_it_reads_the_numbers()
    {
        using ManualResetEventSlim isWriting = new();
        using ManualResetEventSlim mayGoOn = new();
        using RunFolder folder = RunFolder.Open(_folder.File("run"), "folder");
        using ParameterSet parameters = new([]);
        RunCheckpoints checkpoints = new(folder, s_identity, null)
        {
            WriteModel = _ =>
            {
                isWriting.Set();
                Assert.True(mayGoOn.Wait(TimeSpan.FromMinutes(1)));
            },
        };
        TrainingState state = TrainingState.Start(LossScale.For(ComputeType.Float32)) with { Step = 1 };
        checkpoints.After(parameters, state, [], new TrainingOptions(), isDue: true);
        Assert.True(isWriting.Wait(TimeSpan.FromMinutes(1))); // After has come back by now
        Assert.False(Directory.Exists(folder.Of(1)));
        mayGoOn.Set();
        checkpoints.Settle();
        Assert.True(Directory.Exists(folder.Of(1)));
    }

    private static readonly Dictionary<string, string> s_none = [];
    private static readonly RunIdentity s_identity = new(s_none, s_none, s_none, s_none, RowsMark.Of([]), RowsMark.Of([]));

    private void Train(string name, int steps, Action<string> beside)
    {
        using RunFolder folder = RunFolder.Open(_folder.File(name), "folder");
        TrainingOptions options = new() { Threads = 1, BatchSize = 2, MaximumSteps = steps, SaveSteps = 1, Schedule = LearningRateSchedule.Constant };
        FullTraining.Train(_folder.File("base"), _rows, options, _folder.File(name + ".safetensors"), TensorType.Float32,
            checkpoints: new RunCheckpoints(folder, s_identity, null) { WriteModel = beside });
    }

    private byte[] State(string name, int step) => File.ReadAllBytes(Path.Combine(_folder.File(name), $"{RunFolder.Prefix}{step}", StateTensors.FileName));
}
