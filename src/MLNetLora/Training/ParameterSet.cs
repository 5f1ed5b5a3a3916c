using MLNetLora.Artifacts;
using MLNetLora.Runtime;

namespace MLNetLora.Training;

/// <summary>
/// The trainable tensors with their gradients and AdamW moments: four flat vectors. Tensors that decay come first, so that the optimizer sees at most two
/// groups; the training graph sees slices of the same memory under the tensors' names.
/// </summary>
internal sealed class ParameterSet : IDisposable
{
    private readonly Dictionary<string, (TrainableTensor Tensor, long Offset)> _slots = [];

    /// <summary>Allocates zeros for the tensors.</summary>
    public ParameterSet(IReadOnlyList<TrainableTensor> tensors)
    {
        long offset = 0;
        List<(long, long, bool)> groups = [];
        foreach (bool decays in (bool[])[true, false])
        {
            long start = offset;
            foreach (TrainableTensor tensor in tensors.Where(tensor => tensor.Decays == decays))
            {
                _slots[tensor.Name] = (tensor, offset);
                offset += tensor.Count;
            }

            if (offset > start)
            {
                groups.Add((start, offset - start, decays));
            }
        }

        Tensors = tensors;
        Groups = groups;
        List<FloatBuffer> vectors = [];
        try
        {
            foreach (string what in (string[])["the trained parameters", "their gradients", "AdamW's first moments", "AdamW's second moments"])
            {
                vectors.Add(new FloatBuffer(offset, what));
            }
        }
        catch
        {
            vectors.ForEach(vector => vector.Dispose());
            throw;
        }

        (Values, Gradients, FirstMoment, SecondMoment) = (vectors[0], vectors[1], vectors[2], vectors[3]);
    }

    /// <summary>The tensors in order of declaration.</summary>
    public IReadOnlyList<TrainableTensor> Tensors { get; }

    /// <summary>The optimizer's groups: where each starts, how long it is, whether it decays.</summary>
    public IReadOnlyList<(long Start, long Length, bool Decays)> Groups { get; }

    /// <summary>Parameters, as the last whole step left them.</summary>
    public FloatBuffer Values { get; private set; }

    /// <summary>Accumulated gradients.</summary>
    public FloatBuffer Gradients { get; private set; }

    /// <summary>AdamW's first moment.</summary>
    public FloatBuffer FirstMoment { get; }

    /// <summary>AdamW's second moment.</summary>
    public FloatBuffer SecondMoment { get; }

    /// <summary>
    /// Ends a step whose optimizer wrote the new parameters where the gradients were: the two vectors change roles, and the gradients are cleared.
    /// Until then the old parameters are untouched, whatever happens while the optimizer runs, and no memory is needed for it.
    /// </summary>
    public void Swap()
    {
        (Values, Gradients) = (Gradients, Values);
        Gradients.Clear();
    }

    /// <summary>A tensor's slice of one of the four vectors.</summary>
    public Span<float> Slice(FloatBuffer buffer, string name) => buffer.Span(_slots[name].Offset, checked((int)_slots[name].Tensor.Count));

    /// <summary>A tensor's slice as the runtime sees it.</summary>
    public NativeTensor View(FloatBuffer buffer, string name) => buffer.View(_slots[name].Offset, _slots[name].Tensor.Shape);

    /// <inheritdoc/>
    public void Dispose()
    {
        Values.Dispose();
        Gradients.Dispose();
        FirstMoment.Dispose();
        SecondMoment.Dispose();
    }
}
