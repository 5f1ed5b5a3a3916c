using System.Buffers;
using MLNetLora.Artifacts;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.Training;

/// <summary>
/// The trainable tensors, their gradients and what the optimizer remembers of them: flat vectors. Tensors that the optimizer treats alike stand together, so
/// that it sees a few groups; the training graph sees slices of the same memory under the tensors' names. Those with 8-bit states come first, each from the
/// beginning of a block on, so that no block has numbers of two tensors; what is left over in a tensor's last block stays zero.
/// </summary>
internal sealed class ParameterSet : IDisposable
{
    private readonly Dictionary<string, (TrainableTensor Tensor, long Offset)> _slots = [];

    /// <summary>Allocates zeros for the tensors.</summary>
    /// <param name="tensors">The tensors.</param>
    /// <param name="optimizer">The optimizer whose states are held; null for parameters that are not trained.</param>
    /// <param name="isFast">Tensors whose rate is multiplied (LoRA+); null: none.</param>
    /// <param name="device">The memory of the device that they are trained on; null for the process's.</param>
    public ParameterSet(IReadOnlyList<TrainableTensor> tensors, Optimizer? optimizer = null, Func<TrainableTensor, bool>? isFast = null,
        DeviceMemory? device = null)
    {
        long offset = 0;
        long eightBit = 0;
        List<ParameterGroup> groups = [];
        foreach (IGrouping<(bool IsEightBit, bool Decays, bool IsFast), TrainableTensor> group in tensors
            .GroupBy(tensor => (IsEightBit: optimizer?.IsEightBit(tensor) ?? false, tensor.Decays, IsFast: isFast?.Invoke(tensor) ?? false))
            .OrderByDescending(group => group.Key.IsEightBit).ThenByDescending(group => group.Key.Decays).ThenBy(group => group.Key.IsFast))
        {
            long start = offset;
            foreach (TrainableTensor tensor in group)
            {
                _slots[tensor.Name] = (tensor, offset);
                offset += group.Key.IsEightBit ? (tensor.Count + DynamicMap.BlockSize - 1) / DynamicMap.BlockSize * DynamicMap.BlockSize : tensor.Count;
            }

            if (offset > start)
            {
                groups.Add(new ParameterGroup(start, offset - start, group.Key.Decays, group.Key.IsFast, group.Key.IsEightBit));
                eightBit = group.Key.IsEightBit ? offset : eightBit;
            }
        }

        Tensors = tensors;
        Groups = groups;
        List<FloatBuffer> vectors = [];
        List<StateVector> states = [];
        try
        {
            vectors.Add(new FloatBuffer(offset, "the trained parameters", device));
            vectors.Add(new FloatBuffer(offset, "their gradients", device));
            foreach (OptimizerState state in optimizer?.States ?? [])
            {
                states.Add(new StateVector(state, offset, eightBit, device));
            }
        }
        catch
        {
            vectors.ForEach(vector => vector.Dispose());
            states.ForEach(state => state.Dispose());
            throw;
        }

        (Values, Gradients, States) = (vectors[0], vectors[1], states);
    }

    /// <summary>The tensors in order of declaration.</summary>
    public IReadOnlyList<TrainableTensor> Tensors { get; }

    /// <summary>The optimizer's groups.</summary>
    public IReadOnlyList<ParameterGroup> Groups { get; }

    /// <summary>Parameters, as the last whole step left them.</summary>
    public FloatBuffer Values { get; private set; }

    /// <summary>Accumulated gradients.</summary>
    public FloatBuffer Gradients { get; private set; }

    /// <summary>What the optimizer remembers, in its order.</summary>
    public IReadOnlyList<StateVector> States { get; }

    /// <summary>
    /// Ends a step whose optimizer wrote the new parameters where the gradients were: the two vectors change roles, and the gradients are cleared.
    /// Until then the old parameters are untouched, whatever happens while the optimizer runs, and no memory is needed for it.
    /// </summary>
    public void Swap()
    {
        (Values, Gradients) = (Gradients, Values);
        Gradients.Clear();
    }

    /// <summary>A tensor of one of the two vectors to read: on a device a copy.</summary>
    public ReadOnlySpan<float> Read(FloatBuffer buffer, string name)
    {
        if (!buffer.IsOnDevice)
        {
            return Slice(buffer, name);
        }

        float[] values = new float[_slots[name].Tensor.Count];
        buffer.Read(_slots[name].Offset, values);
        return values;
    }

    /// <summary>Fills a parameter.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="fill">Fills it, whole.</param>
    public void Fill(string name, SpanAction<float, string> fill)
    {
        if (!Values.IsOnDevice)
        {
            fill(Slice(Values, name), name);
            return;
        }

        float[] values = new float[_slots[name].Tensor.Count];
        fill(values, name);
        Values.Write(_slots[name].Offset, values);
    }

    /// <summary>A tensor's slice of one of the two vectors; not on a device.</summary>
    public Span<float> Slice(FloatBuffer buffer, string name) => buffer.Span(_slots[name].Offset, checked((int)_slots[name].Tensor.Count));

    /// <summary>A tensor's slice as the runtime sees it.</summary>
    public NativeTensor View(FloatBuffer buffer, string name) => buffer.View(_slots[name].Offset, _slots[name].Tensor.Shape);

    /// <inheritdoc/>
    public void Dispose()
    {
        Values.Dispose();
        Gradients.Dispose();
        foreach (StateVector state in States)
        {
            state.Dispose();
        }
    }
}

/// <summary>Parameters that stand together and that the optimizer treats alike.</summary>
/// <param name="Start">Where they begin in the vectors.</param>
/// <param name="Length">How many they are.</param>
/// <param name="Decays">Whether weight decay applies.</param>
/// <param name="IsFast">Whether their rate is multiplied by <see cref="TrainingOptions.LoraPlusRatio"/>.</param>
/// <param name="IsEightBit">Whether their states are in 8 bits.</param>
internal sealed record ParameterGroup(long Start, long Length, bool Decays, bool IsFast, bool IsEightBit);
