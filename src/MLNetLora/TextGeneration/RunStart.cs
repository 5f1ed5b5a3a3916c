using MLNetLora.Checkpoints;
using MLNetLora.Training;

namespace MLNetLora.TextGeneration;

/// <summary>Where a run writes, and the checkpoint that it goes on from.</summary>
/// <param name="Folder">Its folder, which it has alone; null: it writes nothing.</param>
/// <param name="From">The checkpoint; null: it begins anew.</param>
internal sealed record RunStart(RunFolder? Folder, SavedRun? From) : IDisposable
{
    /// <summary>Opens what the options name.</summary>
    /// <param name="options">The options.</param>
    /// <param name="notice">Receives what is to be known.</param>
    /// <param name="warn">Receives what is to be said of damaged checkpoints.</param>
    /// <exception cref="OptionException">The folder cannot be used, or holds another run.</exception>
    /// <exception cref="CheckpointException">The checkpoint that was named is damaged.</exception>
    public static RunStart Open(QwenLoraTrainer.Options options, Action<string> notice, Action<string> warn)
    {
        const string output = nameof(QwenLoraTrainer.Options.OutputFolder);
        RunFolder? folder = options.OutputFolder is { } path ? RunFolder.Open(path, output) : null;
        try
        {
            if (folder is not null && options.Method == FineTuningMethod.Lora)
            {
                Adapters.LoraAdapter.RequireNoModel(folder.Path);
            }

            if (options.ResumeFrom is null)
            {
                RequireNew();
                return new RunStart(folder, null);
            }

            SavedRun? from = Find(options, folder?.Path, notice, warn);
            RunStart start = new(folder, from);
            if (from is null && folder is not null && File.Exists(Path.Combine(folder.Path, Adapters.LoraAdapter.ConfigName)))
            {
                throw new OptionException($"{output} is {folder.Path}, which holds the adapter of a run that has ended, and no checkpoint to go on from. "
                    + "Take that adapter, or give an empty folder.");
            }

            if (from is not null && !start.IsOwn)
            {
                RequireNew();
            }

            if (from is not null)
            {
                notice($"Going on from {from.Folder}, after step {from.State.Step}.");
            }

            return start;

            void RequireNew()
            {
                if (folder is not null && Present(folder.Path) is { } present)
                {
                    throw new OptionException($"{output} is {folder.Path}, which holds {present} of an earlier run. "
                        + $"Set {nameof(options.ResumeFrom)} to the same folder to go on with that run, or give an empty folder.");
                }
            }
        }
        catch
        {
            folder?.Dispose();
            throw;
        }
    }

    /// <summary>Whether the run goes on in the folder that it began in.</summary>
    public bool IsOwn => Folder is not null && From is not null && RunFolder.AreSame(Path.GetDirectoryName(From.Folder), Folder.Path);

    /// <summary>What a run that ends now can be gone on from: its folder where it has a checkpoint, else the checkpoint that it began with; null for
    /// nothing.</summary>
    public string? Newest => Folder is not null && RunFolder.Checkpoints(Folder.Path).Any() ? Folder.Path : From?.Folder;

    /// <inheritdoc/>
    public void Dispose() => Folder?.Dispose();

    private static string? Present(string folder) =>
        RunFolder.Checkpoints(folder).Select(checkpoint => Path.GetFileName(checkpoint.Folder)).FirstOrDefault()
        ?? (File.Exists(Path.Combine(folder, Adapters.LoraAdapter.ConfigName)) ? Adapters.LoraAdapter.ConfigName : null);

    /// <summary>The checkpoint that a folder is, or the newest whole one in it.</summary>
    private static SavedRun? Find(QwenLoraTrainer.Options options, string? output, Action<string> notice, Action<string> warn)
    {
        const string option = nameof(QwenLoraTrainer.Options.ResumeFrom);
        string folder = RunFolder.Plain(options.ResumeFrom!);
        if (File.Exists(Path.Combine(folder, SavedRun.FileName)) || (Directory.Exists(folder)
            && Path.GetFileName(folder).StartsWith(RunFolder.Prefix, StringComparison.Ordinal)))
        {
            RequireOurs(folder);
            return SavedRun.Read(folder);
        }

        if (!RunFolder.AreSame(folder, output) && !RunFolder.Checkpoints(folder).Any())
        {
            folder = Inside(folder);
        }

        bool isFound = false;
        foreach ((int step, string path) in RunFolder.Checkpoints(folder))
        {
            isFound = true;
            RequireOurs(path);
            try
            {
                return SavedRun.Read(path);
            }
            catch (CheckpointException e) when (e.InnerException is not (UnauthorizedAccessException or IOException)
                or FileNotFoundException or DirectoryNotFoundException or EndOfStreamException)
            {
                warn($"{path} is damaged and is not used: {e.Message}");
            }
        }

        if (!RunFolder.AreSame(folder, output))
        {
            throw new OptionException(isFound ? $"{option} is {folder}, none of whose checkpoints is whole."
                : $"{option} is {folder}, which holds no {RunFolder.Prefix}… of a run. Give the folder of a run or of a checkpoint, or leave it out to "
                    + "begin anew." + (options.Method != FineTuningMethod.Full ? "" : $" A run whose {nameof(options.Method)} is {options.Method} writes them "
                        + $"only with {nameof(options.SaveSteps)}, {nameof(options.SaveEveryEpoch)} or {nameof(options.LoadBestModelAtEnd)}."));
        }

        (isFound ? warn : notice)($"{folder} holds no {(isFound ? "whole checkpoint" : "checkpoint yet")}: the run begins anew.");
        return null;
    }

    /// <summary>The one run that a folder without checkpoints of its own holds; where it holds none, the folder.</summary>
    private static string Inside(string folder)
    {
        const int named = 5;
        string[] runs = RunFolder.RunsIn(folder);
        return runs.Length switch
        {
            0 => folder,
            1 => runs[0],
            _ => throw new OptionException($"{nameof(QwenLoraTrainer.Options.ResumeFrom)} is {folder}, which holds {runs.Length} runs: "
                + $"{string.Join(", ", runs.Take(named).Select(Path.GetFileName))}{(runs.Length > named ? ", …" : "")}. Give the folder of one of them."),
        };
    }

    private static void RequireOurs(string folder)
    {
        if (File.Exists(Path.Combine(folder, "optimizer.pt")) && !File.Exists(Path.Combine(folder, SavedRun.FileName)))
        {
            throw new OptionException($"{folder} is a checkpoint of transformers, whose states are Python pickles: opening one can run any code, so they are "
                + $"not read. Set {nameof(QwenLoraTrainer.Options.InitialAdapter)} to it to train on from its adapter with new states, in another "
                + $"{nameof(QwenLoraTrainer.Options.OutputFolder)}.");
        }
    }
}
