using System.Buffers;
using System.Globalization;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Onnx.Proto;

namespace MLNetLora.Runtime;

/// <summary>
/// A checkpoint's frozen weights in the memory of a device: each is read from its file once, for all sessions that are made of it. Where a graph has a weight
/// in another type of floats than the file, it is rounded to that on the way, so that the device holds it in the type that is computed in and nothing is
/// cast at its uses.
/// </summary>
internal sealed class DeviceWeights : IDisposable
{
    private const int PieceBytes = 1 << 24; // of the file
    private const int Readers = 4;

    private readonly Dictionary<string, CheckpointTensor[]> _files; // by real path, in the order of the tensors' places
    private readonly Dictionary<string, NativeTensor> _views = [];
    private readonly HashSet<string> _read = [];
    private readonly IReadOnlyList<SafetensorsFile> _sources;
    private readonly DeviceTensors _tensors;

    /// <summary>Reads nothing yet.</summary>
    /// <param name="checkpoint">Where the weights are.</param>
    /// <param name="device">Where they go.</param>
    public DeviceWeights(Checkpoint checkpoint, DeviceMemory device)
    {
        _files = checkpoint.Files.ToDictionary(
            file => RealPath.Of(file.Source),
            file => file.Tensors.Values.OrderBy(entry => entry.Offset).Select(entry => new CheckpointTensor(file, entry)).ToArray());
        _sources = checkpoint.Files;
        _tensors = new DeviceTensors(device, "the model's weights");
    }

    /// <summary>The matrices that a model has in the checkpoint's files; what is not on the device yet is read. Vectors are left to the session, which folds
    /// what is made of them alone.</summary>
    /// <param name="artifact">The model.</param>
    /// <param name="given">Names of those that its session is given from elsewhere.</param>
    /// <param name="cancellation">Ends it on the way; what was not read whole is read anew by the next call.</param>
    /// <exception cref="NativeMemoryException">The device has not that much memory.</exception>
    /// <exception cref="CheckpointException">A file cannot be read.</exception>
    public IReadOnlyDictionary<string, NativeTensor> For(ModelArtifact artifact, IReadOnlySet<string>? given = null, CancellationToken cancellation = default)
    {
        List<(string Name, Place Place)> asked = [.. ModelProto.Parser.ParseFrom(artifact.Bytes).Graph.Initializer
            .Where(tensor => tensor.ExternalData.Count > 0 && given?.Contains(tensor.Name) != true && (tensor.Dims.Count == 2 || IsCode(tensor)))
            .Select(tensor => (tensor.Name, Find(tensor, artifact)))];
        Place[] missing = [.. asked.Select(item => item.Place).Where(place => !_read.Contains(place.Key)).DistinctBy(place => place.Key)];
        _tensors.Reserve(missing.Where(place => !_tensors.Has(place.Key))
            .Select(place => new DeviceTensor(place.Key, place.Whole.Entry.Count * Size(place.Stored))));
        Read(missing, cancellation);
        _read.UnionWith(missing.Select(place => place.Key));
        return asked.ToDictionary(item => item.Name, item => View(item.Name, item.Place));
    }

    /// <inheritdoc/>
    public void Dispose() => _tensors.Dispose();

    private NativeTensor View(string name, Place place)
    {
        string key = $"{name}:{place.Type}";
        return _views.TryGetValue(key, out NativeTensor? view)
            ? view
            : _views[key] = _tensors.View(place.Key, place.Type, place.First * Size(place.Stored), place.Shape, place.Bytes);
    }

    private void Read(IEnumerable<Place> places, CancellationToken cancellation)
    {
        (Place Place, long First, int Count)[] pieces = [.. places.SelectMany(place =>
        {
            long all = place.Whole.Entry.Count;
            int count = PieceBytes / Size(place.Source);
            return Enumerable.Range(0, (int)((all + count - 1) / count))
                .Select(i => (place, (long)i * count, (int)Math.Min(count, all - ((long)i * count))));
        })];
        ParallelOptions parallel = new() { MaxDegreeOfParallelism = Readers, CancellationToken = cancellation };
        using TensorRows rows = new(_sources);
        try
        {
            Parallel.ForEach(pieces, parallel, piece => Copy(rows, piece.Place, piece.First, piece.Count));
        }
        catch (AggregateException e) when (e.Flatten().InnerExceptions.OfType<MLNetLoraException>().FirstOrDefault() is { } cause)
        {
            throw cause;
        }
    }

    private void Copy(TensorRows rows, Place place, long first, int count)
    {
        (int source, int stored) = (Size(place.Source), Size(place.Stored));
        byte[] bytes = ArrayPool<byte>.Shared.Rent(count * source);
        try
        {
            Span<byte> piece = bytes.AsSpan(0, count * source);
            rows.ReadBytes(place.Whole, first * source, piece);
            if (place.Source == place.Stored)
            {
                _tensors.Write(place.Key, first * stored, piece);
                return;
            }

            float[] floats = new float[count];
            FloatConversion.ToFloat32(piece, place.Whole.Entry.Type, floats, place.Whole.Entry.Name);
            _tensors.Write(place.Key, first * stored, FloatConversion.FromFloat32(floats, FileType(place.Stored)));
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(bytes);
        }
    }

    /// <summary>Where an initializer comes from: a tensor of a file, or some rows of one.</summary>
    private Place Find(TensorProto tensor, ModelArtifact artifact)
    {
        string path = Path.GetFullPath(Path.Combine(artifact.WeightsFolder!, Field("location")));
        long offset = long.Parse(Field("offset"), CultureInfo.InvariantCulture);
        CheckpointTensor whole = _files[path].Last(candidate => candidate.Entry.Offset <= offset);
        ElementType source = whole.Entry.Type switch
        {
            TensorType.Float16 => ElementType.Float16,
            TensorType.BFloat16 => ElementType.BFloat16,
            TensorType.UInt8 => ElementType.UInt8,
            TensorType.Float32 => ElementType.Float32,
            _ => throw new InvalidOperationException($"{whole.Entry.Name} is of the type {whole.Entry.TypeName}, which no graph reads."),
        };

        // Codes are also read two bytes at a time.
        ElementType type = (ElementType)tensor.DataType;
        Place place = new(whole, source, source == ElementType.UInt8 ? source : type, type, [.. tensor.Dims], (offset - whole.Entry.Offset) / Size(source));
        return place.First * Size(place.Stored) + place.Bytes <= whole.Entry.Count * Size(place.Stored)
            ? place
            : throw new InvalidOperationException($"{tensor.Name} is more than the tensor {whole.Entry.Name}.");

        string Field(string key) => tensor.ExternalData.Single(entry => entry.Key == key).Value;
    }

    private static bool IsCode(TensorProto tensor) => (ElementType)tensor.DataType is ElementType.UInt8 or ElementType.UInt16;

    private static int Size(ElementType type) => type switch
    {
        ElementType.Float32 => 4,
        ElementType.Float16 or ElementType.BFloat16 or ElementType.UInt16 => 2,
        ElementType.UInt8 => 1,
        _ => throw new InvalidOperationException($"No weight is of the type {type}."),
    };

    private static TensorType FileType(ElementType type) => type switch
    {
        ElementType.Float16 => TensorType.Float16,
        ElementType.BFloat16 => TensorType.BFloat16,
        _ => TensorType.Float32,
    };

    /// <summary>An initializer.</summary>
    /// <param name="Whole">The tensor of the file.</param>
    /// <param name="Source">Its type there.</param>
    /// <param name="Stored">Its type on the device.</param>
    /// <param name="Type">The type that the graph reads it in.</param>
    /// <param name="Shape">Shape of the initializer.</param>
    /// <param name="First">With which element of the tensor it begins.</param>
    private sealed record Place(CheckpointTensor Whole, ElementType Source, ElementType Stored, ElementType Type, long[] Shape, long First)
    {
        public string Key => $"{Whole.File.Source}:{Whole.Entry.Name}:{Stored}";

        public long Bytes => Shape.Aggregate((long)Size(Type), (product, size) => checked(product * size));
    }
}
