using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.Quantization;

/// <summary>
/// A checkpoint's linear layers in 4 bits, in a file that is mapped: quantized when a precision is asked for the first time, found again at the next start.
/// The file is what bitsandbytes would store, so that there is one way to read both. Embedding, output layer, norms and biases stay in the checkpoint, as
/// with bitsandbytes.
/// </summary>
internal static class FourBitCache
{
    /// <summary>Name of the environment variable for <see cref="Folder"/>.</summary>
    public const string Variable = "MLNETLORA_CACHE";

    private const string Version = "1"; // of what is written; part of the hash
    private const int BlockSize = 64; // bitsandbytes' default
    private const int NestedBlockSize = 256;
    private const int StateBytes = 256; // longer than any; filled up with spaces, since its length must be known before its numbers are
    private const int PieceNumbers = 1 << 20;

    /// <summary>What a test says is the root of a path (C:\); null: what the path says.</summary>
    [ThreadStatic]
    internal static Func<string, string?>? RootOf;

    /// <summary>Where the files are: MLNETLORA_CACHE, or MLNetLora in the user's folder for local application data. They can be deleted at any time; what has
    /// one mapped keeps it.</summary>
    public static string Folder => Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } named
        ? named
        : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData, Environment.SpecialFolderOption.Create), "MLNetLora");

    /// <summary>The checkpoint with its linear layers in 4 bits.</summary>
    /// <param name="checkpoint">In 16 or 32 bits. One that is in 4 bits already comes back as it is.</param>
    /// <param name="precision">Which 4 bits; with any other precision the checkpoint comes back as it is.</param>
    /// <param name="threads">Threads; 0 takes all cores.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    /// <exception cref="CheckpointException">A file cannot be read, or the cache not be written; or the cache lies on another drive.</exception>
    /// <exception cref="OptionException">The checkpoint is in other 4 bits.</exception>
    public static Checkpoint Open(Checkpoint checkpoint, WeightPrecision precision, int threads = 0, CancellationToken cancellation = default)
    {
        if (Format.Of(precision) is not { } format)
        {
            return checkpoint;
        }

        if (checkpoint.IsFourBit)
        {
            RequireSame(checkpoint, format, precision);
            return checkpoint;
        }

        RequireOneDrive(checkpoint);
        CheckpointTensor[] weights = Weights(checkpoint);
        string path = Path.Combine(Folder, Hash(checkpoint, precision, weights) + ".safetensors");
        if (Known(checkpoint, weights, path) is { } known)
        {
            return known;
        }

        try
        {
            using TensorRows source = new(checkpoint.Files);
            ParallelOptions parallel = new() { MaxDegreeOfParallelism = threads == 0 ? Environment.ProcessorCount : threads, CancellationToken = cancellation };
            SafetensorsWriter.Write(path, [.. weights.SelectMany(weight => new Quantized(weight, format, source, parallel).Items())]);
        }
        catch (AggregateException e) when (e.Flatten().InnerExceptions[0] is CheckpointException cause)
        {
            throw new CheckpointException(cause.Message, cause);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException(
                $"The 4-bit weights of {checkpoint.Folder} cannot be written to {path}: {e.Message} "
                + $"Name another folder with the environment variable {Variable}.", e);
        }

        return checkpoint.WithFourBit(SafetensorsFile.Open(path));
    }

    /// <summary>The checkpoint with its linear layers in 4 bits, where that costs nothing: they are so in it, or in the cache already. Else null.</summary>
    /// <param name="checkpoint">In any type.</param>
    /// <param name="precision">Which 4 bits; with any other precision the checkpoint comes back as it is.</param>
    public static Checkpoint? Find(Checkpoint checkpoint, WeightPrecision precision)
    {
        if (Format.Of(precision) is null || checkpoint.IsFourBit)
        {
            return checkpoint;
        }

        CheckpointTensor[] weights = Weights(checkpoint);
        return Known(checkpoint, weights, Path.Combine(Folder, Hash(checkpoint, precision, weights) + ".safetensors"));
    }

    /// <summary>What is quantized.</summary>
    private static CheckpointTensor[] Weights(Checkpoint checkpoint) =>
    [
        .. checkpoint.Architecture.Linears(checkpoint.Config)
            .Select(module => checkpoint.Tensors[module.Name + ".weight"])
            .Where(tensor => tensor.Entry.Count % BlockSize == 0),
    ];

    /// <summary>With what an earlier start has quantized; null where there is no such file, or half of one.</summary>
    private static Checkpoint? Known(Checkpoint checkpoint, CheckpointTensor[] weights, string path)
    {
        if (!File.Exists(path))
        {
            return null;
        }

        try
        {
            Checkpoint known = checkpoint.WithFourBit(SafetensorsFile.Open(path));
            return weights.All(weight => known.Tensors[weight.Entry.Name].FourBit is not null) ? known : null;
        }
        catch (CheckpointException)
        {
            return null; // cut short by somebody else; it is written again
        }
    }

    /// <summary>Refuses a cache on another drive than the checkpoint, before anything is quantized: ONNX Runtime reads the files of a model from below one
    /// folder.</summary>
    private static void RequireOneDrive(Checkpoint checkpoint)
    {
        Func<string, string?> root = RootOf ?? Path.GetPathRoot;
        string? cache = root(Directory.Exists(Folder) ? RealPath.Of(Folder) : Path.GetFullPath(Folder));
        string? weights = root(RealPath.Of(checkpoint.Files[0].Source));
        if (!string.Equals(cache, weights, StringComparison.OrdinalIgnoreCase))
        {
            throw new CheckpointException($"The 4-bit weights of {checkpoint.Folder} would be kept in {Folder}, and the two lie on different drives, {weights} "
                + $"and {cache}, whose files cannot be used together. Name a folder on {weights} with the environment variable {Variable}.");
        }
    }

    private static void RequireSame(Checkpoint checkpoint, Format format, WeightPrecision precision)
    {
        FourBitStorage stored = checkpoint.Tensors.Values.First(tensor => tensor.FourBit is not null).FourBit!;
        Format found = new(stored.Type, stored.Nested is not null);
        if (found != format)
        {
            throw new OptionException($"The precision is {precision}, but {checkpoint.Folder} is in 4 bits already, as {found.Precision}. "
                + $"Take {found.Precision} or {WeightPrecision.Checkpoint}, or the checkpoint that it was quantized from.");
        }
    }

    /// <summary>What tells whether a file was made from these weights: the weight files' place, length, time and headers, and which of their tensors are
    /// quantized, which config.json says.</summary>
    private static string Hash(Checkpoint checkpoint, WeightPrecision precision, IEnumerable<CheckpointTensor> weights)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Add($"{Version} {precision} {BlockSize}");
        foreach (SafetensorsFile file in checkpoint.Files)
        {
            FileInfo real = new(RealPath.Of(file.Source));
            Add(string.Create(CultureInfo.InvariantCulture, $"{real.FullName} {real.Length} {real.LastWriteTimeUtc.Ticks}"));
            hash.AppendData(file.Header.Span);
        }

        foreach (CheckpointTensor weight in weights)
        {
            Add(string.Create(CultureInfo.InvariantCulture, $"{weight.Entry.Name} {string.Join(" ", weight.Entry.Shape)}"));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset().AsSpan(0, 16));

        void Add(string text) => hash.AppendData(Encoding.UTF8.GetBytes(text + "\n"));
    }

    /// <summary>Which 4 bits.</summary>
    internal sealed record Format(FourBitType Type, bool IsDouble)
    {
        public WeightPrecision Precision => (Type, IsDouble) switch
        {
            (FourBitType.Nf4, false) => WeightPrecision.Nf4,
            (FourBitType.Nf4, true) => WeightPrecision.Nf4Double,
            (_, false) => WeightPrecision.Fp4,
            _ => WeightPrecision.Fp4Double,
        };

        public static Format? Of(WeightPrecision precision) => precision switch
        {
            WeightPrecision.Nf4 => new Format(FourBitType.Nf4, false),
            WeightPrecision.Nf4Double => new Format(FourBitType.Nf4, true),
            WeightPrecision.Fp4 => new Format(FourBitType.Fp4, false),
            WeightPrecision.Fp4Double => new Format(FourBitType.Fp4, true),
            _ => null,
        };
    }

    /// <summary>One weight, quantized when its first part is written and forgotten after its last.</summary>
    private sealed class Quantized(CheckpointTensor weight, Format format, TensorRows source, ParallelOptions parallel)
    {
        private byte[] _codes = [];
        private float[] _absmax = [];
        private NestedCodes? _nested;

        public IEnumerable<SafetensorsWriter.Item> Items()
        {
            string name = weight.Entry.Name;
            long blocks = weight.Entry.Count / BlockSize;
            yield return new(name, TensorType.UInt8, [weight.Entry.Count / 2, 1], stream =>
            {
                Quantize();
                stream.Write(_codes);
                _codes = [];
            });
            yield return new(FourBitStorage.StateName(name, format.Type), TensorType.UInt8, [StateBytes], stream => stream.Write(State()));
            yield return Floats($"{name}.quant_map", 16, () => FourBitCode.Levels(format.Type).ToArray());
            if (!format.IsDouble)
            {
                yield return Last(Floats($"{name}.absmax", blocks, () => _absmax));
                yield break;
            }

            yield return Floats($"{name}.nested_quant_map", 256, () => NestedCodes.Map.ToArray());
            yield return Floats($"{name}.nested_absmax", (blocks + NestedBlockSize - 1) / NestedBlockSize, () => _nested!.AbsMax);
            yield return Last(new($"{name}.absmax", TensorType.UInt8, [blocks], stream => stream.Write(_nested!.Codes)));
        }

        private SafetensorsWriter.Item Last(SafetensorsWriter.Item item) => item with
        {
            Write = stream =>
            {
                item.Write(stream);
                (_absmax, _nested) = ([], null);
            },
        };

        private static SafetensorsWriter.Item Floats(string name, long count, Func<float[]> values) =>
            new(name, TensorType.Float32, [count], stream => stream.Write(MemoryMarshal.AsBytes<float>(values())));

        private void Quantize()
        {
            (long rows, long columns) = (weight.Entry.Shape[0], weight.Entry.Shape[1]);
            _codes = new byte[weight.Entry.Count / 2];
            _absmax = new float[weight.Entry.Count / BlockSize];

            // Pieces of whole rows that are whole blocks, too.
            long unit = BlockSize / (long)System.Numerics.BigInteger.GreatestCommonDivisor(BlockSize, columns);
            long step = Math.Max(1, PieceNumbers / (unit * columns)) * unit;
            Parallel.For(0, (rows + step - 1) / step, parallel, piece =>
            {
                long first = piece * step;
                int numbers = (int)(Math.Min(step, rows - first) * columns);
                float[] values = new float[numbers];
                source.Read(weight, first, values);
                FiniteNumbers.Require(weight, values);
                int start = (int)(first * columns / BlockSize);
                FourBitCode.Quantize(
                    format.Type, values, _codes.AsSpan(start * (BlockSize / 2), numbers / 2), _absmax.AsSpan(start, numbers / BlockSize));
            });
            _nested = format.IsDouble ? new NestedCodes(_absmax, NestedBlockSize) : null;
        }

        private byte[] State()
        {
            Dictionary<string, object> state = new()
            {
                ["quant_type"] = format.Type == FourBitType.Nf4 ? "nf4" : "fp4",
                ["blocksize"] = BlockSize,
                ["dtype"] = "float32",
                ["shape"] = weight.Entry.Shape,
            };
            if (_nested is not null)
            {
                state["nested_blocksize"] = NestedBlockSize;
                state["nested_dtype"] = "float32";
                state["nested_offset"] = _nested.Offset;
            }

            byte[] padded = new byte[StateBytes];
            padded.AsSpan().Fill((byte)' ');
            JsonSerializer.SerializeToUtf8Bytes(state).CopyTo(padded, 0);
            return padded;
        }
    }
}
