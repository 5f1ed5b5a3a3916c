namespace MLNetLora.Onnx;

/// <summary>
/// A frozen weight [out, in] quantized in blocks along its inputs, w = scale · (q − zero), as ONNX Runtime's MatMulNBits reads it. For generation: it
/// has no product backwards.
/// </summary>
/// <param name="packed">[out, blocks, bytes], unsigned 8-bit.</param>
/// <param name="scales">[out, blocks], in the type that is computed in.</param>
/// <param name="zeroPoints">[out, bytes], packed as the weight is; null stands for 2^(bits−1).</param>
/// <param name="bits">Bits of a weight.</param>
/// <param name="blockSize">Weights of a block.</param>
/// <param name="inputs">Inputs without padding.</param>
internal sealed class BlockWeight(Value packed, Value scales, Value? zeroPoints, int bits, int blockSize, long inputs) : Weight(packed)
{
    /// <inheritdoc/>
    public override Value Product(GraphBuilder graph, Value x, Weight? bias = null) =>
        graph.MatMulNBits(x, Source, scales, zeroPoints, bits, blockSize, inputs, bias?.Read(graph)); // [rows, in] -> [rows, out]

    /// <inheritdoc/>
    public override Value InputGradient(GraphBuilder graph, Value dy, Value? sum) =>
        throw new NotSupportedException($"{Source.Name} is quantized in blocks and has no product backwards.");
}
