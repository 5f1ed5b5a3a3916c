using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Onnx.Differentiable;

namespace MLNetLora.Adapters;

/// <summary>The adapter of one layer inside a graph.</summary>
/// <param name="Module">Layer, rank, scaling.</param>
/// <param name="A">[rank, in].</param>
/// <param name="B">[out, rank].</param>
/// <param name="Mask">[tokens, ⌈in / 8⌉], the bits of <see cref="DropoutMask"/>; null without dropout.</param>
/// <param name="KeptScale">1/(1−p), 1 without dropout.</param>
internal sealed record AttachedLora(LoraModule Module, Weight A, Weight B, Value? Mask = null, float KeptScale = 1f)
{
    /// <summary>The layer with its adapter, an <see cref="AdaptedLinear"/>: [tokens, in] → [tokens, out].</summary>
    public Value Apply(ModelGraph model, Value x, Weight weight, Weight? bias)
    {
        Value? mask = Mask is not null && x.Shape[0] != Mask.Shape[0]
            ? model.Graph.Gather(Mask, model.OutputRows) // [rows, ⌈in / 8⌉] behind OutputOnly
            : Mask;
        return Lora.Apply(model.Tape, x, weight, bias, A, B, (float)Module.Scaling, mask, KeptScale);
    }
}
