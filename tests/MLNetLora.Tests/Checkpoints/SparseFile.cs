using System.Buffers.Binary;
using System.Text;
using System.Text.Json;

namespace MLNetLora.Tests.Checkpoints;

/// <summary>Writes safetensors files of many gigabytes of which the file system stores next to nothing: what has no bytes is a hole, and read as
/// zeros.</summary>
internal static class SparseFile
{
    /// <summary>A tensor; a hole where <paramref name="Bytes"/> is null.</summary>
    public sealed record Tensor(string Name, string Type, IReadOnlyList<long> Shape, byte[]? Bytes = null)
    {
        public static Tensor Hole(string name, long length) => new(name, "U8", [length]);

        public long Length => Shape.Aggregate(Type switch { "F32" => 4L, "BF16" => 2L, _ => 1L }, (product, size) => product * size);
    }

    /// <summary>Writes a file whose tensors lie in the given order.</summary>
    public static void Write(string path, IReadOnlyList<Tensor> tensors)
    {
        Dictionary<string, object> entries = [];
        long offset = 0;
        foreach (Tensor tensor in tensors)
        {
            entries[tensor.Name] = new { dtype = tensor.Type, shape = tensor.Shape, data_offsets = new[] { offset, offset + tensor.Length } };
            offset += tensor.Length;
        }

        string json = JsonSerializer.Serialize(entries);
        byte[] header = Encoding.UTF8.GetBytes(json.PadRight((json.Length + 7) / 8 * 8));
        byte[] prefix = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(prefix, header.Length);
        using FileStream stream = File.Create(path);
        stream.Write(prefix);
        stream.Write(header);
        foreach (Tensor tensor in tensors)
        {
            long end = stream.Position + tensor.Length;
            stream.Write(tensor.Bytes ?? []);
            stream.Position = end;
        }

        stream.SetLength(stream.Position);
    }
}
