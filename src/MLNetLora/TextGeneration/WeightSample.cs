using System.Security.Cryptography;
using MLNetLora.Checkpoints;

namespace MLNetLora.TextGeneration;

/// <summary>
/// Hashes of every tensor of a weight file. Files up to 32 MiB and small tensors are hashed whole; of larger ones blocks that stand evenly from the
/// first to the last byte, so that a tensor that was trained on, in which most values are others, is seen wherever it is. Of a checkpoint of 7B
/// parameters 5 MB are read.
/// </summary>
internal static class WeightSample
{
    private const long WholeFile = 32L << 20;
    private const int Blocks = 64;
    private const int BlockSize = 256;
    private const int HashBytes = 8;

    /// <summary>The hashes by tensor, 16 hexadecimal digits each.</summary>
    public static IReadOnlyDictionary<string, string> Read(SafetensorsFile file)
    {
        using FileStream stream = new(file.Source, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0, FileOptions.RandomAccess);
        bool whole = stream.Length <= WholeFile;
        Dictionary<string, string> hashes = [];
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (TensorEntry tensor in file.Tensors.Values.OrderBy(tensor => tensor.Offset))
        {
            if (whole || tensor.Length <= Blocks * BlockSize)
            {
                AddWhole(hash, stream, tensor);
            }
            else
            {
                AddBlocks(hash, stream, tensor);
            }

            hashes[tensor.Name] = Convert.ToHexStringLower(hash.GetHashAndReset().AsSpan(0, HashBytes));
        }

        return hashes;
    }

    private static void AddWhole(IncrementalHash hash, FileStream stream, TensorEntry tensor)
    {
        byte[] buffer = new byte[Math.Min(tensor.Length, 1 << 20)];
        for (long at = 0; at < tensor.Length; at += buffer.Length)
        {
            Add(hash, stream, tensor.Offset + at, buffer.AsSpan(0, (int)Math.Min(buffer.Length, tensor.Length - at)));
        }
    }

    private static void AddBlocks(IncrementalHash hash, FileStream stream, TensorEntry tensor)
    {
        Span<byte> block = stackalloc byte[BlockSize];
        for (int i = 0; i < Blocks; i++)
        {
            Add(hash, stream, tensor.Offset + (long)((Int128)(tensor.Length - BlockSize) * i / (Blocks - 1)), block);
        }
    }

    private static void Add(IncrementalHash hash, FileStream stream, long at, Span<byte> buffer)
    {
        for (int read = 0; read < buffer.Length;)
        {
            int count = RandomAccess.Read(stream.SafeFileHandle, buffer[read..], at + read);
            read += count > 0 ? count : throw new EndOfStreamException($"{stream.Name} ends within a tensor.");
        }

        hash.AppendData(buffer);
    }
}
