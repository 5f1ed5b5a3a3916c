using MLNetLora.Artifacts;
using MLNetLora.Onnx;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.Training;

/// <summary>
/// One of the optimizer's states for all parameters, zeros at first. The parameters' vector begins with those whose states are in 8 bits, whole blocks of
/// them: of these the state has codes and an absmax for each block; of the others it has floats.
/// </summary>
internal sealed class StateVector : IDisposable
{
    private readonly NativeBuffer _codes;
    private readonly NativeBuffer _absmax;
    private readonly NativeBuffer _floats;
    private readonly List<NativeTensor> _views = [];
    private readonly DynamicMap _map;
    private readonly long _eightBit;

    /// <summary>Allocates zeros.</summary>
    /// <param name="state">Which state.</param>
    /// <param name="length">Number of parameters.</param>
    /// <param name="eightBit">How many of them, from the first on, have it in 8 bits: a multiple of <see cref="DynamicMap.BlockSize"/>.</param>
    /// <param name="device">The memory of a device; null for the process's.</param>
    /// <exception cref="NativeMemoryException">There is not that much memory.</exception>
    public StateVector(OptimizerState state, long length, long eightBit, DeviceMemory? device = null)
    {
        _map = state.Map;
        _eightBit = eightBit;
        List<NativeBuffer> parts = [];
        try
        {
            foreach (long bytes in (long[])[eightBit, eightBit / DynamicMap.BlockSize * sizeof(float), (length - eightBit) * sizeof(float)])
            {
                parts.Add(new NativeBuffer(bytes, $"the optimizer's {state.Name.Replace('_', ' ')}", device));
            }
        }
        catch
        {
            parts.ForEach(part => part.Dispose());
            throw;
        }

        (_codes, _absmax, _floats) = (parts[0], parts[1], parts[2]);
        Parts = [($"{state.Name}.codes", _codes), ($"{state.Name}.absmax", _absmax), (state.Name, _floats)];
    }

    /// <summary>All of its memory, by names under which it can be saved: with the parameters and <see cref="TrainingState"/> a run goes on from it to the
    /// last bit.</summary>
    public IReadOnlyList<(string Name, NativeBuffer Memory)> Parts { get; }

    /// <summary>Its bytes.</summary>
    public long Bytes => Parts.Sum(part => part.Memory.Bytes);

    /// <summary>The floats of parameters that have floats, as the runtime sees them; the vector disposes the tensor.</summary>
    public NativeTensor View(long start, long length) =>
        Keep(_floats.View(ElementType.Float32, (start - _eightBit) * sizeof(float), [length], length * sizeof(float)));

    /// <summary>The codes of whole blocks, [blocks, 256], and their absmax, [blocks, 1], as the runtime sees them; the vector disposes the tensors.</summary>
    public NativeTensor[] Blocks(long start, long length)
    {
        (long first, long blocks) = (start / DynamicMap.BlockSize, length / DynamicMap.BlockSize);
        return [
            Keep(_codes.View(ElementType.UInt8, start, [blocks, DynamicMap.BlockSize], length)),
            Keep(_absmax.View(ElementType.Float32, first * sizeof(float), [blocks, 1], blocks * sizeof(float)))];
    }

    /// <summary>Expands a block of 8 bits.</summary>
    /// <param name="start">Its first parameter, a multiple of <see cref="DynamicMap.BlockSize"/>.</param>
    /// <param name="block">As many floats as a block has.</param>
    public void Dequantize(long start, Span<float> block) => _map.Dequantize(_codes.Span<byte>(start, block.Length), AbsMax(start)[0], block);

    /// <summary>The reverse.</summary>
    public void Quantize(long start, ReadOnlySpan<float> block) => AbsMax(start)[0] = _map.Quantize(block, _codes.Span<byte>(start, block.Length));

    /// <inheritdoc/>
    public void Dispose()
    {
        _views.ForEach(view => view.Dispose());
        _views.Clear();
        _codes.Dispose();
        _absmax.Dispose();
        _floats.Dispose();
    }

    private NativeTensor Keep(NativeTensor view)
    {
        _views.Add(view);
        return view;
    }

    private Span<float> AbsMax(long start) => _absmax.Span<float>(start / DynamicMap.BlockSize * sizeof(float), 1);
}
