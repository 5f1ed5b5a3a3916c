using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.Artifacts;

/// <summary>An ONNX model as built: its bytes, and the folder that its external weights are relative to.</summary>
/// <param name="Name">File name, such as training_model.onnx.</param>
/// <param name="Bytes">The model without the weights.</param>
/// <param name="WeightsFolder">Real folder of the checkpoint's files; null for a model without external weights.</param>
internal sealed record ModelArtifact(string Name, byte[] Bytes, string? WeightsFolder)
{
    /// <summary>Initializers that are several tensors of the checkpoint one after another, by their names: they lie in no file so, and a session is given
    /// them. The model names the first tensor in their place.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<CheckpointTensor>> Stacks { get; init; } = new Dictionary<string, IReadOnlyList<CheckpointTensor>>();

    /// <summary>Writes the .onnx file into a folder. It opens in any viewer; to run it elsewhere, its weights must lie in that folder too.</summary>
    public void Save(string folder) => AtomicFile.Write(Path.Combine(folder, Name), stream => stream.Write(Bytes));
}
