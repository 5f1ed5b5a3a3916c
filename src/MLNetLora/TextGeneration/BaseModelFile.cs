using System.Buffers.Binary;
using System.Security.Cryptography;
using MLNetLora.Checkpoints;

namespace MLNetLora.TextGeneration;

/// <summary>One weight file: its size, and hashes of its header and of a sample of its tensors.</summary>
/// <remarks>The sample is there because two checkpoints of one architecture, such as a base model and its instruct version, have equal sizes and
/// headers.</remarks>
/// <param name="Name">File name within the checkpoint folder.</param>
/// <param name="Size">Bytes.</param>
/// <param name="HeaderSha256">SHA-256 of the header: eight bytes of length and the JSON.</param>
/// <param name="Tensors">See <see cref="WeightSample"/>; null in zips of format 1.</param>
/// <param name="SampleSha256">Of zips of format 1: see <see cref="OldChecks.SampleSha256"/>.</param>
/// <param name="Blocks">Blocks of each large tensor in <paramref name="Tensors"/>; zips from before there was a choice do not say, and have 64.</param>
internal sealed record BaseModelFile(
    string Name,
    long Size,
    string HeaderSha256,
    IReadOnlyDictionary<string, string>? Tensors = null,
    string? SampleSha256 = null,
    int Blocks = WeightSample.MostBlocks)
{
    /// <summary>Whether a name is one that a record may hold: that of a .safetensors file and no path on any system.</summary>
    public static bool IsPlainName(string name) =>
        name == Path.GetFileName(name) && !name.Contains('\\') && name.EndsWith(".safetensors", StringComparison.Ordinal);

    public static BaseModelFile Create(string folder, string name, int blocks = WeightSample.MostBlocks, CancellationToken cancellation = default)
    {
        if (!IsPlainName(name))
        {
            throw new CheckpointException(
                $"{folder} keeps weights in '{name}'; a model can only be saved and loaded again when their files are plain names that end in .safetensors.");
        }

        SafetensorsFile file = SafetensorsFile.Open(Path.Combine(folder, name));
        return new BaseModelFile(name, Length(file.Source), Sha256(file), WeightSample.Read(file, blocks, cancellation), Blocks: blocks);
    }

    public string? SizeDifference(string folder)
    {
        string path = Path.Combine(folder, Name);
        if (!File.Exists(path))
        {
            return $"{Name} is missing";
        }

        long length = Length(path);
        return length == Size ? null : FormattableString.Invariant($"{Name} differs: {Size} bytes were expected, it has {length}");
    }

    public string? HeaderDifference(string folder)
    {
        string header = Sha256(SafetensorsFile.Open(Path.Combine(folder, Name)));
        return header == HeaderSha256 ? null : $"{Name} differs: a header with SHA-256 {HeaderSha256} was expected, it is {header}";
    }

    public string? ContentDifference(string folder, CancellationToken cancellation = default)
    {
        SafetensorsFile file = SafetensorsFile.Open(Path.Combine(folder, Name));
        if (SampleSha256 is not null && OldChecks.SampleSha256(file) is { } sample && sample != SampleSha256)
        {
            return $"{Name} differs: the same tensors, but other weights (SHA-256 of the sampled blocks: {SampleSha256} was expected, it is {sample})";
        }

        IReadOnlyDictionary<string, string> found = Tensors is null ? new Dictionary<string, string>() : WeightSample.Read(file, Blocks, cancellation);
        string[] others = [.. found.Keys.Where(name => Tensors!.GetValueOrDefault(name) != found[name])];
        return others.Length == 0
            ? null
            : $"{Name} differs: the same tensors, but other weights in '{others[0]}'{(others.Length == 1 ? "" : $" and {others.Length - 1} more")}";
    }

    // The hub cache links to its blobs, and a FileInfo has the length of the link.
    private static long Length(string path)
    {
        using FileStream stream = File.OpenRead(path);
        return stream.Length;
    }

    private static string Sha256(SafetensorsFile file)
    {
        byte[] length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, file.Header.Length);
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(length);
        hash.AppendData(file.Header.Span);
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}

/// <summary>What zips of format 1 remember of their base: bytes, and one block in some megabytes of the weights.</summary>
internal static class OldChecks
{
    private const int Blocks = 256;
    private const int BlockSize = 512;

    public static string Sha256(string path)
    {
        using FileStream stream = File.OpenRead(path);
        return Convert.ToHexStringLower(SHA256.HashData(stream));
    }

    /// <summary>SHA-256 of 256 evenly spaced blocks of 512 bytes behind the header.</summary>
    public static string SampleSha256(SafetensorsFile file)
    {
        using FileStream stream = new(file.Source, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        long start = 8 + file.Header.Length;
        long lastBlock = Math.Max(0, stream.Length - start - BlockSize);
        byte[] block = new byte[BlockSize];
        for (int i = 0; i < Blocks; i++)
        {
            stream.Position = start + (lastBlock / (Blocks - 1) * i);
            hash.AppendData(block, 0, stream.ReadAtLeast(block, BlockSize, throwOnEndOfStream: false));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}
