using MLNetLora.Checkpoints;

namespace MLNetLora.Models;

/// <summary>
/// A Hugging Face checkpoint folder: config.json and safetensors in one file or in shards with model.safetensors.index.json.
/// Opening it reads headers only and checks that every tensor of the architecture is there with the right shape and a float type.
/// </summary>
public sealed class Checkpoint
{
    private readonly Dictionary<string, CheckpointTensor> _tensors;
    private readonly Dictionary<string, Stamp> _stamps;
    private readonly SafetensorsFile? _fourBit; // of WithFourBit

    private Checkpoint(
        string folder,
        QwenConfig config,
        Architecture architecture,
        List<SafetensorsFile> files,
        Dictionary<string, CheckpointTensor> tensors,
        IReadOnlyList<CheckpointTensor> beside,
        SafetensorsFile? fourBit = null)
    {
        Beside = beside;
        _fourBit = fourBit;
        Folder = folder;
        Config = config;
        Architecture = architecture;
        Files = files;
        _tensors = tensors;
        _stamps = files.ToDictionary(file => file.Source, file => Stamp.Of(file.Source));
    }

    /// <summary>The folder, absolute.</summary>
    public string Folder { get; }

    /// <summary>What config.json says.</summary>
    internal QwenConfig Config { get; }

    /// <summary>The safetensors files, in the order of their names.</summary>
    internal IReadOnlyList<SafetensorsFile> Files { get; }

    /// <summary>The tensors of the architecture by name; extra ones in the files are left out.</summary>
    internal IReadOnlyDictionary<string, CheckpointTensor> Tensors => _tensors;

    /// <summary>Number of parameters of the base model, tied ones counted once; those of a part that text never touches, such as a vision tower, with
    /// them.</summary>
    public long ParameterCount => TextParameterCount
        + Beside.Where(tensor => Architecture.IsBeside(tensor.Entry.Name)).Sum(tensor => tensor.Entry.Count);

    /// <summary>Number of parameters of the architecture, tied ones counted once.</summary>
    internal long TextParameterCount => _tensors.Values.Sum(tensor => tensor.Entry.Count);

    /// <summary>Tensors that are none of the architecture but stay in the checkpoint when all others are trained; of any type.</summary>
    internal IReadOnlyList<CheckpointTensor> Beside { get; }

    internal Architecture Architecture { get; }

    /// <summary>Opens a folder.</summary>
    /// <exception cref="CheckpointException">
    /// A file is missing, truncated or wrong; the architecture is unknown; a tensor is missing or has the wrong shape or type.
    /// </exception>
    public static Checkpoint Open(string folder)
    {
        string full = Path.GetFullPath(folder);
        if (!Directory.Exists(full))
        {
            throw new CheckpointException(
                $"There is no folder '{full}'. Give the folder of a Hugging Face checkpoint: config.json, *.safetensors and tokenizer files.");
        }

        QwenConfig config = QwenConfig.Read(full);
        Architecture architecture = Architecture.Find(config.ModelType, Path.Combine(full, QwenConfig.FileName));
        Dictionary<string, SafetensorsFile> placed = WeightFiles.Locate(full);
        Dictionary<string, CheckpointTensor> tensors = [];
        foreach (TensorSpec spec in architecture.Tensors(config))
        {
            if (!placed.TryGetValue(spec.Name, out SafetensorsFile? file) || !file.Tensors.TryGetValue(spec.Name, out TensorEntry? entry))
            {
                if (InStack(placed, spec) is { } slice)
                {
                    tensors[spec.Name] = slice;
                    continue;
                }

                throw new CheckpointException($"{full} has no tensor '{spec.Name}', which a {config.ModelType} model of this configuration needs.");
            }

            if (spec.Kind is TensorKind.Linear or TensorKind.Head && InFourBits(placed, new CheckpointTensor(file, entry), spec.Shape) is { } quantized)
            {
                tensors[spec.Name] = quantized;
                continue;
            }

            if (spec.Kind == TensorKind.Expert && entry.Type == TensorType.UInt8)
            {
                throw new CheckpointException($"{file.Source}: the expert '{spec.Name}' is quantized ({entry.TypeName}); experts are read in F32, F16 or BF16. "
                    + "Take the checkpoint that it was quantized from.");
            }

            if (!entry.Shape.SequenceEqual(spec.Shape))
            {
                string found = string.Join(", ", entry.Shape);
                throw new CheckpointException(
                    $"{file.Source}: '{spec.Name}' has the shape [{found}], but config.json asks for [{string.Join(", ", spec.Shape)}].");
            }

            if (entry.Type is TensorType.Other or TensorType.UInt8 or TensorType.Float64)
            {
                throw new CheckpointException($"{file.Source}: '{spec.Name}' has the type {entry.TypeName}; F32, F16 or BF16 is needed.");
            }

            tensors[spec.Name] = new CheckpointTensor(file, entry);
        }

        List<SafetensorsFile> files = [.. placed.Values.Distinct().OrderBy(file => file.Source, StringComparer.Ordinal)];
        CheckpointTensor[] beside = [.. placed.Where(tensor => !tensors.ContainsKey(tensor.Key) && architecture.IsKept(tensor.Key))
            .Where(tensor => tensor.Value.Tensors.ContainsKey(tensor.Key))
            .Select(tensor => new CheckpointTensor(tensor.Value, tensor.Value.Tensors[tensor.Key]))];
        return new Checkpoint(full, config, architecture, files, tensors, beside);
    }

    /// <summary>An expert's matrix in a checkpoint that holds those of a layer in one tensor; null where there is none.</summary>
    private static CheckpointTensor? InStack(Dictionary<string, SafetensorsFile> placed, TensorSpec spec)
    {
        if (spec.Stack is not { } stack || !placed.TryGetValue(stack.Name, out SafetensorsFile? file)
            || !file.Tensors.TryGetValue(stack.Name, out TensorEntry? entry))
        {
            return null;
        }

        if (!entry.Shape.SequenceEqual(stack.Shape) || entry.Type is not (TensorType.Float32 or TensorType.Float16 or TensorType.BFloat16))
        {
            throw new CheckpointException($"{file.Source}: '{stack.Name}' has the shape [{string.Join(", ", entry.Shape)}] and the type {entry.TypeName}, but "
                + $"config.json asks for [{string.Join(", ", stack.Shape)}] in F32, F16 or BF16.");
        }

        long size = entry.Length / entry.Count;
        long count = spec.Shape.Aggregate(1L, (product, length) => product * length);
        return new CheckpointTensor(file, new TensorEntry(
            spec.Name, entry.Type, entry.TypeName, spec.Shape, entry.Offset + (stack.First * size), count * size));
    }

    /// <summary>Whether linear layers are in 4 bits already.</summary>
    internal bool IsFourBit => _tensors.Values.Any(tensor => tensor.FourBit is not null);

    /// <summary>The same model with some weights in 4 bits.</summary>
    /// <param name="file">A file that holds them as bitsandbytes stores them; those that it does not hold stay as they are.</param>
    internal Checkpoint WithFourBit(SafetensorsFile file)
    {
        Dictionary<string, SafetensorsFile> placed = file.Tensors.Keys.ToDictionary(name => name, _ => file);
        Dictionary<string, CheckpointTensor> tensors = _tensors.ToDictionary(
            tensor => tensor.Key,
            tensor => file.Tensors.TryGetValue(tensor.Key, out TensorEntry? entry)
                ? InFourBits(placed, new CheckpointTensor(file, entry), tensor.Value.Entry.Shape) ?? tensor.Value
                : tensor.Value);
        return new Checkpoint(Folder, Config, Architecture, [.. tensors.Values.SelectMany(tensor => tensor.Files).Distinct()], tensors, Beside, file);
    }

    /// <summary>The same files read as a model of the first layers alone, with its embedding, last norm and output layer: as large a part of the model as
    /// somebody wants to measure.</summary>
    /// <param name="layers">How many layers.</param>
    internal Checkpoint FirstLayers(int layers)
    {
        QwenConfig config = Config.FirstLayers(layers);
        Dictionary<string, CheckpointTensor> tensors = Architecture.Tensors(config).ToDictionary(spec => spec.Name, spec => _tensors[spec.Name]);
        return new Checkpoint(Folder, config, Architecture, [.. Files], tensors, Beside, _fourBit);
    }

    private static CheckpointTensor? InFourBits(Dictionary<string, SafetensorsFile> placed, CheckpointTensor codes, IReadOnlyList<long> shape) =>
        FourBitStorage.Find(placed, codes.Entry.Name, shape, codes) is { } storage
            ? codes with { Entry = codes.Entry with { Type = TensorType.FourBit, TypeName = $"{storage.Type}", Shape = shape }, FourBit = storage }
            : null;

    /// <summary>
    /// Throws where a weight file was replaced, changed or deleted since the folder was opened. The files stay mapped, so such a call would end the process
    /// or answer nonsense. To take new weights into use, write them to another folder and open that.
    /// The file of 4-bit weights is never changed but for being written anew, with the same numbers: what has it mapped keeps it, also when it is deleted.
    /// </summary>
    /// <param name="areMapped">Whether whoever asks has the files mapped already.</param>
    /// <exception cref="CheckpointException">A file is not the one that was opened.</exception>
    internal void RequireUnchanged(bool areMapped = true)
    {
        foreach ((string path, Stamp opened) in _stamps)
        {
            Stamp now = Stamp.Of(path);
            if (path == _fourBit?.Source)
            {
                if (now.Length != opened.Length && !(areMapped && now == default))
                {
                    throw new CheckpointException($"{path}, which keeps the 4-bit weights of {Folder}, was deleted or cut short before it was read. "
                        + "Start again, which writes it anew.");
                }
            }
            else if (now != opened)
            {
                throw new CheckpointException($"{path} was changed since the checkpoint was opened. Weight files in use must stay as they are: "
                    + "write new ones to another folder, open that, and dispose what uses the old one.");
            }
        }
    }

    /// <summary>What tells a changed file.</summary>
    private readonly record struct Stamp(long Length, DateTime LastWrite)
    {
        public static Stamp Of(string path)
        {
            try
            {
                // The cache of the hub links to its files.
                FileInfo file = new(File.ResolveLinkTarget(path, returnFinalTarget: true)?.FullName ?? path);
                return new Stamp(file.Length, file.LastWriteTimeUtc);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                return default; // gone, or out of reach
            }
        }
    }
}
