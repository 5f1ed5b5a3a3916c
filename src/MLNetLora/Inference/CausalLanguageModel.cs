using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.Inference;

/// <summary>Why an answer ended.</summary>
public enum FinishReason
{
    /// <summary>The model gave an end-of-text token, or a stop string came up.</summary>
    Stop,

    /// <summary>The maximum number of new tokens, or the model's context, was reached.</summary>
    Length,
}

/// <summary>A generated continuation.</summary>
/// <param name="Ids">New token ids, an ending eos included.</param>
/// <param name="Reason">Why it ended.</param>
internal sealed record GeneratedIds(IReadOnlyList<int> Ids, FinishReason Reason)
{
    /// <summary>Tokens of the prompt that were not computed, because an earlier prompt began with them.</summary>
    public int KnownPromptTokens { get; init; }

    /// <summary>Tokens that prompt lookup guessed.</summary>
    public int GuessedTokens { get; init; }
}

/// <summary>
/// Continues token sequences with a checkpoint and, where given, an adapter attached (not merged).
/// float32 weights stay mapped; 16-bit ones are upcast once into private memory, twice the checkpoint's size.
/// </summary>
/// <remarks>
/// Thread-safe: every call has its own cache. <see cref="Dispose"/> waits for nobody: calls under way end with their answer, and the memory is freed
/// when the last of them has; every later call throws an <see cref="ObjectDisposedException"/>. Dropped without Dispose, everything is freed by the
/// garbage collector.
/// </remarks>
internal sealed partial class CausalLanguageModel : IDisposable
{
    private readonly SharedResources _resources = new();
    private readonly StepGraph _graph;
    private readonly GenerationEngine _engine;
    private readonly Dictionary<string, NativeTensor> _factors = [];
    private readonly DeviceMemory? _device;
    private readonly RowAdapter _adapter;
    private readonly PrefixCache _prefixes;

    /// <summary>Builds the graph and creates the session.</summary>
    /// <param name="checkpoint">The base.</param>
    /// <param name="adapter">An adapter for it; null for the base alone.</param>
    /// <param name="threads">Threads; 0 takes all cores.</param>
    /// <param name="precision">How the base's weights are held; quantized ones are private memory.</param>
    /// <param name="device">Where it computes; null for the processor. On a GPU it computes in bfloat16, on one that has none in float16.</param>
    /// <param name="engine">How it serves many requests; null for the defaults.</param>
    /// <param name="cancellation">Ends the loading with an <see cref="OperationCanceledException"/>.</param>
    /// <exception cref="DeviceException">The device cannot be used.</exception>
    /// <exception cref="OptionException">An option makes no sense, or the weights so held would take more memory than there is.</exception>
    /// <exception cref="AdapterException">The adapter was not made for this base, or holds NaN while the base is quantized.</exception>
    /// <exception cref="CheckpointException">A base that is quantized holds NaN or infinite numbers.</exception>
    /// <exception cref="NativeMemoryException">There is too little memory.</exception>
    public CausalLanguageModel(Checkpoint checkpoint, LoraAdapter? adapter = null, int threads = 0, WeightPrecision precision = WeightPrecision.Checkpoint,
        Device? device = null, EngineOptions? engine = null, CancellationToken cancellation = default)
    {
        engine = engine?.Copy() ?? new EngineOptions();
        engine.Validate();
        if (adapter is { IsEmpty: false } && engine.AdapterModules is not null)
        {
            throw new OptionException(
                $"A generator with {nameof(EngineOptions.AdapterModules)} begins with the base alone: open it without an adapter, and attach this one.");
        }

        Require.Defined(precision, "The weight precision");
        Require.Threads(threads, nameof(threads));
        adapter?.RequireFit(checkpoint);
        device ??= Device.Cpu;
        device.Validate();
        if (Refusal(device, checkpoint, precision) is { } refusal)
        {
            throw new OptionException(refusal);
        }

        cancellation.ThrowIfCancellationRequested();
        switch (device) // before minutes of work
        {
            case CudaDevice asked:
                CudaProvider.Require(asked);
                break;
            case CustomDevice asked:
                CustomProvider.Require(asked);
                break;
        }

        checkpoint = FourBitCache.Open(checkpoint, precision, threads, cancellation);
        ElementType computeType = device is not CudaDevice cuda ? ElementType.Float32
            : CudaProvider.HasBFloat16(cuda) ? ElementType.BFloat16
            : ElementType.Float16;
        BlockWeights? quantized = precision is WeightPrecision.Int8 or WeightPrecision.Int4
            ? new BlockWeights(checkpoint, precision, computeType)
            : checkpoint.IsFourBit ? new BlockWeights(checkpoint, computeType) : null;
        if (device is CudaDevice onGpu)
        {
            EngineMemory.Require(onGpu, checkpoint, precision, quantized);
        }
        else
        {
            EngineMemory.Require(checkpoint, precision, quantized);
        }

        if (quantized is not null)
        {
            BadNumbers.RequireNone(checkpoint, quantized, adapter, cancellation);
        }

        _ = ReadAhead.Start(checkpoint, cancellation);
        Checkpoint = checkpoint;
        Adapter = adapter;
        Precision = precision;
        Threads = threads;
        Device = device;
        WeightBytes = (device is CudaDevice ? EngineMemory.OnGpu(checkpoint, quantized) : EngineMemory.Of(checkpoint, quantized)) + BytesOf(adapter);
        AdapterParts parts = adapter?.Parts ?? new AdapterParts([], [], null);
        try
        {
            _device = device is CudaDevice gpu ? _resources.Own(new DeviceMemory(gpu)) : null;
            GraphBuilder graph = new("inference")
            {
                ForCuda = _device is not null,
                FusesKernels = device is CudaDevice { FusedKernels: true },
                ComputeType = computeType,
            };
            IReadOnlyList<LinearModule> shared = engine.AdapterModules is { } modules ? SharedModules(checkpoint, modules) : [];
            ModelArtifact model = InferenceModel.Build(checkpoint, parts, quantized, graph, shared);
            BlockMemory? memory = quantized is null || _device is not null ? null : _resources.Own(new BlockMemory(quantized, threads, cancellation));
            SessionUse use = memory is null ? SessionUse.Generation : SessionUse.QuantizedGeneration;
            IReadOnlyDictionary<string, NativeTensor>? initializers = _device is null
                ? memory?.Initializers
                : OnDevice(model, quantized, _device, cancellation);
            OnnxSession session = _resources.Own(new OnnxSession(model, use, threads, initializers, device, cancellation: cancellation));
            foreach ((AdapterTensor tensor, float[] values) in adapter?.Tensors ?? [])
            {
                Keep(tensor.Key, values, [.. tensor.Shape]);
            }

            KeepNorms(parts.Modules, adapter?.Tensors ?? [], cancellation);

            AdapterStack? adapters = shared.Count == 0 ? null : _resources.Own(new AdapterStack(shared, _device));
            _graph = new StepGraph(
                session, _factors, checkpoint.Config, [.. checkpoint.Architecture.States(checkpoint.Config)], _device, computeType, adapters);
            _prefixes = _resources.Own(new PrefixCache(_graph, engine.PrefixCacheBytes));
            _engine = new GenerationEngine(_graph, _prefixes)
            {
                MaximumRows = engine.MaximumRows,
                MaximumCacheBytes = engine.MaximumCacheBytes ?? long.MaxValue,
            };
            int[] two = [0, Math.Min(1, checkpoint.Config.VocabSize - 1)]; // with one token, queries and keys change nothing
            memory?.FreePacked(() => Logits(two, cancellation), cancellation);
        }
        catch (Exception e)
        {
            Dispose();
            if (e is MLNetLoraException and not (OptionException or NativeMemoryException))
            {
                checkpoint.RequireUnchanged(areMapped: false); // what the runtime says of a file that became shorter names none
            }

            throw;
        }
    }

    /// <summary>The same engine, answering with an adapter that is there beside others.</summary>
    private CausalLanguageModel(CausalLanguageModel other, LoraAdapter adapter)
    {
        _resources.Own(other._resources.Begin(other)); // what is shared outlives this
        try
        {
            _adapter = _resources.Own(AttachedPlace.Take(other._graph.Adapters!, other._prefixes, adapter)).Adapter;
        }
        catch
        {
            Dispose();
            throw;
        }

        (Checkpoint, Adapter, Precision, Threads, Device) = (other.Checkpoint, adapter, other.Precision, other.Threads, other.Device);
        WeightBytes = BytesOf(adapter);
        (_graph, _engine, _prefixes, _device) = (other._graph, other._engine, other._prefixes, other._device);
    }

    /// <summary>The base.</summary>
    public Checkpoint Checkpoint { get; }

    /// <summary>The adapter; null for the base alone.</summary>
    public LoraAdapter? Adapter { get; }

    /// <summary>How the base's weights are held.</summary>
    public WeightPrecision Precision { get; }

    /// <summary>Where it computes.</summary>
    internal Device Device { get; }

    /// <summary>Threads that were asked for; 0 is all cores.</summary>
    internal int Threads { get; }

    /// <summary>What is kept of prompts.</summary>
    internal PrefixCache Prefixes => _prefixes;

    /// <summary>What the engine has to do. Attached models have that of the one that they are attached to.</summary>
    internal EngineUse Use => _engine.Use;

    /// <summary>Most bytes that the engine's rows may come to take; null for no limit.</summary>
    internal long? MaximumCacheBytes => _engine.MaximumCacheBytes is < long.MaxValue and var limit ? limit : null;

    /// <summary>Whether it answers with the weights of another one.</summary>
    internal bool IsAttached => _adapter.Generation != 0;

    /// <summary>Bytes of memory that it takes for weights, those of the adapter with them: not what it shares with others, or uses as the checkpoint's file
    /// has it.</summary>
    internal long WeightBytes { get; }

    /// <summary>The same engine, answering with an adapter in the same batches as the base and as other adapters.</summary>
    /// <param name="adapter">The adapter.</param>
    /// <returns>What answers with it. Its Dispose frees the adapter after its last request; the weights go when this one and all such have been
    /// disposed.</returns>
    /// <exception cref="AdapterException">The adapter was not made for this base, or cannot stand beside others; the message says why.</exception>
    /// <exception cref="ObjectDisposedException">The model was disposed.</exception>
    /// <exception cref="NativeMemoryException">There is too little memory.</exception>
    internal CausalLanguageModel Attach(LoraAdapter adapter)
    {
        ThrowIfDisposed();
        adapter.RequireFit(Checkpoint);
        string? refusal = _graph.Adapters is null
            ? $"the engine was not opened for adapters ({nameof(EngineOptions)}.{nameof(EngineOptions.AdapterModules)} is null)"
            : _graph.Adapters.Refusal(adapter);
        if (refusal is not null)
        {
            throw new AdapterException($"The adapter for {Checkpoint.Folder} cannot be attached beside others: {refusal}. A generator of its own can answer "
                + "with it.");
        }

        BadNumbers.RequireNone(adapter);
        return new CausalLanguageModel(this, adapter);
    }

    /// <summary>Throws after <see cref="Dispose"/>.</summary>
    /// <exception cref="ObjectDisposedException">The model was disposed.</exception>
    internal void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(_resources.IsDisposed, this);

    /// <inheritdoc/>
    public void Dispose() => _resources.Dispose();

    /// <summary>The linear layers that adapters may be on which come and go; experts' stacks are none.</summary>
    /// <exception cref="AdapterException">A name that is no layer's.</exception>
    private static IReadOnlyList<LinearModule> SharedModules(Checkpoint checkpoint, TargetModules modules) =>
    [
        .. LoraTargets.Resolve(new LoraOptions { TargetModules = modules, Dropout = 0 }, checkpoint.Architecture, checkpoint.Config)
            .Where(lora => lora.Parameter is null)
            .Select(lora => lora.Module),
    ];

    /// <summary>Keeps what DoRA's magnitudes are divided by.</summary>
    private void KeepNorms(
        IReadOnlyList<LoraModule> modules, IEnumerable<(AdapterTensor Tensor, float[] Values)> tensors, CancellationToken cancellation)
    {
        LoraModule[] doras = [.. modules.Where(module => module.UseDora)];
        if (doras.Length == 0)
        {
            return;
        }

        // On the processor, whatever the device: in float32, and once.
        using OnnxSession session = new(DoraNorms.Build(Checkpoint, doras), SessionUse.Training, Threads, cancellation: cancellation);
        string[] names = [.. doras.Select(DoraNorms.Name)];
        Dictionary<string, NativeTensor> factors = tensors.ToDictionary(item => item.Tensor.Key, item => Tensors.Of(item.Values, [.. item.Tensor.Shape]));
        try
        {
            using NativeTensors norms = session.Run(session.InputNames, [.. session.InputNames.Select(name => factors[name])], names, cancellation);
            for (int i = 0; i < names.Length; i++)
            {
                Keep(names[i], norms[i].Span<float>().ToArray(), [doras[i].Module.Out]);
            }
        }
        finally
        {
            Array.ForEach([.. factors.Values], tensor => tensor.Dispose());
        }
    }

    /// <summary>The weights in the device's memory, by the names of their initializers.</summary>
    private Dictionary<string, NativeTensor> OnDevice(ModelArtifact model, BlockWeights? quantized, DeviceMemory device, CancellationToken cancellation)
    {
        IReadOnlyDictionary<string, NativeTensor> blocks = quantized is null
            ? new Dictionary<string, NativeTensor>()
            : DeviceBlocks.Fill(quantized, _resources.Own(new DeviceTensors(device, "the quantized weights")), Threads, cancellation);
        DeviceWeights weights = _resources.Own(new DeviceWeights(Checkpoint, device));
        return weights.For(model, blocks.Keys.ToHashSet(), cancellation).Concat(blocks).ToDictionary();
    }

    /// <summary>Why a model cannot answer on a device; null where it can.</summary>
    internal static string? Refusal(Device device, Checkpoint checkpoint, WeightPrecision precision) => device switch
    {
        CustomDevice when precision != WeightPrecision.Checkpoint =>
            $"Answers with {nameof(WeightPrecision)}.{precision} are not computed by other execution providers, and {device} was asked for. Set the weight "
            + $"precision to {WeightPrecision.Checkpoint}, or the device to {Device.Cpu}.",
        CustomDevice when checkpoint.IsFourBit =>
            $"{checkpoint.Folder} is in 4 bits, which other execution providers do not answer with, and {device} was asked for. Set the device to "
            + $"{Device.Cpu}, or take the checkpoint that it was quantized from.",
        _ => null,
    };

    private static long BytesOf(LoraAdapter? adapter) => adapter?.Tensors.Sum(tensor => sizeof(float) * (long)tensor.Values.Length) ?? 0;

    private void Keep(string name, float[] values, long[] shape)
    {
        FloatBuffer buffer = _resources.Own(new FloatBuffer(values.Length, $"the adapter's {name}", _device));
        buffer.Write(0, values);
        _factors[name] = buffer.View(0, shape);
    }

    /// <summary>An adapter's place in the engine, which is free again when this is disposed.</summary>
    private sealed record AttachedPlace(AdapterStack Adapters, PrefixCache Prefixes, RowAdapter Adapter) : IDisposable
    {
        private static long s_generation;

        public static AttachedPlace Take(AdapterStack adapters, PrefixCache prefixes, LoraAdapter adapter) =>
            new(adapters, prefixes, new RowAdapter(adapters.Add(adapter), Interlocked.Increment(ref s_generation)));

        public void Dispose()
        {
            Adapters.Remove(Adapter.Place);
            Prefixes.Forget(Adapter);
        }
    }
}
