using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.Inference;

/// <summary>The memory of weights that are quantized in blocks for generation. ONNX Runtime lays the packed ones out for its kernels once more;
/// <see cref="FreePacked"/> then gives up what was only the source.</summary>
internal sealed class BlockMemory : IDisposable
{
    private readonly InitializerMemory _packed;
    private readonly InitializerMemory _scales;
    private readonly BlockWeights _weights;
    private readonly int _threads;

    /// <summary>Reads and quantizes.</summary>
    /// <param name="weights">What.</param>
    /// <param name="threads">Threads; 0 takes all cores.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    /// <exception cref="CheckpointException">A file cannot be read.</exception>
    /// <exception cref="NativeMemoryException">There is too little memory.</exception>
    public BlockMemory(BlockWeights weights, int threads, CancellationToken cancellation)
    {
        _weights = weights;
        _threads = threads;
        _packed = new InitializerMemory(weights.Packed, "the quantized weights");
        try
        {
            _scales = new InitializerMemory(weights.Scales, "the scales of the quantized weights");
            Quantize(cancellation);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>What takes the place of the graph's initializers, by their names.</summary>
    public IReadOnlyDictionary<string, NativeTensor> Initializers => _packed.Tensors.Concat(_scales.Tensors).ToDictionary();

    /// <summary>
    /// Gives the packed weights' memory back where ONNX Runtime has made its own copy of them. Whether it has depends on the processor and nothing
    /// tells; so the memory is cleared, and only when the session still computes the same is it given back. Scales and zero points stay.
    /// </summary>
    /// <param name="run">Runs the session over every weight; called twice.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    public void FreePacked(Func<float[]> run, CancellationToken cancellation)
    {
        float[] before = run();
        _packed.Clear();
        if (run().AsSpan().SequenceEqual(before))
        {
            _packed.Discard(); // the session still points there, so the addresses must stay; only the pages go
            return;
        }

        Quantize(cancellation);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _packed.Dispose();
        _scales?.Dispose(); // not there yet where the constructor failed
    }

    private void Quantize(CancellationToken cancellation)
    {
        _weights.Quantize(name => _packed.Of(name) is { IsEmpty: false } memory ? memory : _scales.Of(name), _threads, cancellation);
    }
}
