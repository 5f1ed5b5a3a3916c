using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Onnx.Differentiable;

namespace MLNetLora.Adapters;

/// <summary>The adapter of one layer inside a graph.</summary>
/// <param name="Module">Layer, rank, scaling.</param>
/// <param name="A">[rank, in].</param>
/// <param name="B">[out, rank].</param>
/// <param name="Mask">The mask of all tokens, [tokens, in]; null without dropout.</param>
/// <param name="KeptScale">1/(1−p), 1 without dropout.</param>
internal sealed record AttachedLora(LoraModule Module, Weight A, Weight B, DropoutMask? Mask = null, float KeptScale = 1f)
{
    /// <summary>DoRA's magnitudes, [out]; null for plain LoRA.</summary>
    public Weight? Magnitude { get; init; }

    /// <summary>What DoRA divides them by, [out]; null: it is computed from the weights, once in the graph.</summary>
    public Value? Norm { get; init; }

    /// <summary>The factors that are taken out of the base, as A and B are; null where none are.</summary>
    public (Value A, Value B)? Initial { get; init; }

    /// <summary>The layer with its adapter, an <see cref="AdaptedLinear"/>: [tokens, in] → [tokens, out].</summary>
    public Value Apply(ModelGraph model, Value x, Weight weight, Weight? bias)
    {
        GraphBuilder g = model.Graph;
        float scaling = (float)Module.Scaling;
        DropoutMask? mask = Mask is not null && x.Shape[0] != Mask.Rows.Shape[0]
            ? Mask with { Rows = g.Gather(Mask.Rows, model.OutputRows) } // behind OutputOnly
            : Mask;
        weight = Initial is var (a, b) ? new ResidualWeight(weight, a, b, scaling) : weight;
        if (Magnitude is null)
        {
            return Lora.Apply(model.Tape, x, weight, bias, A, B, scaling, mask, KeptScale);
        }

        Value norm = Norm ?? g.Once(Magnitude.Source, () => (Dora.Norm(g, weight, A, B, scaling), Magnitude.Source)).Item1; // [out]
        return Dora.Apply(model.Tape, x, weight, bias, A, B, Magnitude, norm, scaling, mask, KeptScale);
    }
}
