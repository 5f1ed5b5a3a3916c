using System.Globalization;
using Microsoft.ML.OnnxRuntime;
using MLNetLora.Artifacts;

namespace MLNetLora.Runtime;

/// <summary>What a session is tuned for.</summary>
internal enum SessionUse
{
    /// <summary>Graphs that are written out as they shall run; 16-bit weights are upcast at each use.</summary>
    Training,

    /// <summary>The same, but frozen weights are upcast and laid out for the processor at load: private copies, faster products.</summary>
    PrepackedTraining,

    /// <summary>Weights are read for every token: 16-bit ones are upcast once, at load.</summary>
    Generation,

    /// <summary>The same with weights quantized in blocks, whose products are fast only where they are laid out for the processor.</summary>
    QuantizedGeneration,
}

/// <summary>
/// One ONNX Runtime session over a built model. Thread-safe: runs may be concurrent, and Dispose during a run waits for nothing; the session is freed
/// when its last run has ended.
/// </summary>
internal sealed class OnnxSession : IDisposable
{
    private readonly SessionHandle _handle;
    private readonly Advice _running;
    private readonly bool _isCustom;
    private readonly bool _captures;

    /// <summary>
    /// Where benchmarks want ONNX Runtime's profiles of the sessions made from now on by this thread, a path without its end; written when a session
    /// is disposed. Null: none.
    /// </summary>
    [ThreadStatic]
    internal static string? ProfilePrefix;

    /// <summary>Creates the session; external weights are mapped, not read.</summary>
    /// <param name="artifact">The model.</param>
    /// <param name="use">What it is for.</param>
    /// <param name="threads">Threads; 0 takes all cores.</param>
    /// <param name="initializers">Tensors that take the place of initializers; the session keeps them. Null for none.</param>
    /// <param name="device">Where it runs; null for the processor.</param>
    /// <param name="captures">Whether runs may be captured as CUDA graphs; on a <see cref="CudaDevice"/>.</param>
    /// <param name="cancellation">Ends the loading.</param>
    /// <exception cref="NativeMemoryException">There is too little memory.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    /// <exception cref="MLNetLoraException">The runtime refuses the model, or is not there.</exception>
    public OnnxSession(ModelArtifact artifact, SessionUse use, int threads, IReadOnlyDictionary<string, NativeTensor>? initializers = null,
        Device? device = null, bool captures = false, CancellationToken cancellation = default)
    {
        cancellation.ThrowIfCancellationRequested();
        if (device is CudaDevice or CustomDevice && initializers?.FirstOrDefault(item => !item.Value.IsOnDevice).Key is { } outside)
        {
            // The runtime would read the file in its place, without a word.
            throw new InvalidOperationException($"{artifact.Name} is given {outside} in the process's memory, and runs on {device}.");
        }

        _isCustom = device is CustomDevice;
        _captures = captures;
        _running = Advice.For("while it ran", artifact.Name, use, device);
        try
        {
            InferenceSession session = NativeCalls.Do("session", Advice.For("while it loaded", artifact.Name, use, device), () =>
            {
                Telemetry.TurnOffAfter();
                using SessionOptions options = Options(artifact, use, threads, device, captures);
                foreach ((string name, NativeTensor tensor) in initializers ?? new Dictionary<string, NativeTensor>())
                {
                    options.AddInitializer(name, tensor.Value);
                }

                using CancellationTokenRegistration ended = cancellation.UnsafeRegister(
                    static options => ((SessionOptions)options!).SetLoadCancellationFlag(true), options);
                return DeviceUse.Beside(device, () => new InferenceSession(artifact.Bytes, options));
            });
            _handle = new SessionHandle(session, [.. initializers?.Values ?? []], device);
            InputNames = session.InputNames;
        }
        catch (MLNetLoraException e) when (e is not NativeMemoryException && cancellation.IsCancellationRequested)
        {
            throw new OperationCanceledException("The call was cancelled.", e, cancellation);
        }
    }

    /// <summary>Names of the inputs.</summary>
    public IReadOnlyList<string> InputNames { get; }

    /// <summary>Names of the inputs that are read on the device; what sizes depend on is read on the processor.</summary>
    public IReadOnlySet<string> DeviceInputs() => NativeCalls.Do("session", _running, () =>
    {
        using IDisposableReadOnlyCollection<OrtMemoryInfo> memory = _handle.Session.GetMemoryInfosForInputs();
        return InputNames.Zip(memory).Where(input => input.Second.Name == "Cuda").Select(input => input.First).ToHashSet();
    });

    /// <summary>Keeps the session, to be followed by <see cref="Release"/>.</summary>
    internal void Hold() => _handle.Hold();

    /// <summary>Ends <see cref="Hold"/>.</summary>
    internal void Release() => _handle.DangerousRelease();

    /// <summary>What allocates in a kind of memory that the session knows.</summary>
    internal OrtAllocator Allocator(OrtMemoryInfo memory) => new(_handle.Session, memory);

    /// <summary>Runs with outputs that are there already.</summary>
    /// <param name="inputs">Names of the inputs.</param>
    /// <param name="values">Their values.</param>
    /// <param name="outputs">Names of the outputs.</param>
    /// <param name="results">Where they are written.</param>
    /// <param name="graph">The CUDA graph that the run is captured as, or that is replayed where this thread has captured it; null for none.</param>
    /// <param name="cancellation">Ends the run at its next node.</param>
    /// <exception cref="OperationCanceledException">The token was cancelled; the outputs are undefined, the session can run again.</exception>
    /// <exception cref="ObjectDisposedException">The session or a tensor was disposed before.</exception>
    /// <exception cref="NativeMemoryException">Memory ran out.</exception>
    public void Run(IReadOnlyCollection<string> inputs, IReadOnlyCollection<NativeTensor> values, IReadOnlyCollection<string> outputs,
        IReadOnlyCollection<NativeTensor> results, int? graph = null, CancellationToken cancellation = default) => Held([.. values, .. results],
        (session, run) =>
    {
        if (_captures)
        {
            run.AddRunConfigEntry("gpu_graph_id", (graph ?? -1).ToString(CultureInfo.InvariantCulture));
        }

        // Some results stand where inputs do, and a provider that compiles many nodes into one may write the former before it has read the latter.
        using NativeTensors? twins = _isCustom ? new NativeTensors(results.Select(tensor => tensor.Twin())) : null;
        IEnumerable<NativeTensor> written = twins ?? (IEnumerable<NativeTensor>)results;
        session.Run(run, inputs, [.. values.Select(tensor => tensor.Held)], outputs, [.. written.Select(tensor => tensor.Held)]);
        foreach ((NativeTensor twin, NativeTensor result) in twins?.Zip(results) ?? [])
        {
            twin.CopyTo(result);
        }

        return true;
    }, cancellation);

    /// <summary>Runs and returns new outputs.</summary>
    /// <exception cref="OperationCanceledException">The token was cancelled; the session can run again.</exception>
    /// <exception cref="ObjectDisposedException">The session or a tensor was disposed before.</exception>
    /// <exception cref="NativeMemoryException">Memory ran out.</exception>
    public NativeTensors Run(IReadOnlyCollection<string> inputs, IReadOnlyCollection<NativeTensor> values, IReadOnlyCollection<string> outputs,
        CancellationToken cancellation = default) =>
        Held([.. values], (session, run) => new NativeTensors(session.Run(run, inputs, [.. values.Select(tensor => tensor.Held)], outputs)), cancellation);

    /// <inheritdoc/>
    public void Dispose() => _handle.Dispose();

    private static SessionOptions Options(ModelArtifact artifact, SessionUse use, int threads, Device? device, bool captures)
    {
        SessionOptions options = new();

        // Training graphs are written as they shall run. The optimizers find nothing in them but cost seconds at start, and constant folding would
        // keep float32 copies of 16-bit weights, which is what is wanted only where they are packed. The one that merges equal nodes would merge what
        // is computed twice on purpose.
        options.GraphOptimizationLevel = use == SessionUse.Training ? GraphOptimizationLevel.ORT_DISABLE_ALL : GraphOptimizationLevel.ORT_ENABLE_BASIC;
        if (use == SessionUse.PrepackedTraining)
        {
            options.AddSessionConfigEntry("optimization.disable_specified_optimizers", "CommonSubexpressionElimination");
        }

        options.EnableMemoryPattern = false; // a plan per input shape; with varying lengths it doubles the peak
        options.IntraOpNumThreads = threads;
        options.LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL; // errors come as exceptions; a cancelled run would write one, too
        if (ProfilePrefix is string prefix)
        {
            options.ProfileOutputPathPrefix = $"{prefix}.{Path.GetFileNameWithoutExtension(artifact.Name)}";
            options.EnableProfiling = true;
        }

        options.AddSessionConfigEntry("session.disable_prepacking", use is SessionUse.PrepackedTraining or SessionUse.QuantizedGeneration ? "0" : "1");
        options.AddSessionConfigEntry("session.prepack.enable_parallel", "1"); // a weight to a thread; one after the other takes two to five times as long

        // Not session.set_denormal_as_zero: it would change the floating-point mode of the threads of whoever calls.
        options.AddSessionConfigEntry("optimization.constant_folding_max_output_size_in_bytes", long.MaxValue.ToString(CultureInfo.InvariantCulture));
        if (artifact.WeightsFolder is string folder)
        {
            options.AddSessionConfigEntry("session.model_external_initializers_file_folder_path", folder);
        }

        if (device is CudaDevice cuda)
        {
            CudaProvider.Append(options, cuda, captures);
        }
        else if (device is CustomDevice custom)
        {
            CustomProvider.Append(options, custom);
        }

        return options;
    }

    // Session and tensors are held while the runtime works, so that none of them goes when another thread disposes it.
    private T Held<T>(NativeTensor[] tensors, Func<InferenceSession, RunOptions, T> action, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        ObjectDisposedException.ThrowIf(_handle.IsDisposed, this);
        _handle.Hold();
        int held = 0;
        try
        {
            for (; held < tensors.Length; held++)
            {
                tensors[held].Hold();
            }

            using RunOptions run = NativeCalls.Do("run", _running, () => new RunOptions());
            using CancellationTokenRegistration ended = cancellation.UnsafeRegister(static options => ((RunOptions)options!).Terminate = true, run);
            return NativeCalls.Do("run", _running, () => DeviceUse.Beside(_handle.Device, () => action(_handle.Session, run)));
        }
        catch (MLNetLoraException e) when (e is not NativeMemoryException && cancellation.IsCancellationRequested)
        {
            throw new OperationCanceledException("The call was cancelled.", e, cancellation);
        }
        finally
        {
            for (int i = 0; i < held; i++)
            {
                tensors[i].DangerousRelease();
            }

            _handle.DangerousRelease();
        }
    }
}
