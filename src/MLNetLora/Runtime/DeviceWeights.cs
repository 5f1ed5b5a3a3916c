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
    private const long LongVector = 1 << 16; // the absolute maxima of 4-bit blocks, and no norm or bias

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
        // Two names may lead to one file; a tensor of no size may stand where another begins.
        _files = checkpoint.Files.DistinctBy(file => RealPath.Of(file.Source)).ToDictionary(
            file => RealPath.Of(file.Source),
            file => file.Tensors.Values.Where(entry => entry.Length > 0).OrderBy(entry => entry.Offset)
                .Select(entry => new CheckpointTensor(file, entry)).ToArray());
        _sources = checkpoint.Files;
        _tensors = new DeviceTensors(device, "the model's weights");
    }

    /// <summary>The matrices that a model has in the checkpoint's files; what is not on the device yet is read. Vectors of a layer are left to the session,
    /// which folds what is made of them alone.</summary>
    /// <param name="artifact">The model.</param>
    /// <param name="given">Names of those that its session is given from elsewhere.</param>
    /// <param name="cancellation">Ends it on the way; what was not read whole is read anew by the next call.</param>
    /// <exception cref="NativeMemoryException">The device has not that much memory.</exception>
    /// <exception cref="CheckpointException">A file cannot be read.</exception>
    public IReadOnlyDictionary<string, NativeTensor> For(ModelArtifact artifact, IReadOnlySet<string>? given = null, CancellationToken cancellation = default)
    {
        List<(string Name, Place Place)> asked = [.. ModelProto.Parser.ParseFrom(artifact.Bytes).Graph.Initializer
            .Where(tensor => tensor.ExternalData.Count > 0 && given?.Contains(tensor.Name) != true
                && (tensor.Dims.Count == 2 || IsCode(tensor) || IsLong(tensor) || artifact.Stacks.ContainsKey(tensor.Name)))
            .Select(tensor => (tensor.Name, Find(tensor, artifact)))];
        Place[] missing = [.. asked.Select(item => item.Place).Where(place => !_read.Contains(place.Key)).DistinctBy(place => place.Key)];
        _tensors.Reserve(missing.Where(place => !_tensors.Has(place.Key))
            .Select(place => new DeviceTensor(place.Key, place.Count * Size(place.Stored))));
        Read(missing, cancellation);
        _read.UnionWith(missing.Select(place => place.Key));
        return asked.ToDictionary(item => item.Name, item => View(item.Name, item.Place));
    }

    /// <inheritdoc/>
    public void Dispose() => _tensors.Dispose();

    private NativeTensor View(string name, Place place)
    {
        string key = $"{name}:{place.Type}:{place.First}:{string.Join(',', place.Shape)}";
        return _views.TryGetValue(key, out NativeTensor? view)
            ? view
            : _views[key] = _tensors.View(place.Key, place.Type, place.First * Size(place.Stored), place.Shape, place.Bytes);
    }

    private void Read(IEnumerable<Place> places, CancellationToken cancellation)
    {
        Piece[] pieces = [.. places.SelectMany(Pieces)];
        ParallelOptions parallel = new() { MaxDegreeOfParallelism = Readers, CancellationToken = cancellation };
        using TensorRows rows = new(_sources);
        try
        {
            Parallel.ForEach(pieces, parallel, piece => Copy(rows, piece));
        }
        catch (AggregateException e) when (e.Flatten().InnerExceptions.OfType<MLNetLoraException>().FirstOrDefault() is { } cause)
        {
            throw cause;
        }
    }

    private static IEnumerable<Piece> Pieces(Place place)
    {
        long before = 0; // of the tensors that stand before it in the place
        foreach (CheckpointTensor tensor in place.Whole)
        {
            int most = PieceBytes / Size(Type(tensor));
            for (long first = 0; first < tensor.Entry.Count; first += most)
            {
                yield return new Piece(tensor, first, (int)Math.Min(most, tensor.Entry.Count - first), place, before + first);
            }

            before += tensor.Entry.Count;
        }
    }

    private void Copy(TensorRows rows, Piece piece)
    {
        (TensorEntry entry, ElementType held) = (piece.Tensor.Entry, piece.Place.Stored);
        (int source, int stored) = (Size(Type(piece.Tensor)), Size(held));
        byte[] bytes = ArrayPool<byte>.Shared.Rent(piece.Count * source);
        try
        {
            Span<byte> read = bytes.AsSpan(0, piece.Count * source);
            rows.ReadBytes(piece.Tensor, piece.First * source, read);
            if (Type(piece.Tensor) == held)
            {
                _tensors.Write(piece.Place.Key, piece.At * stored, read);
                return;
            }

            float[] floats = new float[piece.Count];
            FloatConversion.ToFloat32(read, entry.Type, floats, entry.Name);
            _tensors.Write(piece.Place.Key, piece.At * stored, FloatConversion.FromFloat32(floats, FileType(held)));
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(bytes);
        }
    }

    /// <summary>Where an initializer comes from: a tensor of a file, some rows of one, or several one after another.</summary>
    private Place Find(TensorProto tensor, ModelArtifact artifact)
    {
        ElementType type = (ElementType)tensor.DataType;
        if (artifact.Stacks.TryGetValue(tensor.Name, out IReadOnlyList<CheckpointTensor>? stack))
        {
            return new Place(stack, type, type, [.. tensor.Dims], 0);
        }

        string path = Path.GetFullPath(Path.Combine(artifact.WeightsFolder!, Field("location")));
        long offset = long.Parse(Field("offset"), CultureInfo.InvariantCulture);
        CheckpointTensor whole = _files[path].Last(candidate => candidate.Entry.Offset <= offset);
        ElementType source = Type(whole);

        // Codes are also read two bytes at a time.
        Place place = new([whole], source == ElementType.UInt8 ? source : type, type, [.. tensor.Dims], (offset - whole.Entry.Offset) / Size(source));
        return place.First * Size(place.Stored) + place.Bytes <= whole.Entry.Count * Size(place.Stored)
            ? place
            : throw new InvalidOperationException($"{tensor.Name} is more than the tensor {whole.Entry.Name}.");

        string Field(string key) => tensor.ExternalData.Single(entry => entry.Key == key).Value;
    }

    private static ElementType Type(CheckpointTensor tensor) => tensor.Entry.Type switch
    {
        TensorType.Float16 => ElementType.Float16,
        TensorType.BFloat16 => ElementType.BFloat16,
        TensorType.UInt8 => ElementType.UInt8,
        TensorType.Float32 => ElementType.Float32,
        _ => throw new InvalidOperationException($"{tensor.Entry.Name} is of the type {tensor.Entry.TypeName}, which no graph reads."),
    };

    private static bool IsLong(TensorProto tensor) => tensor.Dims.Aggregate(1L, (count, size) => count * size) >= LongVector;

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
    /// <param name="Whole">The tensors of the files, which stand on the device one after another.</param>
    /// <param name="Stored">Their type there.</param>
    /// <param name="Type">The type that the graph reads it in.</param>
    /// <param name="Shape">Shape of the initializer.</param>
    /// <param name="First">With which element of them it begins.</param>
    private sealed record Place(IReadOnlyList<CheckpointTensor> Whole, ElementType Stored, ElementType Type, long[] Shape, long First)
    {
        public string Key => $"{Whole[0].File.Source}:{Whole[0].Entry.Name}:{Whole.Count}:{Stored}";

        public long Count => Whole.Sum(tensor => tensor.Entry.Count);

        public long Bytes => Shape.Aggregate((long)Size(Type), (product, size) => checked(product * size));
    }

    /// <summary>Some numbers of a tensor.</summary>
    /// <param name="Tensor">The tensor.</param>
    /// <param name="First">The first of them.</param>
    /// <param name="Count">How many.</param>
    /// <param name="Place">Where they go.</param>
    /// <param name="At">With which element of the place they begin.</param>
    private sealed record Piece(CheckpointTensor Tensor, long First, int Count, Place Place, long At);
}
