using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.Adapters;

/// <summary>The two factors of one adapted layer.</summary>
/// <param name="Module">The layer, its rank and its scaling.</param>
/// <param name="A">[rank, in], row by row.</param>
/// <param name="B">[out, rank], row by row.</param>
internal sealed record LoraFactors(LoraModule Module, float[] A, float[] B);

/// <summary>A LoRA adapter for one base model: its options and its factors in float32. Immutable.</summary>
public sealed class LoraAdapter
{
    internal const string ConfigName = "adapter_config.json";
    internal const string WeightsName = "adapter_model.safetensors";
    private const int MaximumConfigBytes = 32 << 20; // one that names each layer of a model with experts has some MB

    private readonly LoraOptions _options;

    internal LoraAdapter(LoraOptions options, string baseModel, IReadOnlyList<LoraFactors> factors, IReadOnlyList<SavedValues>? saved = null)
    {
        _options = options.Copy();
        BaseModel = baseModel;
        Factors = factors;
        Saved = saved ?? [];
    }

    /// <summary>Rank, alpha, targets and the rest; a copy at each call.</summary>
    public LoraOptions Options => _options.Copy();

    /// <summary>What base_model_name_or_path says: where the base was when the adapter was made.</summary>
    public string BaseModel { get; }

    /// <summary>The adapted layers in order of the forward pass.</summary>
    internal IReadOnlyList<LoraFactors> Factors { get; }

    /// <summary>The tensors that take the base's place, in order of the forward pass.</summary>
    internal IReadOnlyList<SavedValues> Saved { get; }

    /// <summary>
    /// What it was trained to be asked with: system message, prompt template, thinking. Kept beside PEFT's files in mlnetlora_prompt.json, and used
    /// by whoever answers with the adapter.
    /// </summary>
    public PromptSettings Prompt { get; init; } = new();

    /// <summary>What is to be said of the files that it was read from.</summary>
    internal IReadOnlyList<string> Warnings { get; init; } = [];

    /// <summary>Numbers in all factors, and in what is trained whole.</summary>
    public long ParameterCount => Factors.Sum(factor => factor.Module.ParameterCount) + Saved.Sum(saved => saved.Tensor.ParameterCount);

    /// <summary>A fresh adapter, as PEFT initializes it: A uniform in ±1/√in (Kaiming with a = √5), B zero, so that it changes nothing yet.</summary>
    /// <param name="options">Its shape.</param>
    /// <param name="checkpoint">The base.</param>
    /// <param name="seed">Seed of A.</param>
    /// <exception cref="OptionException">A factor would take more than 2 GB.</exception>
    public static LoraAdapter Create(LoraOptions options, Checkpoint checkpoint, int seed)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(checkpoint);
        Random random = new(seed);
        IReadOnlyList<LoraModule> modules = Modules(options, checkpoint);
        IReadOnlyList<SavedTensor> saved = SavedTensors.Resolve(options, checkpoint.Architecture, checkpoint.Config, modules);
        return new LoraAdapter(options, checkpoint.Folder, [.. modules.Select(module =>
        {
            float[] a = new float[module.Rank * module.Module.In];
            float bound = 1 / MathF.Sqrt(module.Module.In);
            for (int i = 0; i < a.Length; i++)
            {
                a[i] = ((random.NextSingle() * 2) - 1) * bound;
            }

            return new LoraFactors(module, a, new float[module.Module.Out * module.Rank]);
        })], [.. saved.Select(tensor => new SavedValues(tensor, checkpoint.Tensors[tensor.Base.Name].ReadFloat32()))]);
    }

    /// <summary>The same factors, asked otherwise.</summary>
    internal LoraAdapter WithPrompt(PromptSettings prompt) => new(Options, BaseModel, Factors, Saved) { Prompt = prompt, Warnings = Warnings };

    /// <summary>The line that PEFT prints of a model: trainable params: … || all params: … || trainable%: ….</summary>
    /// <param name="checkpoint">The base.</param>
    public string DescribeParameters(Checkpoint checkpoint)
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        long biases = Saved.Where(saved => saved.Tensor.Base.Kind == TensorKind.Bias).Sum(saved => saved.Tensor.ParameterCount); // trained in their place
        long all = checkpoint.ParameterCount + ParameterCount - biases;
        return FormattableString.Invariant($"trainable params: {ParameterCount:N0} || all params: {all:N0} || trainable%: {100.0 * ParameterCount / all:F4}");
    }

    /// <summary>Writes a folder that PEFT loads: adapter_config.json and adapter_model.safetensors (float32). An older adapter in it is replaced when
    /// the new one is whole, and stays as it was when writing fails. A process that is killed in the moment of the replacement leaves a folder without
    /// adapter_config.json, which nothing loads.</summary>
    /// <param name="folder">The folder; made if it is not there.</param>
    /// <exception cref="OptionException">The folder holds a model: transformers applies an adapter that lies beside weights whenever it loads them,
    /// to merged ones a second time.</exception>
    public void SaveAsPeft(string folder)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(folder);
        Directory.CreateDirectory(folder);
        if (Directory.EnumerateFiles(folder).Select(Path.GetFileName).FirstOrDefault(IsModelWeights) is { } model)
        {
            throw new OptionException(
                $"{Path.GetFullPath(folder)} holds {model}, the weights of a model, to which transformers would apply the adapter whenever it loads them "
                + "(to merged ones a second time); give a folder of its own.");
        }

        using FileSet files = new(folder);
        files.Write(WeightsName, Write);
        Prompt.Save(files);
        files.WriteText(ConfigName, ToPeftConfigJson());
        files.Commit(ConfigName);
    }

    /// <summary>Whether a file in a folder is weights of a model. What a killed process left of a file that it was writing, NAME.….tmp, is none.</summary>
    private static bool IsModelWeights(string? name) =>
        name is not (null or WeightsName)
            && (name.EndsWith(".safetensors", StringComparison.Ordinal) || name.EndsWith(".safetensors.index.json", StringComparison.Ordinal));

    /// <summary>The text of adapter_config.json.</summary>
    public string ToPeftConfigJson() => PeftConfig.Write(Options, BaseModel, Factors.Select(factor => factor.Module));

    /// <summary>Writes adapter_model.safetensors (float32) to a stream, piece by piece; of any size.</summary>
    /// <param name="stream">Receives <see cref="SafetensorsLength"/> bytes; it need not be able to go back.</param>
    public void Write(Stream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        SafetensorsWriter.Write(stream, Items());
    }

    /// <summary>How many bytes <see cref="Write"/> writes.</summary>
    public long SafetensorsLength => SafetensorsWriter.Length(Items());

    /// <summary>The bytes of adapter_model.safetensors, of adapters up to 2 GB; see <see cref="Write"/> for larger ones.</summary>
    public byte[] ToSafetensors()
    {
        using MemoryStream stream = new(checked((int)SafetensorsLength));
        Write(stream);
        return stream.ToArray();
    }

    /// <summary>Loads a PEFT folder for a base checkpoint; float32, fp16 and bf16 factors are taken.</summary>
    /// <exception cref="AdapterException">A file is missing or refused, a tensor is missing, unexpected or of the wrong shape.</exception>
    public static LoraAdapter LoadPeft(string folder, Checkpoint checkpoint)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        ArgumentNullException.ThrowIfNull(checkpoint);
        string config = Path.Combine(folder, ConfigName);
        string weights = Path.Combine(folder, WeightsName);
        if (!File.Exists(config))
        {
            throw new AdapterException($"{config} is missing; give the folder of a PEFT adapter.");
        }

        if (!File.Exists(weights))
        {
            throw new AdapterException(File.Exists(Path.Combine(folder, "adapter_model.bin"))
                ? $"{folder} holds adapter_model.bin, a Python pickle: opening one can run any code, so it is refused. "
                    + "Save the adapter again with safe_serialization=True, which makes adapter_model.safetensors."
                : $"{weights} is missing.");
        }

        if (NotSafetensors.Of(weights) is { } what)
        {
            throw new AdapterException($"{weights} {what}");
        }

        try
        {
            string text = BoundedFile.ReadText(config, MaximumConfigBytes) ?? throw new AdapterException(
                $"{config} has more than {MaximumConfigBytes} bytes; no adapter's has. Take it from the adapter's source again.");
            using FileStream stream = File.OpenRead(weights);
            return Read(stream, stream.Length, text, folder, checkpoint).WithPrompt(PromptSettings.Load(folder));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new AdapterException($"The adapter in {folder} cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Makes an adapter from the contents of the two PEFT files.</summary>
    /// <param name="safetensors">adapter_model.safetensors.</param>
    /// <param name="configJson">adapter_config.json.</param>
    /// <param name="source">What error messages call them.</param>
    /// <param name="checkpoint">The base.</param>
    public static LoraAdapter FromPeft(ReadOnlyMemory<byte> safetensors, string configJson, string source, Checkpoint checkpoint)
    {
        using MemoryStream stream = new(safetensors.ToArray(), writable: false);
        return Read(stream, stream.Length, configJson, source, checkpoint);
    }

    /// <summary>Reads an adapter from the two PEFT files as they come: the weights once, from front to back, into the factors; of any size.</summary>
    /// <param name="safetensors">adapter_model.safetensors, from its first byte; it need not be able to go back.</param>
    /// <param name="length">How many bytes it has. Names, types and shapes in its header are compared with what the base and the configuration ask
    /// for before memory is taken.</param>
    /// <param name="configJson">adapter_config.json.</param>
    /// <param name="source">What error messages call them.</param>
    /// <param name="checkpoint">The base.</param>
    /// <exception cref="AdapterException">The configuration is refused, a tensor is missing, unexpected or of the wrong shape.</exception>
    /// <exception cref="OptionException">A factor would take more than 2 GB.</exception>
    /// <exception cref="CheckpointException">The weights are not a whole safetensors file.</exception>
    public static LoraAdapter Read(Stream safetensors, long length, string configJson, string source, Checkpoint checkpoint)
    {
        ArgumentNullException.ThrowIfNull(safetensors);
        ArgumentNullException.ThrowIfNull(configJson);
        ArgumentNullException.ThrowIfNull(checkpoint);
        (LoraOptions options, string baseModel) = PeftConfig.Read(configJson, $"{source}/{ConfigName}", checkpoint.Architecture);
        SafetensorsFile file = SafetensorsFile.Read(safetensors, length, $"{source}/{WeightsName}");
        List<string> warnings = [];
        IReadOnlyList<LoraModule> modules = Modules(options, checkpoint, warnings);
        IReadOnlyList<SavedTensor> saved = SavedTensors.Resolve(options, checkpoint.Architecture, checkpoint.Config, modules);
        RequireTensors(file, modules, saved);
        Dictionary<string, float[]> tensors = [];
        foreach (TensorEntry entry in file.Tensors.Values.OrderBy(entry => entry.Offset).ThenBy(entry => entry.Length))
        {
            float[] values = tensors[entry.Name] = new float[entry.Count];
            file.ReadNextFloat32(safetensors, entry, values);
        }

        return new LoraAdapter(options, baseModel, [.. modules.Select(module => new LoraFactors(module, tensors[module.KeyA], tensors[module.KeyB]))],
            [.. saved.Select(tensor => new SavedValues(tensor, tensors[tensor.Key]))])
        {
            Warnings = warnings,
        };
    }

    /// <summary>Throws where a file does not hold exactly the factors of these layers.</summary>
    private static void RequireTensors(SafetensorsFile file, IReadOnlyList<LoraModule> modules, IReadOnlyList<SavedTensor> saved)
    {
        HashSet<string> unused = [.. file.Tensors.Keys];
        foreach (LoraModule module in modules)
        {
            RequireTensor(module.KeyA, [module.Rank, module.Module.In]);
            RequireTensor(module.KeyB, [module.Module.Out, module.Rank]);
        }

        foreach (SavedTensor tensor in saved)
        {
            RequireTensor(tensor.Key, [.. tensor.Base.Shape]);
        }

        if (unused.Count > 0)
        {
            throw new AdapterException($"{file.Source} holds '{unused.First()}' ({unused.Count} in all), which {ConfigName} does not account for; "
                + "the adapter may be for another model or use a feature that is not supported.");
        }

        void RequireTensor(string key, long[] shape)
        {
            if (!file.Tensors.TryGetValue(key, out TensorEntry? entry))
            {
                throw new AdapterException($"{file.Source} has no tensor '{key}', which {ConfigName} asks for.");
            }

            unused.Remove(key);
            if (!entry.Shape.SequenceEqual(shape))
            {
                throw new AdapterException($"{file.Source}: '{key}' has the shape [{string.Join(", ", entry.Shape)}], "
                    + $"but this base and {ConfigName} ask for [{string.Join(", ", shape)}].");
            }
        }
    }

    private static IReadOnlyList<LoraModule> Modules(LoraOptions options, Checkpoint checkpoint, List<string>? warnings = null)
    {
        IReadOnlyList<LoraModule> modules = LoraTargets.Resolve(options, checkpoint.Architecture, checkpoint.Config, warnings);
        foreach (LoraModule module in modules)
        {
            RequireSize(module);
        }

        return modules;
    }

    /// <summary>Throws where a factor is larger than one tensor of the runtime can be.</summary>
    internal static void RequireSize(LoraModule module)
    {
        int widest = Math.Max(module.Module.In, module.Module.Out);
        long bytes = sizeof(float) * (long)module.Rank * widest;
        if (bytes > int.MaxValue)
        {
            throw new OptionException(
                $"Rank is {module.Rank} for '{module.Module.Name}'; a factor of {module.Rank} x {widest} numbers would take "
                + FormattableString.Invariant($"{bytes / 1e9:F1} GB, and 2 GB is the most. Lower it."));
        }
    }

    private SafetensorsWriter.Item[] Items() => [.. Factors.SelectMany(f => new[]
    {
        SafetensorsWriter.Item.From(f.Module.KeyA, TensorType.Float32, [f.Module.Rank, f.Module.Module.In], f.A),
        SafetensorsWriter.Item.From(f.Module.KeyB, TensorType.Float32, [f.Module.Module.Out, f.Module.Rank], f.B),
    })
        .Concat(Saved.Select(saved => SafetensorsWriter.Item.From(saved.Tensor.Key, TensorType.Float32, saved.Tensor.Base.Shape, saved.Values)))
        .OrderBy(item => item.Name, StringComparer.Ordinal)];

    /// <summary>Throws where a layer of this adapter does not exist in a checkpoint or has another size there.</summary>
    internal void RequireFit(Checkpoint checkpoint)
    {
        foreach (LoraModule module in Factors.Select(factor => factor.Module))
        {
            (string name, int inputs, int outputs) = (module.Module.Name, module.Module.In, module.Module.Out);
            if (!checkpoint.Tensors.TryGetValue(name + ".weight", out CheckpointTensor? weight) || !weight.Entry.Shape.SequenceEqual([outputs, inputs]))
            {
                throw new AdapterException(
                    $"The adapter was made for another base: {checkpoint.Folder} has no layer '{name}' of {inputs} inputs and {outputs} outputs.");
            }
        }

        foreach (TensorSpec spec in Saved.Select(saved => saved.Tensor.Base))
        {
            if (!checkpoint.Tensors.TryGetValue(spec.Name, out CheckpointTensor? tensor) || !tensor.Entry.Shape.SequenceEqual(spec.Shape))
            {
                throw new AdapterException(
                    $"The adapter was made for another base: {checkpoint.Folder} has no tensor '{spec.Name}' of the shape [{string.Join(", ", spec.Shape)}].");
            }
        }
    }
}
