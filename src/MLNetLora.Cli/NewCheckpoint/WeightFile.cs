using MLNetLora.Checkpoints;

namespace MLNetLora.Cli.NewCheckpoint;

/// <summary>Streams one file of random weights through the library's safetensors writer.</summary>
internal static class WeightFile
{
    // A stretch is what one thread fills at a time; a few of them are all the memory that a checkpoint of any size needs.
    private const int StretchBytes = 4 << 20;

    /// <summary>Writes the file.</summary>
    /// <param name="path">Where to.</param>
    /// <param name="tensors">Names and shapes, in the order of the file.</param>
    /// <param name="type">How numbers are stored.</param>
    /// <param name="fill">Fills a stretch of a tensor: destination bytes, tensor, position of the stretch in elements. Called from several threads.</param>
    /// <param name="isSparse">Leaves out all but the norms.</param>
    public static void Write(
        string path, IReadOnlyList<TensorSpec> tensors, ElementType type, Action<Memory<byte>, TensorSpec, long> fill, bool isSparse = false)
    {
        TensorType stored = type.Safetensors switch { "F16" => TensorType.Float16, "BF16" => TensorType.BFloat16, _ => TensorType.Float32 };
        byte[][] buffers = [
            .. Enumerable.Range(0, Math.Clamp(Environment.ProcessorCount, 1, 8)).Select(_ => GC.AllocateUninitializedArray<byte>(StretchBytes))];
        SafetensorsWriter.Write(path, [.. tensors.Select(
            tensor => new SafetensorsWriter.Item(tensor.Name, stored, [.. tensor.Shape.Select(size => (long)size)], stream => Fill(stream, tensor)))]);

        void Fill(Stream stream, TensorSpec tensor)
        {
            long bytes = tensor.Elements * type.Size;
            if (isSparse && !tensor.IsNorm)
            {
                stream.SetLength(stream.Position + bytes);
                stream.Position += bytes;
                return;
            }

            for (long round = 0; round < bytes; round += (long)buffers.Length * StretchBytes)
            {
                long start = round;
                int stretches = (int)Math.Min(buffers.Length, (bytes - start + StretchBytes - 1) / StretchBytes);
                Parallel.For(0, stretches, i => fill(Stretch(i), tensor, (start + ((long)i * StretchBytes)) / type.Size));
                for (int i = 0; i < stretches; i++)
                {
                    stream.Write(Stretch(i).Span);
                }

                Memory<byte> Stretch(int i) => buffers[i].AsMemory(0, (int)Math.Min(StretchBytes, bytes - start - ((long)i * StretchBytes)));
            }
        }
    }
}
