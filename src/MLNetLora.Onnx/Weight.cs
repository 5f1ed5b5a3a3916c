namespace MLNetLora.Onnx;

/// <summary>A weight of a linear layer, norm or embedding: frozen bytes in a file, or a trainable graph input.</summary>
/// <param name="Source">The tensor as it is stored.</param>
/// <param name="IsTrainable">True when its gradient is wanted.</param>
public sealed record Weight(Value Source, bool IsTrainable = false)
{
    /// <summary>The weight in float32. A 16-bit weight is cast anew at every use, so that no float32 copy lives between forward and backward, unless <see cref="IsWidenedOnce"/>.</summary>
    public Value Read(GraphBuilder graph) => this switch
    {
        { Blocks: null, Int8: null, IsWidenedOnce: true } => graph.Once(Source, () => (graph.Cast(Source, ElementType.Float32), Source)).Item1,
        { Blocks: null, Int8: null } => graph.Cast(Source, ElementType.Float32),
        _ => throw new InvalidOperationException($"{Source.Name} is rounded and can only be multiplied with."),
    };

    /// <summary>All uses of a 16-bit weight share one cast: for sessions that make it when they load and keep its result.</summary>
    public bool IsWidenedOnce { get; init; }

    /// <summary>How <see cref="Source"/> is rounded, [outputs, blocks, bytes] then; null for plain numbers. Weights rounded in blocks have no product backwards: they are for generation.</summary>
    public WeightBlocks? Blocks { get; init; }

    /// <summary>The weight rounded for products of 8-bit integers, forward and backward; null for plain numbers.</summary>
    public Int8Weight? Int8 { get; init; }

    /// <summary>Multiplies in a graph that is mostly run with one row; null in others.</summary>
    public RowStreams? Streams { get; init; }

    /// <summary>x Wᵀ + bias: [rows, in] → [rows, out].</summary>
    public Value Product(GraphBuilder graph, Value x, Weight? bias = null) => this switch
    {
        { Blocks: { } blocks } => graph.MatMulNBits(x, Source, blocks, bias?.Read(graph)),
        { Int8: { } rounded } => Int8Product.Forward(graph, x, rounded, bias?.Read(graph)),
        { Streams: { } streams } => streams.Product(x, Read(graph), bias?.Read(graph)),
        _ => graph.Gemm(x, Read(graph), bias?.Read(graph), transB: true),
    };

    /// <summary>dy W + sum, the gradient of x: [rows, out] → [rows, in].</summary>
    public Value InputGradient(GraphBuilder graph, Value dy, Value? sum) => Int8 is null
        ? graph.Gemm(dy, Read(graph), sum)
        : Int8Product.Backward(graph, dy, Int8, sum);
}

/// <summary>A weight [out, in] rounded in blocks along its inputs: w = scale · (q − zero).</summary>
/// <param name="Scales">[out, blocks], float32.</param>
/// <param name="ZeroPoints">[out, bytes], packed as the weight is; null stands for 2^(bits−1).</param>
/// <param name="Bits">Bits of a weight.</param>
/// <param name="Size">Weights of a block.</param>
/// <param name="Inputs">Inputs without padding.</param>
public sealed record WeightBlocks(Value Scales, Value? ZeroPoints, int Bits, int Size, long Inputs);

/// <summary>
/// A frozen weight [out, in] rounded twice to signed 8-bit integers: each product has one scale for every column of its right side, and those are outputs going forward and inputs going back.
/// </summary>
/// <param name="Forward">(W·smoothing)ᵀ rounded, [in, out].</param>
/// <param name="ForwardScales">[out], float32.</param>
/// <param name="InverseSmoothing">[in], float32: what x is multiplied by before it is rounded; the same value for layers with the same x.</param>
/// <param name="Backward">W rounded, [out, in].</param>
/// <param name="BackwardScales">[in], float32.</param>
public sealed record Int8Weight(Value Forward, Value ForwardScales, Value InverseSmoothing, Value Backward, Value BackwardScales);
