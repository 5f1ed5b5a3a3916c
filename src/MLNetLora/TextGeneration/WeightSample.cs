using System.Security.Cryptography;
using MLNetLora.Checkpoints;

namespace MLNetLora.TextGeneration;

/// <summary>
/// Hashes of every tensor of a weight file. Files up to 32 MiB and small tensors are hashed whole; of larger ones blocks that stand evenly from the
/// first to the last byte, so that a tensor that was trained on, in which most values are others, is seen wherever it is. Of a checkpoint of 7B
/// parameters 5 MB are read, in places all over its files: mixtures, whose experts are tens of thousands of tensors, have fewer blocks of each.
/// </summary>
internal static class WeightSample
{
    private const long WholeFile = 32L << 20;
    private const int MostInAll = 1 << 16; // blocks of a whole checkpoint: what a dense one of a thousand tensors has
    private const int BlockSize = 256;
    private const int HashBytes = 8;

    /// <summary>Blocks of a large tensor where there is no need to save; also those of records that do not say how many.</summary>
    public const int MostBlocks = 64;

    /// <summary>Blocks of a large tensor at the least: its first and its last bytes.</summary>
    public const int FewestBlocks = 2;

    /// <summary>How many blocks each large tensor of a checkpoint has.</summary>
    public static int Blocks(IEnumerable<SafetensorsFile> files)
    {
        int large = files.Sum(file => file.Tensors.Values.Count(tensor => tensor.Length > MostBlocks * BlockSize));
        return Math.Clamp(MostInAll / Math.Max(1, large), FewestBlocks, MostBlocks);
    }

    /// <summary>The hashes by tensor, 16 hexadecimal digits each.</summary>
    /// <param name="file">The file.</param>
    /// <param name="blocks">Blocks of a large tensor, from <see cref="FewestBlocks"/> to <see cref="MostBlocks"/>.</param>
    /// <param name="cancellation">Ends the reading.</param>
    public static IReadOnlyDictionary<string, string> Read(SafetensorsFile file, int blocks, CancellationToken cancellation = default)
    {
        using FileStream stream = new(file.Source, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0, FileOptions.RandomAccess);
        bool whole = stream.Length <= WholeFile;
        Dictionary<string, string> hashes = [];
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (TensorEntry tensor in file.Tensors.Values.OrderBy(tensor => tensor.Offset))
        {
            cancellation.ThrowIfCancellationRequested();
            if (whole || tensor.Length <= MostBlocks * BlockSize)
            {
                AddWhole(hash, stream, tensor);
            }
            else
            {
                AddBlocks(hash, stream, tensor, blocks);
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

    private static void AddBlocks(IncrementalHash hash, FileStream stream, TensorEntry tensor, int blocks)
    {
        Span<byte> block = stackalloc byte[BlockSize];
        for (int i = 0; i < blocks; i++)
        {
            Add(hash, stream, tensor.Offset + (long)((Int128)(tensor.Length - BlockSize) * i / (blocks - 1)), block);
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
