using System.ComponentModel;
using System.Globalization;

namespace MLNetLora.Runtime;

/// <summary>Where a model computes: <see cref="Cpu"/>, a <see cref="CudaDevice"/> or a <see cref="CustomDevice"/>. PyTorch's name: torch.device.</summary>
[TypeConverter(typeof(DeviceConverter))]
public abstract record Device
{
    private protected Device()
    {
    }

    /// <summary>The processor, through the CPU provider of ONNX Runtime.</summary>
    public static Device Cpu { get; } = new CpuDevice();

    /// <summary>Reads a device as people write it: "cpu", "cuda" (which is "cuda:0") or "cuda:N".</summary>
    /// <param name="text">The device, in lower or upper case.</param>
    /// <exception cref="OptionException">It is none of these.</exception>
    public static Device Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        string[] parts = text.Trim().ToLowerInvariant().Split(':');
        return parts switch
        {
            ["cpu"] => Cpu,
            ["cuda"] => new CudaDevice(),
            ["cuda", string number] when int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out int id) => new CudaDevice { DeviceId = id },
            _ => throw new OptionException($"The device is '{text}'; it must be cpu, cuda or cuda:N with the number of a GPU, such as cuda:0."),
        };
    }

    /// <summary>Throws an <see cref="OptionException"/> that names the first option that makes no sense.</summary>
    internal abstract void Validate();

    /// <summary>The processor.</summary>
    private sealed record CpuDevice : Device
    {
        public override string ToString() => "cpu";

        internal override void Validate()
        {
        }
    }
}

/// <summary>A GPU of NVIDIA, through the CUDA provider of ONNX Runtime: the application references Microsoft.ML.OnnxRuntime.Gpu in the place of
/// Microsoft.ML.OnnxRuntime, and the machine has a driver and the CUDA libraries that it asks for.</summary>
public sealed record CudaDevice : Device
{
    private static readonly string[] s_own = ["device_id", "use_tf32", "gpu_mem_limit", "enable_cuda_graph"];

    // What has an effect on graphs such as these, and takes neither memory nor streams of the caller's.
    private static readonly string[] s_known = ["arena_extend_strategy", "enable_cudnn", "external_data_loader_reading_threads", "sdpa_kernel"];

    /// <summary>Number of the GPU among those that CUDA shows: CUDA_VISIBLE_DEVICES chooses and renumbers them, and their order is nvidia-smi's only with
    /// CUDA_DEVICE_ORDER=PCI_BUS_ID. Default 0. ONNX Runtime's name: device_id.</summary>
    public int DeviceId { get; init; }

    /// <summary>Most bytes that each session takes of the GPU's memory; null (default): all there is. ONNX Runtime's name: gpu_mem_limit.</summary>
    public long? MemoryLimit { get; init; }

    /// <summary>
    /// Whether products of 32-bit floats may be computed in TF32, with 10 bits behind the point instead of 23: several times faster on an Ampere GPU or a newer
    /// one. In bfloat16 little is left to it: the delta rule of Qwen3.5. Default false. ONNX Runtime's name: use_tf32; PyTorch's:
    /// torch.backends.cuda.matmul.allow_tf32.
    /// </summary>
    public bool Tf32 { get; init; }

    /// <summary>
    /// Whether kernels of this library's own take the place of chains of ONNX Runtime's: SwiGLU, its gradient, and the gradient of RMS norm, one kernel each.
    /// They save most passes of these through the GPU's memory and a sixth of all kernels of a step, and round once in 16 bits where the chains round several
    /// times. They are PTX text that NVIDIA's driver compiles when the device is opened. Default false: they were compared with the plain graph on a processor,
    /// and have not run on a GPU yet.
    /// </summary>
    public bool FusedKernels { get; init; }

    /// <summary>
    /// Whether training captures the kernels of a micro-batch as a CUDA graph, once for each shape, and then starts them with one call: for small models and
    /// short rows, whose steps take as long as it takes to start thousands of kernels. Lengths and numbers of labels are padded to few sizes, 32 graphs are
    /// captured at most, and what comes after them runs without one; a capture takes the trained parameters' memory once more. Refused with
    /// <see cref="Training.TrainingOptions.PackingLength"/>, for Qwen3.5 and for mixtures of experts; answers and evaluations are computed without graphs.
    /// While a shape is captured, CUDA refuses the GPU to other threads of the process: those of this library wait. Has not run on a GPU yet. Default false.
    /// ONNX Runtime's name: enable_cuda_graph.
    /// </summary>
    public bool Graphs { get; init; }

    /// <summary>Options of ONNX Runtime's CUDA provider beyond these, by its names: arena_extend_strategy, enable_cudnn, sdpa_kernel and
    /// external_data_loader_reading_threads; others are refused. None by default.</summary>
    public IReadOnlyDictionary<string, string> ProviderOptions
    {
        get;
        init => field = new Dictionary<string, string>(value ?? throw new OptionException($"{nameof(ProviderOptions)} is null; it may be empty."));
    }
    = new Dictionary<string, string>();

    /// <inheritdoc/>
    public override string ToString() => $"cuda:{DeviceId}";

    /// <summary>Equal where all options are.</summary>
    public bool Equals(CudaDevice? other) => other is not null && DeviceId == other.DeviceId && MemoryLimit == other.MemoryLimit && Tf32 == other.Tf32
        && FusedKernels == other.FusedKernels && Graphs == other.Graphs
        && ProviderOptions.Count == other.ProviderOptions.Count && ProviderOptions.All(other.ProviderOptions.Contains);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(DeviceId, MemoryLimit, Tf32, FusedKernels, Graphs, ProviderOptions.Count);

    /// <summary>The provider's options, as it takes them.</summary>
    /// <param name="captures">Whether the session's runs may be captured.</param>
    internal Dictionary<string, string> ToProviderOptions(bool captures = false)
    {
        Dictionary<string, string> options = new()
        {
            ["device_id"] = DeviceId.ToString(CultureInfo.InvariantCulture),
            ["use_tf32"] = Tf32 ? "1" : "0",
            ["arena_extend_strategy"] = "kSameAsRequested", // its default asks for the next power of two
            ["enable_cudnn"] = "0", // no graph needs it; where it happens to be installed, attention would take other kernels
            ["sdpa_kernel"] = "19", // FlashAttention, memory-efficient, plain: those of the provider itself, not cuDNN's
        };
        if (MemoryLimit is long limit)
        {
            options["gpu_mem_limit"] = limit.ToString(CultureInfo.InvariantCulture);
        }

        if (captures)
        {
            options["enable_cuda_graph"] = "1";
        }

        foreach ((string name, string value) in ProviderOptions)
        {
            options[name] = value;
        }

        return options;
    }

    /// <inheritdoc/>
    internal override void Validate()
    {
        Require.That(DeviceId >= 0, nameof(DeviceId), DeviceId, "0 or more");
        Require.That(MemoryLimit is null or > 0, nameof(MemoryLimit), MemoryLimit ?? 0, "a positive number of bytes, or null");
        if (ProviderOptions.Keys.FirstOrDefault(name => !s_own.Contains(name) && !s_known.Contains(name)) is { } unknown)
        {
            throw new OptionException($"{nameof(ProviderOptions)} has '{unknown}'; it may have {string.Join(", ", s_known)}. Others of ONNX Runtime's, such as "
                + "those of streams and allocators, would change what is computed here.");
        }

        if (ProviderOptions.FirstOrDefault(option => string.IsNullOrWhiteSpace(option.Value)) is { Key: { } empty })
        {
            throw new OptionException($"{nameof(ProviderOptions)} has no value for {empty}.");
        }

        if (ProviderOptions.Keys.FirstOrDefault(s_own.Contains) is { } name)
        {
            throw new OptionException($"{nameof(ProviderOptions)} has {name}, which is a property of {nameof(CudaDevice)}: "
                + $"{nameof(DeviceId)}, {nameof(Tf32)}, {nameof(MemoryLimit)} or {nameof(Graphs)}.");
        }
    }
}
