using System.Numerics.Tensors;
using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.Adapters;

/// <summary>The numbers of one adapted layer.</summary>
/// <param name="Module">The layer, its rank and its scaling.</param>
/// <param name="A">[rank, in], row by row; of a stack of experts [rank·experts, in].</param>
/// <param name="B">[out, rank], row by row; of a stack [out, rank·experts].</param>
/// <param name="Magnitude">[out], with DoRA; else null.</param>
internal sealed record LoraFactors(LoraModule Module, float[] A, float[] B, float[]? Magnitude = null)
{
    /// <summary>Factors of the same shapes that are taken out of the base while this is trained (PiSSA): the adapter is B A less theirs. Null for
    /// none.</summary>
    public (float[] A, float[] B)? Initial { get; init; }

    /// <summary>Those of one matrix of a stack, as if it were a layer of its own.</summary>
    /// <param name="tensor">The matrix: rows of one expert in the stack that these factors are for.</param>
    public LoraFactors Of(TensorSpec tensor)
    {
        (int experts, int rank, int inputs, int outputs) = (Module.Parameter!.Experts, Module.Rank, Module.Module.In, Module.Module.Out);
        (long expert, long at) = Math.DivRem(tensor.Stack!.First, (long)outputs * inputs);
        (int firstRow, int rows) = ((int)(at / inputs), (int)tensor.Shape[0]);
        float[] b = new float[rows * rank];
        for (int i = 0; i < rows; i++)
        {
            for (int r = 0; r < rank; r++)
            {
                b[(i * rank) + r] = B[((firstRow + i) * rank * experts) + (r * experts) + (int)expert];
            }
        }

        LinearModule layer = new(tensor.Name[..^".weight".Length], inputs, rows);
        return new LoraFactors(new LoraModule(layer, rank, Module.Alpha, Module.Scaling), A.AsSpan((int)expert * rank * inputs, rank * inputs).ToArray(), b);
    }

    /// <summary>Its tensors with their numbers.</summary>
    public IEnumerable<(AdapterTensor Tensor, float[] Values)> Tensors => Module.Tensors.Zip(Magnitude is null ? [A, B] : (float[][])[A, B, Magnitude]);

    /// <summary>The numbers of a layer by the keys of its tensors.</summary>
    public static LoraFactors Of(LoraModule module, Func<string, float[]> values) =>
        new(module, values(module.KeyA), values(module.KeyB), module.UseDora ? values(module.KeyMagnitude) : null);
}

/// <summary>A LoRA adapter for one base model: its options and its factors in float32. Immutable.</summary>
public sealed class LoraAdapter
{
    internal const string ConfigName = "adapter_config.json";
    internal const string WeightsName = "adapter_model.safetensors";
    internal const int MaximumConfigBytes = 32 << 20; // one that names each layer of a model with experts has some MB

    private readonly LoraOptions _options;

    internal LoraAdapter(LoraOptions options, string baseModel, IReadOnlyList<LoraFactors> factors, IReadOnlyList<SavedValues>? saved = null,
        TrainedTokenValues? tokens = null)
    {
        _options = options.Copy();
        BaseModel = baseModel;
        Factors = factors;
        Saved = saved ?? [];
        Tokens = tokens;
    }

    /// <summary>Rank, alpha, targets and the rest; a copy at each call.</summary>
    public LoraOptions Options => _options.Copy();

    /// <summary>What base_model_name_or_path says: where the base was when the adapter was made.</summary>
    public string BaseModel { get; }

    /// <summary>The adapted layers in order of the forward pass.</summary>
    internal IReadOnlyList<LoraFactors> Factors { get; }

    /// <summary>The tensors that take the base's place, in order of the forward pass.</summary>
    internal IReadOnlyList<SavedValues> Saved { get; }

    /// <summary>The rows of the embedding that take the base's place; null for none.</summary>
    internal TrainedTokenValues? Tokens { get; }

    /// <summary>What it consists of.</summary>
    internal AdapterParts Parts => new([.. Factors.Select(factors => factors.Module)], [.. Saved.Select(saved => saved.Tensor)], Tokens?.Tokens);

    /// <summary>Whether there is none: after a training of every weight, which are then the base's.</summary>
    internal bool IsEmpty => Factors.Count == 0 && Saved.Count == 0 && Tokens is null;

    /// <summary>No adapter, for a base that answers alone.</summary>
    internal static LoraAdapter None(string baseModel) => new(new LoraOptions(), baseModel, []);

    /// <summary>All its tensors with their numbers.</summary>
    internal IEnumerable<(AdapterTensor Tensor, float[] Values)> Tensors =>
    [
        .. Factors.SelectMany(factors => factors.Tensors),
        .. Saved.Select(saved => (saved.Tensor.Tensor, saved.Values)),
        .. Tokens is null ? [] : ((AdapterTensor, float[])[])[(Tokens.Tokens.Tensor, Tokens.Values)],
    ];

    /// <summary>
    /// What it was trained to be asked with: system message, prompt template, thinking. Kept beside PEFT's files in mlnetlora_prompt.json, and used
    /// by whoever answers with the adapter.
    /// </summary>
    public PromptSettings Prompt { get; init; } = new();

    /// <summary>What is to be said of the files that it was read from.</summary>
    internal IReadOnlyList<string> Warnings { get; init; } = [];

    /// <summary>Numbers in all factors, and in what is trained whole.</summary>
    public long ParameterCount => Parts.Tensors.Sum(tensor => tensor.Count);

    /// <summary>A fresh adapter for the base as it is, as PEFT initializes it; see <see cref="LoraInitialization"/>. With
    /// <see cref="LoraInitialization.Pissa"/> it has twice the rank, as the one that comes out of a training: the factors, and behind them the same
    /// with the opposite sign.</summary>
    /// <param name="options">Its shape.</param>
    /// <param name="checkpoint">The base.</param>
    /// <param name="seed">Seed of the factors.</param>
    /// <exception cref="OptionException">A factor would take more than 2 GB, or a rank does not suit <see cref="LoraOptions.Initialization"/>.</exception>
    /// <exception cref="AdapterException">A target matches no layer, or options do not go together.</exception>
    public static LoraAdapter Create(LoraOptions options, Checkpoint checkpoint, int seed)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(checkpoint);
        return Create(options, checkpoint, seed, CancellationToken.None).ForWholeBase();
    }

    /// <summary>A fresh adapter to train: with <see cref="LoraInitialization.Pissa"/> for a base out of which its factors are taken.</summary>
    internal static LoraAdapter Create(LoraOptions options, Checkpoint checkpoint, int seed, CancellationToken cancellation)
    {
        AdapterParts parts = Resolve(options, checkpoint);
        if (parts.Modules.Any(module => module.Parameter is not null))
        {
            TargetParameters.RequireAllLayers(options);
        }

        FactorInitializer initializer = new(options.Initialization, checkpoint, seed, cancellation);
        return new LoraAdapter(
            options,
            checkpoint.Folder,
            [.. parts.Modules.Select(initializer.Of)],
            [.. parts.Saved.Select(tensor => new SavedValues(tensor, checkpoint.Tensors[tensor.Base.Name].ReadFloat32()))],
            parts.Tokens is null ? null : new TrainedTokenValues(parts.Tokens, Rows(checkpoint, parts.Tokens)));
    }

    /// <summary>The same factors, asked otherwise.</summary>
    internal LoraAdapter WithPrompt(PromptSettings prompt) => new(Options, BaseModel, Factors, Saved, Tokens) { Prompt = prompt, Warnings = Warnings };

    /// <summary>
    /// The same adapter for the base as it is: where factors were taken out of it (PiSSA), they stand in this one with the opposite sign, behind those
    /// that were trained. Its rank is then twice as large and its alpha such that the scaling is the same; what PEFT writes with
    /// path_initial_model_for_weight_conversion.
    /// </summary>
    internal LoraAdapter ForWholeBase()
    {
        if (Factors.All(factors => factors.Initial is null))
        {
            return this;
        }

        double alphas = _options.UseRsLora ? Math.Sqrt(2) : 2;
        LoraOptions options = _options.With(o =>
        {
            o.Rank *= 2;
            o.Alpha *= alphas;
            o.RankPattern = o.RankPattern.ToDictionary(item => item.Key, item => item.Value * 2);
            o.AlphaPattern = o.AlphaPattern.ToDictionary(item => item.Key, item => item.Value * alphas);
            o.Initialization = LoraInitialization.Default;
        });
        return new LoraAdapter(options, BaseModel, [.. Factors.Select(factors => factors.Initial is { } initial ? Joined(factors, initial) : factors)], Saved,
            Tokens)
        {
            Prompt = Prompt,
            Warnings = Warnings,
        };

        LoraFactors Joined(LoraFactors factors, (float[] A, float[] B) initial)
        {
            (int rank, int outputs) = (factors.Module.Rank, factors.Module.Module.Out);
            float[] b = new float[2 * outputs * rank];
            for (int i = 0; i < outputs; i++)
            {
                factors.B.AsSpan(i * rank, rank).CopyTo(b.AsSpan(2 * i * rank));
                TensorPrimitives.Negate(initial.B.AsSpan(i * rank, rank), b.AsSpan(((2 * i) + 1) * rank, rank));
            }

            LoraModule module = factors.Module with { Rank = 2 * rank, Alpha = factors.Module.Alpha * alphas };
            return new LoraFactors(module, [.. factors.A, .. initial.A], b, factors.Magnitude);
        }
    }

    /// <summary>The line that PEFT prints of a model: trainable params: … || all params: … || trainable%: ….</summary>
    /// <param name="checkpoint">The base.</param>
    public string DescribeParameters(Checkpoint checkpoint)
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        long all = ParametersWith(checkpoint);
        return FormattableString.Invariant($"trainable params: {ParameterCount:N0} || all params: {all:N0} || trainable%: {100.0 * ParameterCount / all:F4}");
    }

    /// <summary>The numbers of base and adapter together; biases are trained in their place, and count once.</summary>
    internal long ParametersWith(Checkpoint checkpoint)
    {
        long biases = Saved.Where(saved => saved.Tensor.Base.Kind == TensorKind.Bias).Sum(saved => saved.Tensor.ParameterCount);
        return checkpoint.ParameterCount + ParameterCount - biases;
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
        if (IsEmpty)
        {
            throw new OptionException($"There is no adapter to save: every weight was trained, and they are in {BaseModel}.");
        }

        Directory.CreateDirectory(folder);
        RequireNoModel(folder);

        using FileSet files = new(folder);
        files.Write(WeightsName, Write);
        Prompt.Save(files);
        files.WriteText(ConfigName, ToPeftConfigJson());
        files.Commit(ConfigName);
    }

    /// <summary>Refuses a folder that an adapter cannot be saved to.</summary>
    /// <exception cref="OptionException">It holds a model.</exception>
    internal static void RequireNoModel(string folder)
    {
        if (Directory.EnumerateFiles(folder).Select(Path.GetFileName).FirstOrDefault(IsModelWeights) is { } model)
        {
            throw new OptionException(
                $"{Path.GetFullPath(folder)} holds {model}, the weights of a model, to which transformers would apply the adapter whenever it loads them "
                + "(to merged ones a second time); give a folder of its own.");
        }
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
        AdapterParts parts = Resolve(options, checkpoint, warnings);
        RequireTensors(file, parts.Tensors);
        Dictionary<string, float[]> tensors = [];
        foreach (TensorEntry entry in file.Tensors.Values.OrderBy(entry => entry.Offset).ThenBy(entry => entry.Length))
        {
            float[] values = tensors[entry.Name] = new float[entry.Count];
            file.ReadNextFloat32(safetensors, entry, values);
        }

        return new LoraAdapter(
            options,
            baseModel,
            [.. parts.Modules.Select(module => LoraFactors.Of(module, key => tensors[key]))],
            [.. parts.Saved.Select(tensor => new SavedValues(tensor, tensors[tensor.Key]))],
            parts.Tokens is null ? null : new TrainedTokenValues(parts.Tokens, tensors[parts.Tokens.Tensor.Key]))
        {
            Warnings = warnings,
        };
    }

    /// <summary>Throws where a file does not hold exactly these tensors.</summary>
    private static void RequireTensors(SafetensorsFile file, IEnumerable<AdapterTensor> tensors)
    {
        HashSet<string> unused = [.. file.Tensors.Keys];
        foreach (AdapterTensor tensor in tensors)
        {
            RequireTensor(tensor.Key, [.. tensor.Shape]);
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

    private static AdapterParts Resolve(LoraOptions options, Checkpoint checkpoint, List<string>? warnings = null)
    {
        AdapterParts parts = AdapterParts.Resolve(options, checkpoint.Architecture, checkpoint.Config, warnings);
        foreach (LoraModule module in parts.Modules)
        {
            RequireSize(module);
        }

        if (parts.Tokens is not null)
        {
            RequireSize(parts.Tokens);
        }

        return parts;
    }

    private static float[] Rows(Checkpoint checkpoint, TrainedTokens tokens)
    {
        int width = (int)tokens.Base.Shape[1];
        float[] values = new float[tokens.Ids.Count * width];
        using TensorRows rows = new(checkpoint.Files);
        foreach ((int i, int id) in tokens.Ids.Index())
        {
            rows.Read(checkpoint.Tensors[tokens.Base.Name], id, values.AsSpan(i * width, width));
        }

        return values;
    }

    /// <summary>Throws where a factor is larger than one tensor of the runtime can be.</summary>
    internal static void RequireSize(LoraModule module)
    {
        int widest = Math.Max(module.Module.In, module.Module.Out);
        long bytes = sizeof(float) * module.Ranks * widest;
        if (bytes > int.MaxValue)
        {
            throw new OptionException(
                $"Rank is {module.Rank} for '{module.Module.Name}'; a factor of {module.Ranks} x {widest} numbers would take "
                + FormattableString.Invariant($"{bytes / 1e9:F1} GB, and 2 GB is the most. Lower it."));
        }
    }

    /// <summary>Throws where the rows of trained tokens are larger than one tensor of the runtime can be.</summary>
    internal static void RequireSize(TrainedTokens tokens)
    {
        long bytes = sizeof(float) * tokens.Tensor.Count;
        if (bytes > int.MaxValue)
        {
            throw new OptionException(
                $"{nameof(LoraOptions.TrainableTokenIndices)} names {tokens.Ids.Count} tokens; their rows of {tokens.Base.Shape[1]} numbers would take "
                + FormattableString.Invariant($"{bytes / 1e9:F1} GB, and 2 GB is the most. Name fewer."));
        }
    }

    private SafetensorsWriter.Item[] Items() => [.. Tensors
        .Select(item => SafetensorsWriter.Item.From(item.Tensor.Key, TensorType.Float32, item.Tensor.Shape, item.Values))
        .OrderBy(item => item.Name, StringComparer.Ordinal)];

    /// <summary>Throws where a layer of this adapter does not exist in a checkpoint or has another size there.</summary>
    internal void RequireFit(Checkpoint checkpoint)
    {
        Dictionary<string, IReadOnlyList<long>> stacks = [];
        if (Factors.Any(factors => factors.Module.Parameter is { IsStack: true }))
        {
            foreach (StackSlice slice in checkpoint.Architecture.Tensors(checkpoint.Config).Select(tensor => tensor.Stack).OfType<StackSlice>())
            {
                stacks[slice.Name] = slice.Shape;
            }
        }

        foreach (LoraModule module in Factors.Select(factor => factor.Module))
        {
            (string name, int inputs, int outputs) = (module.Module.Name, module.Module.In, module.Module.Out);
            bool fits = module.Parameter is { IsStack: true } stack
                ? stacks.TryGetValue(name, out IReadOnlyList<long>? shape) && shape.SequenceEqual([stack.Experts, outputs, inputs])
                : checkpoint.Tensors.TryGetValue(name + ".weight", out CheckpointTensor? weight) && weight.Entry.Shape.SequenceEqual([outputs, inputs]);
            if (!fits)
            {
                throw new AdapterException(
                    $"The adapter was made for another base: {checkpoint.Folder} has no layer '{name}' of {inputs} inputs and {outputs} outputs.");
            }
        }

        foreach (TensorSpec spec in (TensorSpec[])[.. Saved.Select(saved => saved.Tensor.Base), .. Tokens is null ? [] : (TensorSpec[])[Tokens.Tokens.Base]])
        {
            if (!checkpoint.Tensors.TryGetValue(spec.Name, out CheckpointTensor? tensor) || !tensor.Entry.Shape.SequenceEqual(spec.Shape))
            {
                throw new AdapterException(
                    $"The adapter was made for another base: {checkpoint.Folder} has no tensor '{spec.Name}' of the shape [{string.Join(", ", spec.Shape)}].");
            }
        }
    }
}
