using Microsoft.ML.OnnxRuntime;
using MLNetLora.Artifacts;

namespace MLNetLora.Runtime;

/// <summary>What a session is tuned for.</summary>
internal enum SessionUse
{
    /// <summary>Graphs that are written out as they shall run; 16-bit weights are widened at each use.</summary>
    Training,

    /// <summary>The same, but frozen weights are widened and laid out for the processor at load: private copies, faster products.</summary>
    PrepackedTraining,

    /// <summary>Weights are read for every token: 16-bit ones are widened once, at load.</summary>
    Generation,

    /// <summary>The same with weights rounded in blocks, whose products are fast only where they are laid out for the processor.</summary>
    RoundedGeneration,
}

/// <summary>One ONNX Runtime session over a built model. Thread-safe as the runtime's sessions are: concurrent runs are allowed.</summary>
internal sealed class OnnxSession : IDisposable
{
    private readonly InferenceSession _session;
    private readonly string _name;

    /// <summary>Where benchmarks want ONNX Runtime's profiles of the sessions made from now on by this thread, a path without its end; written when a session is disposed. Null: none.</summary>
    [ThreadStatic]
    internal static string? ProfilePrefix;

    /// <summary>Creates the session; external weights are mapped, not read.</summary>
    /// <param name="artifact">The model.</param>
    /// <param name="use">What it is for.</param>
    /// <param name="threads">Threads; 0 takes all cores.</param>
    /// <param name="initializers">Rounded weights that take the place of initializers, and live as long as the session; null for none.</param>
    public OnnxSession(ModelArtifact artifact, SessionUse use, int threads, IReadOnlyDictionary<string, OrtValue>? initializers = null)
    {
        _name = artifact.Name;
        using SessionOptions options = new();

        // Training graphs are written as they shall run. The optimizers find nothing in them but cost seconds at start, and constant folding would keep float32 copies of 16-bit weights,
        // which is what is wanted only where they are packed. The one that merges equal nodes would merge what is computed twice on purpose.
        options.GraphOptimizationLevel = use == SessionUse.Training ? GraphOptimizationLevel.ORT_DISABLE_ALL : GraphOptimizationLevel.ORT_ENABLE_BASIC;
        if (use == SessionUse.PrepackedTraining)
        {
            options.AddSessionConfigEntry("optimization.disable_specified_optimizers", "CommonSubexpressionElimination");
        }

        options.EnableMemoryPattern = false; // a plan per input shape; with varying lengths it doubles the peak
        options.IntraOpNumThreads = threads;
        options.LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR;
        if (ProfilePrefix is string prefix)
        {
            options.ProfileOutputPathPrefix = $"{prefix}.{Path.GetFileNameWithoutExtension(artifact.Name)}";
            options.EnableProfiling = true;
        }

        foreach ((string name, OrtValue value) in initializers ?? new Dictionary<string, OrtValue>())
        {
            options.AddInitializer(name, value);
        }

        options.AddSessionConfigEntry("session.disable_prepacking", use is SessionUse.PrepackedTraining or SessionUse.RoundedGeneration ? "0" : "1");
        options.AddSessionConfigEntry("session.prepack.enable_parallel", "1"); // a weight to a thread; one after the other takes two to five times as long
        // Not session.set_denormal_as_zero: it would change the floating-point mode of the threads of whoever calls.
        options.AddSessionConfigEntry("optimization.constant_folding_max_output_size_in_bytes", long.MaxValue.ToString(System.Globalization.CultureInfo.InvariantCulture));
        if (artifact.WeightsFolder is string folder)
        {
            options.AddSessionConfigEntry("session.model_external_initializers_file_folder_path", folder);
        }

        try
        {
            _session = new InferenceSession(artifact.Bytes, options);
        }
        catch (OnnxRuntimeException e)
        {
            throw new MLNetLoraException($"ONNX Runtime refused {artifact.Name}: {e.Message}", e);
        }
        catch (Exception e) when (e is DllNotFoundException or TypeInitializationException or EntryPointNotFoundException)
        {
            throw new MLNetLoraException("The native ONNX Runtime was not found. Add a package that brings it to the application: Microsoft.ML.OnnxRuntime (CPU) or Microsoft.ML.OnnxRuntime.Gpu.", e);
        }
    }

    /// <summary>Names of the inputs.</summary>
    public IReadOnlyList<string> InputNames => _session.InputNames;

    /// <summary>Runs with outputs that are there already.</summary>
    public void Run(IReadOnlyCollection<string> inputs, IReadOnlyCollection<OrtValue> values, IReadOnlyCollection<string> outputs, IReadOnlyCollection<OrtValue> results) => Typed(run =>
    {
        _session.Run(run, inputs, values, outputs, results);
        return true;
    });

    /// <summary>Runs and returns new outputs.</summary>
    public IDisposableReadOnlyCollection<OrtValue> Run(IReadOnlyCollection<string> inputs, IReadOnlyCollection<OrtValue> values, IReadOnlyCollection<string> outputs) =>
        Typed(run => _session.Run(run, inputs, values, outputs));

    private T Typed<T>(Func<RunOptions, T> action)
    {
        using RunOptions run = new();
        try
        {
            return action(run);
        }
        catch (OnnxRuntimeException e)
        {
            throw new MLNetLoraException($"ONNX Runtime failed while running {_name}: {e.Message} If memory ran out, lower BatchSize or MaximumSequenceLength, or set ActivationCheckpointing.", e);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _session.Dispose();
}
