namespace MLNetLora.Onnx;

/// <summary>A frozen weight in 16 bits (float16 or bfloat16), upcast to float32 where it is used.</summary>
/// <param name="source">The tensor.</param>
/// <param name="upcastOnce">
/// All uses share one cast: for sessions that make it when they load and keep its result. Else every use has its own, so that no float32 copy lives
/// between forward and backward.
/// </param>
internal sealed class HalfWeight(Value source, bool upcastOnce = false) : FloatWeight(source)
{
    /// <inheritdoc/>
    public override Value Read(GraphBuilder graph) => upcastOnce
        ? graph.Once(Source, () => (graph.Cast(Source, ElementType.Float32), Source)).Item1
        : graph.Cast(Source, ElementType.Float32);
}
