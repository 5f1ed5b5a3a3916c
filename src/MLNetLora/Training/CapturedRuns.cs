using System.Runtime.InteropServices;
using MLNetLora.Artifacts;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Runtime;

namespace MLNetLora.Training;

/// <summary>Where the loss of a micro-batch goes.</summary>
/// <param name="Losses">The losses.</param>
/// <param name="Index">Which of them.</param>
/// <param name="View">That one.</param>
internal sealed record LossSlot(FloatBuffer Losses, long Index, NativeTensor View);

/// <summary>
/// Micro-batches whose kernels are captured as CUDA graphs: of each shape once, and then all are started with one call. A graph reads and writes where its
/// capture did, and what the processor reads of its inputs is as it was then; so a graph is for the addresses, shapes and sizes that it was captured with, and
/// each has inputs of its own on the device. A capture runs the kernels more than once, and they add to the gradients: it comes after a run without one, which
/// is the micro-batch's and takes the memory that a capture must not take, and the gradients are put back to those of that run.
/// </summary>
/// <param name="session">The session, which captures.</param>
/// <param name="device">Its device's memory.</param>
internal sealed class CapturedRuns(OnnxSession session, DeviceMemory device) : IDisposable
{
    /// <summary>Most graphs: each holds some memory of the device until the session goes.</summary>
    internal const int Most = 32;

    /// <summary>Most parts of the loss or of attention: the runtime does not capture what puts more together.</summary>
    internal const int MostParts = 32;

    private const int Fine = 64; // what sizes are multiples of up to FineTo
    private const int FineTo = 512;
    private const int Coarse = 256; // and beyond

    private readonly Dictionary<(Thread Thread, string Facts), CapturedRun> _runs = []; // the runtime keeps the graphs of each thread apart
    private readonly IReadOnlySet<string> _deviceInputs = session.DeviceInputs();
    private int _started; // captures; the number of one that failed is not used again, since the runtime may have kept a part of it

    /// <summary>Refuses what has no captured form.</summary>
    /// <exception cref="OptionException">It has none.</exception>
    public static void RequireFor(Device? device, QwenConfig config, string folder)
    {
        string? reason = device is not CudaDevice { Graphs: true } ? null
            : config.DeltaNet is not null ? "its recurrent layers are loops of the runtime"
            : config.Experts is not null ? "which experts have rows differs from step to step, and their blocks were not tried in a graph"
            : null;
        if (reason is not null)
        {
            throw new OptionException($"{nameof(CudaDevice)}.{nameof(CudaDevice.Graphs)} is true; it must be false for {folder} ({config.ModelType}): "
                + $"{reason}, and a CUDA graph is the same kernels every time.");
        }
    }

    /// <summary>Refuses rows whose attention goes through the backward pass in more parts than can be put together in a graph.</summary>
    /// <exception cref="OptionException">They are too long.</exception>
    public static void RequireLength(int longest) => Require.That(longest <= MostParts * ChunkPlan.CudaQueries,
        $"{nameof(CudaDevice)}.{nameof(CudaDevice.Graphs)}", true,
        FormattableString.Invariant($"false with rows of {longest} tokens: graphs are captured of up to {MostParts * ChunkPlan.CudaQueries}"));

    /// <summary>One of few sizes, at least a count.</summary>
    public static int Padded(int count) => Multiple(Math.Max(count, 1), count <= FineTo ? Fine : Coarse);

    /// <summary>One of few lengths, at least a batch's.</summary>
    /// <param name="length">The batch's.</param>
    /// <param name="plan">How the graph is cut.</param>
    public static int Length(int length, ChunkPlan plan) => Multiple(Padded(length), plan.Attention);

    /// <summary>Runs a micro-batch.</summary>
    /// <param name="inputs">All inputs.</param>
    /// <param name="outputs">All outputs but the loss, which are parts of the gradients.</param>
    /// <param name="gradients">The gradients, which are inputs, too.</param>
    /// <param name="loss">Where the loss goes.</param>
    /// <param name="cancellation">Ends it on the way, but not within a graph that is there already; the gradients are then undefined.</param>
    public void Run(Dictionary<string, NativeTensor> inputs, Dictionary<string, NativeTensor> outputs, FloatBuffer gradients, LossSlot loss,
        CancellationToken cancellation)
    {
        string[] names = [.. outputs.Keys, "loss"];
        (Thread, string) key = (Thread.CurrentThread, Facts(inputs, gradients));
        if (!_runs.TryGetValue(key, out CapturedRun? run))
        {
            session.Run(inputs.Keys, inputs.Values, names, [.. outputs.Values, loss.View], cancellation: cancellation);
            if (_started < Most)
            {
                _runs[key] = DeviceUse.Alone(() => Capture(inputs, outputs, names, gradients, cancellation));
            }

            return;
        }

        run.Write(inputs);
        session.Run(inputs.Keys, run.Inputs(inputs), names, [.. outputs.Values, run.Loss], run.Graph, cancellation);
        run.CopyLoss(loss);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (CapturedRun run in _runs.Values)
        {
            run.Dispose();
        }

        _runs.Clear();
    }

    private static int Multiple(int count, int of) => (count + of - 1) / of * of;

    private CapturedRun Capture(Dictionary<string, NativeTensor> inputs, Dictionary<string, NativeTensor> outputs, string[] names, FloatBuffer gradients,
        CancellationToken cancellation)
    {
        using FloatBuffer saved = new(gradients.Length, "the gradients while kernels are captured", device);
        gradients.CopyTo(0, saved, 0, gradients.Length);
        CapturedRun run = new(++_started, inputs.Where(input => IsCopied(input.Key, input.Value)), device);
        bool isCaptured = false;
        try
        {
            run.Write(inputs);
            session.Run(inputs.Keys, run.Inputs(inputs), names, [.. outputs.Values, run.Loss], run.Graph, cancellation);
            isCaptured = true;
            return run;
        }
        catch (MLNetLoraException e) when (e is not NativeMemoryException)
        {
            throw new MLNetLoraException(
                $"The kernels of a micro-batch could not be captured. Set {nameof(CudaDevice)}.{nameof(CudaDevice.Graphs)} to false. {e.Message}", e);
        }
        finally
        {
            if (!isCaptured)
            {
                run.Dispose();
            }

            saved.CopyTo(0, gradients, 0, gradients.Length);
        }
    }

    /// <summary>Whether an input is in the process's memory and read on the device: the runtime copies it where a run is not captured.</summary>
    private bool IsCopied(string name, NativeTensor tensor) => !tensor.IsOnDevice && _deviceInputs.Contains(name);

    /// <summary>What a graph is bound to: where inputs are, or how large, or what the processor reads of them. Tables of rotations that were made anew where
    /// shorter ones had been begin with the same numbers, so their addresses are enough, too.</summary>
    private string Facts(Dictionary<string, NativeTensor> inputs, FloatBuffer gradients)
    {
        List<long> facts = [gradients.Length];
        foreach ((string name, NativeTensor tensor) in inputs)
        {
            if (tensor.IsOnDevice)
            {
                facts.Add(tensor.Address);
            }
            else if (IsCopied(name, tensor))
            {
                facts.AddRange(tensor.Kind().Shape);
            }
            else
            {
                facts.AddRange(tensor.Span<long>()); // sizes
            }
        }

        return new string(MemoryMarshal.Cast<long, char>(CollectionsMarshal.AsSpan(facts)));
    }
}
