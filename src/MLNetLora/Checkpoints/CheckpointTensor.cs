namespace MLNetLora.Checkpoints;

/// <summary>A tensor of a checkpoint: its header entry and the file that holds it.</summary>
/// <param name="File">The safetensors file.</param>
/// <param name="Entry">Name, type, shape and place in that file.</param>
internal sealed record CheckpointTensor(SafetensorsFile File, TensorEntry Entry)
{
    /// <summary>Reads the tensor into memory as float32.</summary>
    public float[] ReadFloat32() => File.ReadFloat32(Entry);
}
