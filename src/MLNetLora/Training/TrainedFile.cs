using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.Training;

/// <summary>The file that full training writes: every trained tensor, and what the checkpoint that it went on from holds beside them.</summary>
/// <param name="path">Where the weights of a run that made all its steps go.</param>
/// <param name="tensors">What is trained.</param>
/// <param name="type">Type of the trained tensors; null: of each that of its tensor in the checkpoint.</param>
/// <param name="initial">The checkpoint; null for none.</param>
internal sealed class TrainedFile(string path, IReadOnlyList<TrainableTensor> tensors, TensorType? type, Checkpoint? initial)
{
    private IReadOnlyList<CheckpointTensor> Beside => initial?.Beside ?? [];

    /// <summary>Finds out before the first step what would lose a run after its last one.</summary>
    /// <exception cref="OptionException">The file cannot be written, or its drive is too full for it.</exception>
    public void RequireWritable()
    {
        if (Directory.Exists(path))
        {
            throw new OptionException($"{path} is a folder; name the file that receives the weights, such as {Path.Combine(path, WeightFiles.SingleName)}.");
        }

        try
        {
            File.Delete(AtomicFile.WriteTemporary(path, static _ => { }));
            using FileSet folder = new(Path.GetDirectoryName(Path.GetFullPath(path))!);
            folder.RequireSpace(SafetensorsWriter.Length([.. Trained(null), .. Beside.Select(SafetensorsWriter.Item.Copy)]));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new OptionException($"{path} cannot be written: {e.Message}", e);
        }
    }

    /// <summary>Writes the weights of a run that made all its steps.</summary>
    /// <exception cref="TrainingException">It failed: the weights are then to be kept as those of an unfinished run.</exception>
    public void WriteFinished(ParameterSet parameters, int steps)
    {
        try
        {
            Write(path, parameters);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or CheckpointException)
        {
            throw TrainingException.In(steps, steps, steps, e);
        }
    }

    /// <summary>Writes the weights of an unfinished run where they replace nothing but those of another one; without what lies beside them where that cannot
    /// be read any more.</summary>
    /// <param name="parameters">The weights.</param>
    /// <param name="isOwn">Whether what is there is of this run, from an earlier time that it was stopped.</param>
    /// <returns>A sentence that says where they are.</returns>
    public string WriteUnfinished(ParameterSet parameters, bool isOwn = false)
    {
        bool isTaken = !isOwn && Path.Exists(path);
        string target = isTaken ? Path.ChangeExtension(path, ".interrupted" + Path.GetExtension(path)) : path;
        string without = "";
        try
        {
            try
            {
                Write(target, parameters);
            }
            catch (CheckpointException e)
            {
                SafetensorsWriter.Write(target, Trained(parameters));
                without = $", without '{Beside[0].Entry.Name}' and whatever else is not trained ({e.Message})";
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return $"The weights of the last whole step could not be written to {target}: {e.Message}";
        }

        return $"The weights of the last whole step are in {target}{without}{(isTaken ? $"; {path}, which was there before, is unchanged" : "")}.";
    }

    /// <summary>Writes the weights as they are.</summary>
    public void Write(ParameterSet parameters) => Write(path, parameters);

    private void Write(string target, ParameterSet parameters)
    {
        if (Beside.Count > 0)
        {
            initial!.RequireUnchanged();
        }

        SafetensorsWriter.Write(target, [.. Trained(parameters), .. Beside.Select(SafetensorsWriter.Item.Copy)]);
    }

    /// <summary>The trained tensors; without parameters only what stands in the header.</summary>
    private List<SafetensorsWriter.Item> Trained(ParameterSet? parameters) =>
    [
        .. tensors.Select(tensor =>
        {
            TensorType own = type ?? initial!.Tensors[tensor.Name].Entry.Type;
            return new SafetensorsWriter.Item(tensor.Name, own, tensor.Shape,
                stream => SafetensorsWriter.Write(stream, parameters!.Read(parameters.Values, tensor.Name), own));
        }),
    ];
}
