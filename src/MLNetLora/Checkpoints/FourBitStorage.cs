using System.Runtime.InteropServices;
using System.Text.Json;

namespace MLNetLora.Checkpoints;

/// <summary>How a weight of 4 bits lies in files, beside its codes: as bitsandbytes stores it, tensor by tensor.</summary>
/// <param name="Type">The number format.</param>
/// <param name="BlockSize">Weights that share an absmax.</param>
/// <param name="AbsMax">[blocks]: float32, or codes of 8 bits where <paramref name="Nested"/> says what they stand for.</param>
/// <param name="Nested">What the absmax is quantized with (double quantization); null where it is not.</param>
internal sealed record FourBitStorage(FourBitType Type, int BlockSize, CheckpointTensor AbsMax, NestedAbsMax? Nested)
{
    private const int MostStateBytes = 1 << 16;
    private const int LargestBlock = 4096;

    /// <summary>
    /// Reads what a checkpoint says of a weight: NAME.quant_state.bitsandbytes__nf4 (or __fp4), JSON of block size, shape and offset; NAME.absmax,
    /// NAME.quant_map and, with double quantization, NAME.nested_absmax and NAME.nested_quant_map.
    /// </summary>
    /// <param name="placed">The file of each tensor.</param>
    /// <param name="name">The weight's name.</param>
    /// <param name="shape">The weight's shape.</param>
    /// <param name="codes">Where its codes lie.</param>
    /// <returns>Null where the weight is not in 4 bits.</returns>
    /// <exception cref="CheckpointException">A part is missing or does not fit.</exception>
    public static FourBitStorage? Find(IReadOnlyDictionary<string, SafetensorsFile> placed, string name, IReadOnlyList<long> shape, CheckpointTensor codes)
    {
        (FourBitType Type, CheckpointTensor State)[] states = [.. new[] { FourBitType.Nf4, FourBitType.Fp4 }
            .Select(type => (type, Tensor(placed, StateName(name, type))))
            .Where(state => state.Item2 is not null)
            .Select(state => (state.type, state.Item2!))];
        if (states.Length == 0)
        {
            return null;
        }

        (FourBitType type, CheckpointTensor stored) = states[0];
        string source = $"{stored.File.Source}: {stored.Entry.Name}";
        Require(stored.Entry.Type == TensorType.UInt8 && stored.Entry.Length <= MostStateBytes, source, "is no short text in bytes");
        Fields state = Parse(stored, source);
        long count = shape.Aggregate(1L, (product, size) => product * size);
        Require(state.Shape.SequenceEqual(shape), source,
            $"says that the weight has the shape [{string.Join(", ", state.Shape)}], but config.json asks for [{string.Join(", ", shape)}]");
        Require(int.IsPow2(state.BlockSize) && state.BlockSize is >= 16 and <= LargestBlock, source,
            $"has blocks of {state.BlockSize}; a power of two from 16 to {LargestBlock} is read");
        Require(count % state.BlockSize == 0, source, $"has blocks of {state.BlockSize}, which do not divide the {count} weights");
        Require(codes.Entry.Type == TensorType.UInt8 && codes.Entry.Length == count / 2, $"{codes.File.Source}: {name}",
            $"has {codes.Entry.Length} bytes of {codes.Entry.TypeName}; 4-bit codes of {count} weights are {count / 2} bytes "
                + "of U8 (bnb_4bit_quant_storage uint8)");
        RequireMap(Part(placed, name, "quant_map", TensorType.Float32, 16), FourBitCode.Levels(type));
        long blocks = count / state.BlockSize;
        if (state.NestedBlockSize is not { } nestedBlock)
        {
            return new FourBitStorage(type, state.BlockSize, Part(placed, name, "absmax", TensorType.Float32, blocks), null);
        }

        Require(int.IsPow2(nestedBlock) && nestedBlock is >= 16 and <= LargestBlock, source,
            $"has nested blocks of {nestedBlock}; a power of two from 16 to {LargestBlock} is read");
        CheckpointTensor absmax = Part(placed, name, "absmax", TensorType.UInt8, blocks);
        CheckpointTensor nested = Part(placed, name, "nested_absmax", TensorType.Float32, (blocks + nestedBlock - 1) / nestedBlock);
        float[] map = Part(placed, name, "nested_quant_map", TensorType.Float32, 256).ReadFloat32();
        return new FourBitStorage(type, state.BlockSize, absmax, new NestedAbsMax(nested, map, nestedBlock, state.NestedOffset));
    }

    /// <summary>The name of the tensor that holds a weight's state.</summary>
    public static string StateName(string name, FourBitType type) => $"{name}.quant_state.bitsandbytes__{(type == FourBitType.Nf4 ? "nf4" : "fp4")}";

    private static CheckpointTensor? Tensor(IReadOnlyDictionary<string, SafetensorsFile> placed, string name) =>
        placed.TryGetValue(name, out SafetensorsFile? file) && file.Tensors.TryGetValue(name, out TensorEntry? entry)
            ? new CheckpointTensor(file, entry) : null;

    private static CheckpointTensor Part(IReadOnlyDictionary<string, SafetensorsFile> placed, string name, string part, TensorType type, long count)
    {
        CheckpointTensor tensor = Tensor(placed, $"{name}.{part}")
            ?? throw new CheckpointException($"The checkpoint has '{name}' in 4 bits, but no '{name}.{part}'; download it whole.");
        Require(tensor.Entry.Type == type && tensor.Entry.Count == count, $"{tensor.File.Source}: {tensor.Entry.Name}",
            $"has {tensor.Entry.Count} numbers of {tensor.Entry.TypeName}; {count} of {(type == TensorType.UInt8 ? "U8" : "F32")} belong there");
        return tensor;
    }

    private static void RequireMap(CheckpointTensor tensor, ReadOnlySpan<float> levels)
    {
        float[] map = tensor.ReadFloat32();
        for (int i = 0; i < map.Length; i++)
        {
            Require(Math.Abs(map[i] - levels[i]) <= 1e-6, $"{tensor.File.Source}: {tensor.Entry.Name}", "holds other levels than those of the format");
        }
    }

    private static Fields Parse(CheckpointTensor state, string source)
    {
        byte[] bytes = new byte[state.Entry.Length];
        try
        {
            using FileStream stream = File.OpenRead(state.File.Source);
            stream.Position = state.Entry.Offset;
            stream.ReadExactly(bytes);
            using JsonDocument json = JsonDocument.Parse(bytes);
            JsonElement root = json.RootElement;
            return new Fields(
                [.. root.GetProperty("shape").EnumerateArray().Select(size => size.GetInt64())],
                root.GetProperty("blocksize").GetInt32(),
                root.TryGetProperty("nested_blocksize", out JsonElement block) ? block.GetInt32() : null,
                root.TryGetProperty("nested_offset", out JsonElement offset) ? offset.GetSingle() : 0f);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException or KeyNotFoundException or IOException)
        {
            throw new CheckpointException($"{source} is not the JSON that bitsandbytes writes: {e.Message}", e);
        }
    }

    private static void Require(bool condition, string source, string what)
    {
        if (!condition)
        {
            throw new CheckpointException($"{source} {what}. Take the checkpoint from its source again, or the one that it was quantized from.");
        }
    }

    private sealed record Fields(IReadOnlyList<long> Shape, int BlockSize, int? NestedBlockSize, float NestedOffset);
}

/// <summary>Double quantization: absmax = map[code] · nested absmax of its block + offset.</summary>
/// <param name="AbsMax">[⌈blocks / nested block⌉], float32.</param>
/// <param name="Map">What the 256 codes stand for.</param>
/// <param name="BlockSize">Absmax values that share a nested one.</param>
/// <param name="Offset">The mean, which was subtracted before.</param>
internal sealed record NestedAbsMax(CheckpointTensor AbsMax, float[] Map, int BlockSize, float Offset);
