using MLNetLora.Checkpoints;

namespace MLNetLora.Training;

/// <summary>The checkpoints that a run writes and the one that it goes on from. One that the disk does not take at once is written beside the next step's
/// products, which only read the numbers that it is made of; before the optimizer changes them the loop waits for it (<see cref="Settle"/>), so that nothing is
/// copied.</summary>
/// <param name="folder">Where they are written; null: none is.</param>
/// <param name="identity">What run it is.</param>
/// <param name="start">The one that it goes on from; null for a new run.</param>
internal sealed class RunCheckpoints(RunFolder? folder, RunIdentity identity, SavedRun? start)
{
    // A disk that is quick is done by then, and two threads that compute beside a third lose more than its time.
    private static readonly TimeSpan s_headStart = TimeSpan.FromMilliseconds(250);

    private readonly List<string> _warnings = [];
    private bool _isFirst = true; // nothing was written yet
    private int _last = start?.State.Step ?? 0; // the newest one's step
    private Writing? _writing; // the one that is being written
    private int? _passing; // the step of one that is there only because it was the best

    /// <summary>The one that the run goes on from; null for a new run.</summary>
    public SavedRun? Start => start;

    /// <summary>Whether the run goes on in the folder that it began in.</summary>
    public bool IsOwn => folder is not null && start is not null && RunFolder.AreSame(Path.GetDirectoryName(start.Folder), folder.Path);

    /// <summary>Whether there is a place for them.</summary>
    public bool Writes => folder is not null;

    /// <summary>The newest one's folder; null where there is none.</summary>
    public string? Newest => _isFirst ? start?.Folder : folder!.Of(_last);

    /// <summary>What is to be said of those that could not be written.</summary>
    public IReadOnlyList<string> Warnings => _warnings;

    /// <summary>Receives warnings as they come; null: nobody does.</summary>
    public Action<string>? Warn { get; init; }

    /// <summary>Called when a checkpoint was written: its step and its folder.</summary>
    public Action<int, string>? Saved { get; init; }

    /// <summary>Writes what else belongs into a checkpoint: the adapter, or the model.</summary>
    public Action<string>? WriteModel { get; set; }

    /// <summary>What the run took out of the base at its start, by name.</summary>
    public IEnumerable<(string Name, float[] Numbers)> Held { get; set; } = [];

    /// <summary>Begins to write one after a step where it is time, or the step is the best yet. Until <see cref="Settle"/> the parameters must stay as they
    /// are. Those on a device are read while nothing else runs on it.</summary>
    /// <param name="parameters">As the step left them.</param>
    /// <param name="state">How far the run is.</param>
    /// <param name="steps">The steps made.</param>
    /// <param name="options">When, and how many are kept.</param>
    /// <param name="isDue">Whether it is time whatever the options say.</param>
    public void After(ParameterSet parameters, TrainingState state, IReadOnlyList<TrainingProgress> steps, TrainingOptions options, bool isDue)
    {
        Settle();
        bool isBest = options.KeepsBest && steps.Count > 0 && steps[^1].ValidationLoss is not null && EarlyStopping.Best(steps)?.Step == state.Step;
        if (folder is null || _last == state.Step || !(isDue || isBest))
        {
            return;
        }

        TrainingProgress[] made = [.. steps];
        Task task = Task.Run(() => folder.Save(state.Step, target => Write(target, parameters, state, made, options)));
        _writing = new Writing(task, state.Step, made, options, isDue, isBest);
        if (Task.WaitAny([task], s_headStart) == 0 || parameters.Values.IsOnDevice)
        {
            Settle();
        }
    }

    /// <summary>Waits for the checkpoint that is being written, if one is; afterwards the parameters may change. A disk that is full ends no run: it is said,
    /// and tried again when the next one is due.</summary>
    public void Settle()
    {
        if (_writing is not { } writing)
        {
            return;
        }

        _writing = null;
        try
        {
            writing.Task.GetAwaiter().GetResult();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or MLNetLoraException)
        {
            Say($"{RunFolder.Prefix}{writing.Step} could not be written, and the training goes on without: {e.Message}");
            return;
        }

        _last = writing.Step;
        RemoveAbandoned();
        RemovePassing(writing);
        Prune(writing.Steps, writing.Options);
        Saved?.Invoke(writing.Step, folder!.Of(writing.Step));
    }

    /// <summary>Puts the parameters of a step back; where its checkpoint is damaged or gone, that is said, and those of the last step stay.</summary>
    public void LoadParameters(int step, ParameterSet parameters)
    {
        string before = Path.Combine(Path.GetDirectoryName(start?.Folder) ?? "", $"{RunFolder.Prefix}{step}");
        try
        {
            bool isElsewhere = folder is null || (!Directory.Exists(folder.Of(step)) && start is not null && step <= start.State.Step);
            StateTensors.Load(SavedRun.Read(isElsewhere ? before : folder!.Of(step)).Tensors(), parameters, alone: true);
        }
        catch (Exception e) when (e is CheckpointException or OptionException)
        {
            Say($"The best step, {step}, could not be read again, and the result is that of the last one: {e.Message}");
        }
    }

    private void Say(string warning)
    {
        _warnings.Add(warning);
        Warn?.Invoke(warning);
    }

    /// <summary>Removes the one that was the best before, where nothing else asked for it.</summary>
    private void RemovePassing(Writing written)
    {
        if (!written.IsBest)
        {
            return;
        }

        int? before = _passing;
        _passing = written.IsDue ? null : written.Step;
        try
        {
            if (before is { } step)
            {
                folder!.Remove(step);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It takes room, and is as good a checkpoint as any.
        }
    }

    /// <summary>Removes what comes after the checkpoint that the run went on from, once there is a new one: it is of a run that was gone on with otherwise, or
    /// damaged, and would be taken for the newest.</summary>
    private void RemoveAbandoned()
    {
        if (_isFirst && IsOwn)
        {
            try
            {
                foreach ((int step, string path) in RunFolder.Checkpoints(folder!.Path).Where(checkpoint => checkpoint.Step > _last).ToArray())
                {
                    folder.Remove(step);
                    Say($"{path} was removed: the run went on from an earlier checkpoint.");
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                Say($"Checkpoints of a run that was gone on with otherwise could not be removed: {e.Message}");
            }
        }

        _isFirst = false;
    }

    private void Write(string target, ParameterSet parameters, TrainingState state, IReadOnlyList<TrainingProgress> steps, TrainingOptions options)
    {
        WriteModel?.Invoke(target); // first: an adapter refuses a folder that holds other tensors
        SafetensorsWriter.Write(Path.Combine(target, StateTensors.FileName), StateTensors.Items(parameters, Held));
        byte[] history = TrainerStateFile.Write(steps, options, TrainerStateFile.BestFolder(folder!, steps));
        AtomicFile.Write(Path.Combine(target, TrainerStateFile.FileName), stream => stream.Write(history));
        SavedRun.Write(target, state, identity);
    }

    /// <summary>Removes what is too much; the newest and the best stay.</summary>
    /// <param name="steps">The steps made.</param>
    /// <param name="options">How many are kept.</param>
    public void Prune(IReadOnlyList<TrainingProgress> steps, TrainingOptions options)
    {
        if (options.SaveTotalLimit is not { } limit || folder is null)
        {
            return;
        }

        int? best = options.KeepsBest ? EarlyStopping.Best(steps)?.Step : null;
        try
        {
            foreach ((int step, _) in RunFolder.Checkpoints(folder.Path).Where(checkpoint => checkpoint.Step != best && checkpoint.Step <= _last)
                .Skip(Math.Max(best == _last ? 0 : 1, best is null ? limit : limit - 1)).ToArray())
            {
                folder.Remove(step);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Tried again after the next one.
        }
    }

    /// <summary>A checkpoint on its way to the disk.</summary>
    /// <param name="Task">Writes it.</param>
    /// <param name="Step">Its step.</param>
    /// <param name="Steps">Those until then.</param>
    /// <param name="Options">Of the run.</param>
    /// <param name="IsDue">Whether it was time for one.</param>
    /// <param name="IsBest">Whether its validation loss is the lowest so far.</param>
    private sealed record Writing(Task Task, int Step, TrainingProgress[] Steps, TrainingOptions Options, bool IsDue, bool IsBest);
}
