using Microsoft.ML.OnnxRuntime;
using MLNetLora.Quantization;

namespace MLNetLora.Runtime;

/// <summary>Turns what native calls throw into errors that say what to do.</summary>
internal static class NativeCalls
{
    /// <summary>Called before every native call of this thread with its kind: tests make the n-th one fail. Null: nothing.</summary>
    [ThreadStatic]
    internal static Action<string>? Before;

    // What the runtime's allocators and the C++ library say; there is no error code of its own for it.
    private static readonly string[] s_noMemory = [
        "allocate memory", "bad_alloc", "out of memory", "bad allocation", "not enough memory", "smaller than requested bytes", "CUBLAS_STATUS_ALLOC_FAILED",
    ];

    /// <summary>Makes a native call.</summary>
    /// <param name="what">Its kind: tensor, session, run, allocation.</param>
    /// <param name="advice">Who asked, which decides what helps against too little memory.</param>
    /// <param name="call">The call.</param>
    /// <exception cref="NativeMemoryException">Memory ran out.</exception>
    /// <exception cref="MLNetLoraException">The runtime refused, or is not there.</exception>
    public static T Do<T>(string what, Advice advice, Func<T> call)
    {
        try
        {
            Before?.Invoke(what);
            return call();
        }
        catch (Exception e) when (IsOutOfMemory(e))
        {
            throw new NativeMemoryException($"The memory ran out {advice.While}.{advice.Remedy}", e) { What = $"The memory ran out {advice.While}." };
        }
        catch (OnnxRuntimeException e)
        {
            throw new MLNetLoraException($"ONNX Runtime failed {advice.While}: {e.Message}", e);
        }
        catch (Exception e) when (e is DllNotFoundException or TypeInitializationException or EntryPointNotFoundException)
        {
            throw new MLNetLoraException("The native ONNX Runtime was not found, or is of another version than Microsoft.ML.OnnxRuntime.Managed. "
                + "Add the package that brings it to the application: Microsoft.ML.OnnxRuntime (CPU) or Microsoft.ML.OnnxRuntime.Gpu.", e);
        }
    }

    private static bool IsOutOfMemory(Exception e) => e is OutOfMemoryException
        || (e is OnnxRuntimeException && s_noMemory.Any(sign => e.Message.Contains(sign, StringComparison.OrdinalIgnoreCase)));
}

/// <summary>What was going on when a native call failed, and what helps if memory was the cause.</summary>
/// <param name="While">Follows "ONNX Runtime failed": "while it ran training_model.onnx".</param>
/// <param name="Remedy">A sentence with a blank before it; empty where there is no good advice.</param>
internal sealed record Advice(string While, string Remedy)
{
    /// <summary>A tensor of a few bytes: whoever asked for it knows no more.</summary>
    public static Advice None { get; } = new("while a tensor was made", "");

    /// <summary>The advice for a session.</summary>
    /// <param name="doing">"while it ran", "while it loaded".</param>
    /// <param name="model">The graph's file name.</param>
    /// <param name="use">What the session is for.</param>
    /// <param name="device">Where it runs; null for the processor.</param>
    public static Advice For(string doing, string model, SessionUse use, Device? device = null) => new($"{doing} {model}{On(device)}", (use switch
    {
        SessionUse.Training or SessionUse.PrepackedTraining => " Lower BatchSize or MaximumSequenceLength, or set ActivationCheckpointing.",
        SessionUse.Generation when device is not (CudaDevice or CustomDevice) => // where they are not quantized
            " Lower the generation's BatchSize or MaximumNewTokens, shorten the prompts, or hold the weights in 8 or 4 bits (WeightPrecision).",
        _ => " Lower the generation's BatchSize or MaximumNewTokens, or shorten the prompts.",
    }) + OnDevice(device));

    /// <summary>Whose fault it may be: there are as many providers as people write.</summary>
    private static string On(Device? device) => device is CustomDevice ? $" on {device}" : "";

    /// <summary>What helps on a device, whatever was going on.</summary>
    public static string OnDevice(Device? device) =>
        device is CudaDevice { MemoryLimit: long limit } ? FormattableString.Invariant($" Or raise MemoryLimit of {device}, which is {limit} bytes.") : "";
}
