using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;

namespace MLNetLora.Checkpoints;

/// <summary>Element types that the safetensors format names and this library reads.</summary>
internal enum TensorType
{
    /// <summary>32-bit float, "F32".</summary>
    Float32,

    /// <summary>IEEE 16-bit float, "F16".</summary>
    Float16,

    /// <summary>Brain float, "BF16".</summary>
    BFloat16,

    /// <summary>64-bit float, "F64": adapters are read from it, rounded to 32 bits.</summary>
    Float64,

    /// <summary>Unsigned byte, "U8": parts of quantized weights.</summary>
    UInt8,

    /// <summary>4-bit codes, two to a byte of "U8"; what they stand for is in the tensor's <see cref="FourBitStorage"/>.</summary>
    FourBit,

    /// <summary>Any other type of the format; listed, not read.</summary>
    Other,
}

/// <summary>One tensor of a safetensors file: where its bytes lie.</summary>
/// <param name="Name">Name of the tensor.</param>
/// <param name="Type">Element type.</param>
/// <param name="TypeName">Element type as the file names it.</param>
/// <param name="Shape">Sizes of its axes.</param>
/// <param name="Offset">First byte, counted from the start of the file.</param>
/// <param name="Length">Number of bytes.</param>
internal sealed record TensorEntry(string Name, TensorType Type, string TypeName, IReadOnlyList<long> Shape, long Offset, long Length)
{
    /// <summary>Number of elements.</summary>
    public long Count => Shape.Aggregate(1L, (product, size) => product * size);
}

/// <summary>
/// The header of a .safetensors file, checked before anything is believed: header size, JSON, types, shapes, offsets, and that the tensors
/// fill the file without gaps or overlaps. Format: github.com/huggingface/safetensors, "Format". Tensor bytes stay where they are.
/// </summary>
internal sealed class SafetensorsFile
{
    private const long MaximumHeader = 100_000_000; // the limit of the reference implementation
    private const int Piece = 1 << 20; // elements read at once

    private readonly Dictionary<string, TensorEntry> _tensors;

    private SafetensorsFile(string source, Dictionary<string, TensorEntry> tensors, IReadOnlyDictionary<string, string> metadata, byte[] header)
    {
        Source = source;
        _tensors = tensors;
        Metadata = metadata;
        Header = header;
    }

    /// <summary>The file, or what the bytes were said to be.</summary>
    public string Source { get; }

    /// <summary>Tensors by name.</summary>
    public IReadOnlyDictionary<string, TensorEntry> Tensors => _tensors;

    /// <summary>The strings under __metadata__.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>The header as it stands in the file; two files with the same header hold the same tensors by name, type, shape and place.</summary>
    public ReadOnlyMemory<byte> Header { get; }

    /// <summary>Reads the header of a file.</summary>
    /// <exception cref="CheckpointException">The file is missing, truncated, or its header is wrong.</exception>
    public static SafetensorsFile Open(string path)
    {
        if (NotSafetensors.Of(path) is { } what)
        {
            throw new CheckpointException($"{path} {what}");
        }

        try
        {
            using FileStream stream = File.OpenRead(path);
            return Read(stream, path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException($"{path} cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Reads the header from a stream that holds one whole file and says how long it is.</summary>
    /// <param name="stream">The bytes.</param>
    /// <param name="source">What error messages call it.</param>
    /// <exception cref="CheckpointException">The bytes are truncated or the header is wrong.</exception>
    public static SafetensorsFile Read(Stream stream, string source) => Read(stream, stream.Length, source);

    /// <summary>Reads the header from a stream that holds one whole file, and leaves it at the first tensor; the stream need not know its length or
    /// go back.</summary>
    /// <param name="stream">The bytes.</param>
    /// <param name="fileLength">How many they are.</param>
    /// <param name="source">What error messages call it.</param>
    /// <exception cref="CheckpointException">The bytes are truncated or the header is wrong.</exception>
    public static SafetensorsFile Read(Stream stream, long fileLength, string source)
    {
        Span<byte> prefix = stackalloc byte[8];
        if (fileLength < 8 || stream.ReadAtLeast(prefix, 8, throwOnEndOfStream: false) < 8)
        {
            throw Bad(source, $"is only {fileLength} bytes long, less than a safetensors header; download or copy it again");
        }

        ulong announced = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        if (announced > MaximumHeader || (long)announced > fileLength - 8)
        {
            throw Bad(source, $"announces a header of {announced} bytes in a file of {fileLength} bytes; it is truncated or not a safetensors file");
        }

        byte[] header = new byte[(int)announced];
        if (stream.ReadAtLeast(header, header.Length, throwOnEndOfStream: false) < header.Length)
        {
            throw Bad(source, "ends within its header; download or copy it again");
        }

        try
        {
            using JsonDocument json = JsonDocument.Parse(header, new JsonDocumentOptions { MaxDepth = 16 });
            return Parse(json.RootElement, source, fileLength, header);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            // InvalidOperationException: a name or type that is not UTF-8.
            throw Bad(source, $"has a header that is not JSON ({e.Message})", e);
        }
    }

    /// <summary>Reads a tensor into memory as float32; 16-bit types are upcast exactly.</summary>
    /// <param name="entry">A tensor of this file.</param>
    public float[] ReadFloat32(TensorEntry entry)
    {
        float[] values = new float[entry.Count];
        ReadFloat32(entry, values);
        return values;
    }

    /// <summary>Reads a tensor as float32 to where it is wanted, piece by piece.</summary>
    /// <param name="entry">A tensor of this file.</param>
    /// <param name="values">Receives all its elements.</param>
    public void ReadFloat32(TensorEntry entry, Span<float> values)
    {
        using FileStream stream = new(Source, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        stream.Position = entry.Offset;
        ReadNextFloat32(stream, entry, values);
    }

    /// <summary>Reads a tensor as float32 from a stream that holds this file.</summary>
    public float[] ReadFloat32(Stream stream, TensorEntry entry)
    {
        float[] values = new float[entry.Count];
        stream.Position = entry.Offset;
        ReadNextFloat32(stream, entry, values);
        return values;
    }

    /// <summary>Reads a tensor as float32 from a stream of this file that stands at its first byte, piece by piece.</summary>
    internal void ReadNextFloat32(Stream stream, TensorEntry entry, Span<float> values)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(values.Length, entry.Count);
        string what = $"{Source}: {entry.Name} ({entry.TypeName})";
        int size = values.Length == 0 ? 1 : (int)(entry.Length / values.Length);
        byte[] bytes = new byte[Math.Min(Piece, values.Length) * size];
        try
        {
            for (int at = 0; at < values.Length; at += Piece)
            {
                Span<float> part = values[at..Math.Min(values.Length, at + Piece)];
                Span<byte> read = bytes.AsSpan(0, part.Length * size);
                stream.ReadExactly(read);
                FloatConversion.ToFloat32(read, entry.Type, part, what);
            }
        }
        catch (EndOfStreamException e)
        {
            throw Bad(Source, $"ends within the tensor '{entry.Name}'; download or copy it again", e);
        }
    }

    private static SafetensorsFile Parse(JsonElement root, string source, long fileLength, byte[] header)
    {
        if (root.ValueKind != JsonValueKind.Object)
        {
            throw Bad(source, "has a header that is not a JSON object");
        }

        long start = 8 + header.Length;
        Dictionary<string, TensorEntry> tensors = [];
        Dictionary<string, string> metadata = [];
        foreach (JsonProperty property in root.EnumerateObject())
        {
            if (property.Name == "__metadata__")
            {
                if (property.Value.ValueKind == JsonValueKind.Object)
                {
                    foreach (JsonProperty item in property.Value.EnumerateObject().Where(item => item.Value.ValueKind == JsonValueKind.String))
                    {
                        metadata[item.Name] = item.Value.GetString()!;
                    }
                }

                continue;
            }

            if (!tensors.TryAdd(property.Name, Entry(property, source, start, fileLength)))
            {
                throw Bad(source, $"lists the tensor '{property.Name}' twice");
            }
        }

        long expected = start;
        foreach (TensorEntry entry in tensors.Values.OrderBy(entry => entry.Offset).ThenBy(entry => entry.Length))
        {
            if (entry.Offset != expected)
            {
                throw Bad(source, $"has a gap or an overlap before the tensor '{entry.Name}': it starts at byte {entry.Offset}, {expected} was expected");
            }

            expected += entry.Length;
        }

        return expected == fileLength
            ? new SafetensorsFile(source, tensors, metadata, header)
            : throw Bad(source, $"should be {expected} bytes long by its header, but is {fileLength}; download or copy it again");
    }

    private static TensorEntry Entry(JsonProperty property, string source, long start, long fileLength)
    {
        string name = property.Name;
        if (property.Value.ValueKind != JsonValueKind.Object
            || !property.Value.TryGetProperty("dtype", out JsonElement dtype) || dtype.ValueKind != JsonValueKind.String
            || !property.Value.TryGetProperty("shape", out JsonElement shape) || shape.ValueKind != JsonValueKind.Array
            || !property.Value.TryGetProperty("data_offsets", out JsonElement offsets) || offsets.ValueKind != JsonValueKind.Array
            || offsets.GetArrayLength() != 2
            || !offsets[0].TryGetInt64(out long begin) || !offsets[1].TryGetInt64(out long end))
        {
            throw Bad(source, $"describes the tensor '{name}' without a proper dtype, shape and data_offsets");
        }

        string typeName = dtype.GetString()!;
        int size = typeName switch
        {
            "F64" or "I64" or "U64" => 8,
            "F32" or "I32" or "U32" => 4,
            "F16" or "BF16" or "I16" or "U16" => 2,
            "I8" or "U8" or "BOOL" or "F8_E4M3" or "F8_E5M2" => 1,
            _ => throw Bad(source, $"gives the tensor '{name}' the type '{typeName}', which this library does not know"),
        };
        List<long> sizes = [];
        long bytes = size;
        foreach (JsonElement axis in shape.EnumerateArray())
        {
            if (!axis.TryGetInt64(out long length) || length < 0 || (length > 0 && bytes > long.MaxValue / length))
            {
                throw Bad(source, $"gives the tensor '{name}' an impossible shape");
            }

            sizes.Add(length);
            bytes *= length;
        }

        if (begin < 0 || end < begin || end > fileLength - start)
        {
            throw Bad(source,
                $"places the tensor '{name}' at bytes {begin} to {end} of {Math.Max(0, fileLength - start)}; the file is truncated or its header is wrong");
        }

        if (end - begin != bytes)
        {
            throw Bad(source, $"gives the tensor '{name}' {end - begin} bytes, but [{string.Join(", ", sizes)}] of {typeName} needs {bytes}");
        }

        TensorType type = typeName switch
        {
            "F32" => TensorType.Float32,
            "F16" => TensorType.Float16,
            "BF16" => TensorType.BFloat16,
            "F64" => TensorType.Float64,
            "U8" => TensorType.UInt8,
            _ => TensorType.Other,
        };
        return new TensorEntry(name, type, typeName, sizes, start + begin, bytes);
    }

    private static CheckpointException Bad(string source, string what, Exception? inner = null) => new($"{source} {what}.", inner);
}

/// <summary>Writes .safetensors files: to a temporary name first, renamed when whole.</summary>
internal static class SafetensorsWriter
{
    /// <summary>What to write under one name.</summary>
    /// <param name="Name">Tensor name.</param>
    /// <param name="Type">Element type.</param>
    /// <param name="Shape">Sizes of the axes.</param>
    /// <param name="Write">Writes exactly the tensor's bytes, little-endian, to the stream.</param>
    public sealed record Item(string Name, TensorType Type, IReadOnlyList<long> Shape, Action<Stream> Write)
    {
        /// <summary>The tensor that it is a copy of; null for others.</summary>
        private TensorEntry? Original { get; init; }

        /// <summary>Type in the header.</summary>
        internal string TypeName => Original?.TypeName ?? Type switch
        {
            TensorType.Float32 => "F32",
            TensorType.Float16 => "F16",
            TensorType.BFloat16 => "BF16",
            TensorType.UInt8 => "U8",
            _ => throw new ArgumentException($"{Name} has a type that cannot be written."),
        };

        internal long Length => Original?.Length
            ?? Shape.Aggregate(Type switch { TensorType.Float32 => 4L, TensorType.UInt8 => 1L, _ => 2L }, (product, size) => product * size);

        /// <summary>An item from float32 values in memory, rounded to the type.</summary>
        public static Item From(string name, TensorType type, IReadOnlyList<long> shape, ReadOnlyMemory<float> values) =>
            new(name, type, shape, stream => SafetensorsWriter.Write(stream, values.Span, type));

        /// <summary>A tensor under the header that it has already, whatever its type.</summary>
        public static Item AsIs(TensorEntry entry, Action<Stream> write) => new(entry.Name, entry.Type, entry.Shape, write) { Original = entry };

        /// <summary>A tensor of another file as it is, whatever its type; reading it fails with a <see cref="CheckpointException"/>.</summary>
        public static Item Copy(CheckpointTensor tensor) => new(tensor.Entry.Name, tensor.Entry.Type, tensor.Entry.Shape, stream =>
        {
            using TensorRows source = new([tensor.File]);
            byte[] block = new byte[1 << 20];
            for (long done = 0; done < tensor.Entry.Length;)
            {
                Span<byte> part = block.AsSpan(0, (int)Math.Min(block.Length, tensor.Entry.Length - done));
                source.ReadBytes(tensor, done, part);
                stream.Write(part);
                done += part.Length;
            }
        })
        {
            Original = tensor.Entry,
        };
    }

    /// <summary>Writes numbers, rounded to a type, piece by piece.</summary>
    internal static void Write(Stream stream, ReadOnlySpan<float> values, TensorType type)
    {
        const int piece = 1 << 20;
        for (int at = 0; at < values.Length; at += piece)
        {
            ReadOnlySpan<float> part = values[at..Math.Min(values.Length, at + piece)];
            stream.Write(type == TensorType.Float32 ? MemoryMarshal.AsBytes(part) : FloatConversion.FromFloat32(part, type));
        }
    }

    /// <summary>Writes a file with the metadata {"format": "pt"} that transformers and PEFT ask for.</summary>
    public static void Write(string path, IReadOnlyList<Item> items) => AtomicFile.Write(path, stream => Write(stream, items));

    /// <summary>Writes the bytes of a file to a stream.</summary>
    public static void Write(Stream stream, IReadOnlyList<Item> items)
    {
        byte[] header = Header(items);
        Span<byte> prefix = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(prefix, (ulong)header.Length);
        stream.Write(prefix);
        stream.Write(header);
        foreach (Item item in items)
        {
            item.Write(stream);
        }
    }

    /// <summary>How many bytes <see cref="Write(Stream, IReadOnlyList{Item})"/> writes.</summary>
    internal static long Length(IReadOnlyList<Item> items) => 8 + Header(items).Length + items.Sum(item => item.Length);

    private static byte[] Header(IReadOnlyList<Item> items)
    {
        using MemoryStream json = new();
        using (Utf8JsonWriter writer = new(json))
        {
            writer.WriteStartObject();
            writer.WriteStartObject("__metadata__");
            writer.WriteString("format", "pt");
            writer.WriteEndObject();
            long offset = 0;
            foreach (Item item in items)
            {
                writer.WriteStartObject(item.Name);
                writer.WriteString("dtype", item.TypeName);
                writer.WriteStartArray("shape");
                foreach (long size in item.Shape)
                {
                    writer.WriteNumberValue(size);
                }

                writer.WriteEndArray();
                writer.WriteStartArray("data_offsets");
                writer.WriteNumberValue(offset);
                writer.WriteNumberValue(offset += item.Length);
                writer.WriteEndArray();
                writer.WriteEndObject();
            }

            writer.WriteEndObject();
        }

        // Spaces up to a multiple of 8, so that the tensors are aligned when the file is mapped.
        return [.. json.ToArray(), .. Enumerable.Repeat((byte)' ', (int)((8 - (json.Length % 8)) % 8))];
    }
}
