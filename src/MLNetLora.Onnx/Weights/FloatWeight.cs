namespace MLNetLora.Onnx;

/// <summary>A weight in float32, frozen or trained.</summary>
/// <param name="source">The tensor.</param>
/// <param name="isTrainable">Whether its gradient is wanted.</param>
internal class FloatWeight(Value source, bool isTrainable = false) : Weight(source)
{
    /// <inheritdoc/>
    public override bool IsTrainable => isTrainable;

    /// <summary>Multiplies in graphs that are mostly run with one row; null in others.</summary>
    public RowStreams? Streams { get; init; }

    /// <inheritdoc/>
    public override Value Read(GraphBuilder graph) => Source;

    /// <inheritdoc/>
    public override Value Product(GraphBuilder graph, Value x, Weight? bias = null) => Streams is null
        ? graph.Gemm(x, Read(graph), bias?.Read(graph), transB: true)
        : Streams.Product(x, Read(graph), bias?.Read(graph));

    /// <inheritdoc/>
    public override Value InputGradient(GraphBuilder graph, Value dy, Value? sum) => graph.Gemm(dy, Read(graph), sum); // [rows, out] [out, in]
}
