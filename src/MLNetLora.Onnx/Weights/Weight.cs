namespace MLNetLora.Onnx;

/// <summary>A weight of a linear layer, norm or embedding. Each way to store one is a file beside this one: how it is read, multiplied with, and
/// differentiated through.</summary>
/// <param name="source">The tensor as it is stored; a trained weight's gradient is recorded under it.</param>
internal abstract class Weight(Value source)
{
    /// <summary>The tensor as it is stored: bytes in a file, or a graph input.</summary>
    public Value Source { get; } = source;

    /// <summary>Whether its gradient is wanted.</summary>
    public virtual bool IsTrainable => false;

    /// <summary>The weight in float32, in the shape that the checkpoint has it in.</summary>
    /// <exception cref="NotSupportedException">This storage can only be multiplied with.</exception>
    public virtual Value Read(GraphBuilder graph) => throw new NotSupportedException($"{Source.Name} is quantized and can only be multiplied with.");

    /// <summary>Some rows in float32: [n] 64-bit → [n, in]. They are looked up first and cast after, so that a 16-bit weight is never cast whole.</summary>
    public virtual Value Rows(GraphBuilder graph, Value ids) => graph.Cast(graph.Gather(Source, ids), ElementType.Float32);

    /// <summary>x Wᵀ + bias: [rows, in] → [rows, out].</summary>
    public abstract Value Product(GraphBuilder graph, Value x, Weight? bias = null);

    /// <summary>dy W + sum, the gradient of x: [rows, out] → [rows, in].</summary>
    /// <exception cref="NotSupportedException">This storage is for generation only.</exception>
    public abstract Value InputGradient(GraphBuilder graph, Value dy, Value? sum);
}
