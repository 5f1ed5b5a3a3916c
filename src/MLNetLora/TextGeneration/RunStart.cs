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
            if (options.ResumeFrom is null)
            {
                if (folder is not null && Present(folder.Path) is { } present)
                {
                    throw new OptionException($"{output} is {folder.Path}, which holds {present} of an earlier run. "
                        + $"Set {nameof(options.ResumeFrom)} to the same folder to go on with that run, or give an empty folder.");
                }

                return new RunStart(folder, null);
            }

            SavedRun? from = Find(options.ResumeFrom, folder?.Path, notice, warn);
            if (from is not null)
            {
                notice($"Going on from {from.Folder}, after step {from.State.Step}.");
            }

            return new RunStart(folder, from);
        }
        catch
        {
            folder?.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Folder?.Dispose();

    private static string? Present(string folder) =>
        RunFolder.Checkpoints(folder).Select(checkpoint => Path.GetFileName(checkpoint.Folder)).FirstOrDefault()
        ?? (File.Exists(Path.Combine(folder, Adapters.LoraAdapter.ConfigName)) ? Adapters.LoraAdapter.ConfigName : null);

    /// <summary>The checkpoint that a folder is, or the newest whole one in it.</summary>
    private static SavedRun? Find(string asked, string? output, Action<string> notice, Action<string> warn)
    {
        const string option = nameof(QwenLoraTrainer.Options.ResumeFrom);
        string folder = Path.GetFullPath(asked);
        if (File.Exists(Path.Combine(folder, SavedRun.FileName)) || (Directory.Exists(folder)
            && Path.GetFileName(folder).StartsWith(RunFolder.Prefix, StringComparison.Ordinal)))
        {
            return File.Exists(Path.Combine(folder, "optimizer.pt")) && !File.Exists(Path.Combine(folder, SavedRun.FileName))
                ? throw new OptionException($"{option} is {folder}, a checkpoint of transformers, whose states are Python pickles: opening one can run any "
                    + $"code, so they are not read. Set {nameof(QwenLoraTrainer.Options.InitialAdapter)} to it to train on from its adapter with new states.")
                : SavedRun.Read(folder);
        }

        bool isFound = false;
        foreach ((int step, string path) in RunFolder.Checkpoints(folder))
        {
            isFound = true;
            try
            {
                return SavedRun.Read(path);
            }
            catch (CheckpointException e)
            {
                warn($"{path} is damaged and is not used: {e.Message}");
            }
        }

        if (folder != output)
        {
            throw new OptionException(isFound ? $"{option} is {folder}, none of whose checkpoints is whole."
                : $"{option} is {folder}, which holds no {RunFolder.Prefix}… of a run. Give the folder of a run or of a checkpoint, or leave it out to "
                    + "begin anew.");
        }

        notice($"{folder} holds no {(isFound ? "whole " : "")}checkpoint yet: the run begins anew.");
        return null;
    }
}
