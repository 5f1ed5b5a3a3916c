using System.Buffers.Binary;
using System.Text.Json;

namespace MLNetLora.Tools.SyntheticCheckpoint;

/// <summary>Streams one safetensors file: eight bytes of header length, the JSON header padded to eight bytes, then the tensors one behind the other.</summary>
internal static class SafetensorsFile
{
    // A stretch is what one thread fills at a time; a few of them are all the memory that a checkpoint of any size needs.
    private const int StretchBytes = 4 << 20;

    /// <summary>Writes the file.</summary>
    /// <param name="path">Where to.</param>
    /// <param name="tensors">Names and shapes, in the order of the file.</param>
    /// <param name="type">How numbers are stored.</param>
    /// <param name="fill">Fills a stretch of a tensor: destination bytes, tensor, position of the stretch in elements. Called from several threads.</param>
    public static void Write(string path, IReadOnlyList<TensorSpec> tensors, ElementType type, Action<Memory<byte>, TensorSpec, long> fill)
    {
        byte[] header = Header(tensors, type);
        long total = 8 + header.Length + tensors.Sum(tensor => tensor.Elements * type.Size);
        using FileStream file = new(path, new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.Write,
            BufferSize = 0,
            PreallocationSize = total,
        });
        Span<byte> length = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
        file.Write(length);
        file.Write(header);

        int threads = Math.Clamp(Environment.ProcessorCount, 1, 8);
        byte[][] buffers = [.. Enumerable.Range(0, threads).Select(_ => GC.AllocateUninitializedArray<byte>(StretchBytes))];
        foreach (TensorSpec tensor in tensors)
        {
            long bytes = tensor.Elements * type.Size;
            for (long round = 0; round < bytes; round += (long)threads * StretchBytes)
            {
                long start = round;
                int stretches = (int)Math.Min(threads, (bytes - start + StretchBytes - 1) / StretchBytes);
                Parallel.For(0, stretches, i => fill(Stretch(i), tensor, (start + (long)i * StretchBytes) / type.Size));
                for (int i = 0; i < stretches; i++) file.Write(Stretch(i).Span);

                Memory<byte> Stretch(int i) => buffers[i].AsMemory(0, (int)Math.Min(StretchBytes, bytes - start - (long)i * StretchBytes));
            }
        }
        file.Flush(flushToDisk: true);
    }

    private static byte[] Header(IReadOnlyList<TensorSpec> tensors, ElementType type)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = new(stream))
        {
            json.WriteStartObject();
            json.WriteStartObject("__metadata__");
            json.WriteString("format", "pt");
            json.WriteEndObject();
            long offset = 0;
            foreach (TensorSpec tensor in tensors)
            {
                json.WriteStartObject(tensor.Name);
                json.WriteString("dtype", type.Safetensors);
                json.WriteStartArray("shape");
                foreach (int dimension in tensor.Shape) json.WriteNumberValue(dimension);
                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(offset);
                offset += tensor.Elements * type.Size;
                json.WriteNumberValue(offset);
                json.WriteEndArray();
                json.WriteEndObject();
            }
            json.WriteEndObject();
        }
        while (stream.Length % 8 != 0) stream.WriteByte((byte)' ');
        return stream.ToArray();
    }
}
