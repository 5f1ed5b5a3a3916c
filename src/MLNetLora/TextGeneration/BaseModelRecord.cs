using System.Buffers.Binary;
using System.Security.Cryptography;
using MLNetLora.Checkpoints;

namespace MLNetLora.TextGeneration;

/// <summary>What a saved model remembers of the checkpoint it was trained on: where it was, and by what to tell that a folder holds the same one.</summary>
/// <param name="Location">The path or hub id as the user gave it; a path may be relative.</param>
/// <param name="AbsolutePath">The folder that it led to, in full.</param>
/// <param name="TotalSize">Bytes of all weight files.</param>
/// <param name="ConfigSha256">SHA-256 of config.json, in lower-case hexadecimal digits.</param>
/// <param name="Files">The weight files.</param>
internal sealed record BaseModelRecord(string Location, string AbsolutePath, long TotalSize, string ConfigSha256, IReadOnlyList<BaseModelFile> Files)
{
    private const string ConfigName = "config.json";
    private const int MaximumPath = 16_384;

    /// <summary>Records the files that the checkpoint was opened from; reads the headers and a sample of the weights, some 128 KiB of each file.</summary>
    public static BaseModelRecord Create(string location, Checkpoint checkpoint)
    {
        BaseModelFile[] files = [.. checkpoint.Files.Select(file => BaseModelFile.Create(checkpoint.Folder, Path.GetFileName(file.Source)))];
        return new BaseModelRecord(location, checkpoint.Folder, files.Sum(file => file.Size), Sha256OfConfig(checkpoint.Folder), files);
    }

    /// <summary>In what the folder differs from the recorded checkpoint: file, expected, found. Null when it is the same.</summary>
    public string? Difference(string folder)
    {
        try
        {
            string config = Sha256OfConfig(folder);
            if (config != ConfigSha256)
            {
                return $"{ConfigName} differs: SHA-256 {ConfigSha256} was expected, it is {config}";
            }

            // Sizes of all files first: the cheapest check that tells most wrong checkpoints.
            return Files.Select(file => file.SizeDifference(folder)).FirstOrDefault(difference => difference is not null)
                ?? Files.Select(file => file.ContentDifference(folder)).FirstOrDefault(difference => difference is not null);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or CheckpointException)
        {
            return exception.Message;
        }
    }

    /// <summary>Throws an <see cref="AdapterException"/> when the record, which comes from an untrusted zip, could lead out of a checkpoint folder or makes no sense.</summary>
    public void Validate()
    {
        if (!IsPath(Location) || !IsPath(AbsolutePath))
        {
            throw new AdapterException("The model zip's record of where the base checkpoint was is no path; the zip is damaged, save the model again.");
        }

        // The nullable annotations that the reader respects say nothing of elements.
        if (Files.FirstOrDefault(file => file is not null && !BaseModelFile.IsPlainName(file.Name)) is { } wrong)
        {
            throw new AdapterException($"The model zip names the base checkpoint's file '{wrong.Name}'; only plain names of .safetensors files are accepted.");
        }

        if (Files.Count == 0 || Files.Any(file => file is null || file.Size < 0) || Files.Aggregate(Int128.Zero, (sum, file) => sum + file.Size) != TotalSize)
        {
            throw new AdapterException("The model zip's record of the base checkpoint contradicts itself; the zip is damaged, save the model again.");
        }
    }

    private static bool IsPath(string path) => path.Length is > 0 and <= MaximumPath && !path.Contains('\0');

    private static string Sha256OfConfig(string folder)
    {
        string path = Path.Combine(folder, ConfigName);
        if (!File.Exists(path))
        {
            throw new CheckpointException($"{ConfigName} is missing");
        }

        using FileStream stream = File.OpenRead(path);
        return Convert.ToHexStringLower(SHA256.HashData(stream));
    }
}

/// <summary>One weight file: its size, and hashes of its header and of a sample of its data.</summary>
/// <remarks>The sample is there because two checkpoints of one architecture, such as a base model and its instruct version, have equal sizes and headers.</remarks>
/// <param name="Name">File name within the checkpoint folder.</param>
/// <param name="Size">Bytes.</param>
/// <param name="HeaderSha256">SHA-256 of the header: eight bytes of length and the JSON.</param>
/// <param name="SampleSha256">SHA-256 of <see cref="Blocks"/> evenly spaced blocks of <see cref="BlockSize"/> bytes of the data.</param>
internal sealed record BaseModelFile(string Name, long Size, string HeaderSha256, string SampleSha256)
{
    private const int Blocks = 256;
    private const int BlockSize = 512;
    private const long MaximumHeader = 100_000_000;

    /// <summary>Whether a name is one that a record may hold: that of a .safetensors file and no path on any system.</summary>
    public static bool IsPlainName(string name) => name == Path.GetFileName(name) && !name.Contains('\\') && name.EndsWith(".safetensors", StringComparison.Ordinal);

    public static BaseModelFile Create(string folder, string name)
    {
        if (!IsPlainName(name))
        {
            throw new CheckpointException($"{folder} keeps weights in '{name}'; a model can only be saved and loaded again when their files are plain names that end in .safetensors.");
        }

        using FileStream stream = Open(folder, name);
        (string header, string sample) = Hash(stream, name);
        return new BaseModelFile(name, stream.Length, header, sample);
    }

    public string? SizeDifference(string folder)
    {
        if (!File.Exists(Path.Combine(folder, Name)))
        {
            return $"{Name} is missing";
        }

        // The hub cache links to its blobs, and a FileInfo has the length of the link.
        using FileStream stream = Open(folder, Name);
        return stream.Length == Size ? null : FormattableString.Invariant($"{Name} differs: {Size} bytes were expected, it has {stream.Length}");
    }

    public string? ContentDifference(string folder)
    {
        using FileStream stream = Open(folder, Name);
        (string header, string sample) = Hash(stream, Name);
        return header != HeaderSha256 ? $"{Name} differs: a header with SHA-256 {HeaderSha256} was expected, it is {header}"
            : sample != SampleSha256 ? $"{Name} differs: the same tensors, but other weights (SHA-256 of the sampled blocks: {SampleSha256} was expected, it is {sample})"
            : null;
    }

    private static FileStream Open(string folder, string name)
    {
        string path = Path.Combine(folder, name);
        return File.Exists(path) ? new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0) : throw new CheckpointException($"{path} is missing");
    }

    private static (string Header, string Sample) Hash(FileStream stream, string name)
    {
        byte[] length = new byte[8];
        if (stream.ReadAtLeast(length, 8, throwOnEndOfStream: false) < 8)
        {
            throw new CheckpointException($"{name} is truncated: it has {stream.Length} bytes");
        }

        ulong headerLength = BinaryPrimitives.ReadUInt64LittleEndian(length);
        if (headerLength > Math.Min(MaximumHeader, (ulong)stream.Length - 8))
        {
            throw new CheckpointException($"{name} says that its header has {headerLength} bytes; the file has {stream.Length}");
        }

        byte[] header = new byte[headerLength];
        stream.ReadExactly(header);
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(length);
        hash.AppendData(header);
        string headerHash = Convert.ToHexStringLower(hash.GetHashAndReset());

        long start = stream.Position;
        long lastBlock = Math.Max(0, stream.Length - start - BlockSize);
        byte[] block = new byte[BlockSize];
        for (int i = 0; i < Blocks; i++)
        {
            stream.Position = start + lastBlock / (Blocks - 1) * i;
            hash.AppendData(block, 0, stream.ReadAtLeast(block, BlockSize, throwOnEndOfStream: false));
        }

        return (headerHash, Convert.ToHexStringLower(hash.GetHashAndReset()));
    }
}
