namespace MLNetLora.Onnx;

/// <summary>
/// A frozen weight [out, in] of 4-bit codes in flat blocks, w = level[code] · absmax (QLoRA, Dettmers et al. 2023,
/// arXiv:2305.14314; the layout of bitsandbytes).
/// Forward MatMulBnb4, which looks the levels up itself. Its product with the weight not transposed is wrong on CPUs, so backward and wherever the weight is
/// read, the graph looks them up: two bytes at a time in a table of 65,536 rows of four. Each use has its own copy in float32, so that one layer's is alive at
/// a time.
/// </summary>
/// <param name="codes">[out · in / 2], unsigned 8-bit.</param>
/// <param name="pairs">The same bytes as [out · in / 4], unsigned 16-bit.</param>
/// <param name="levels">The sixteen levels by code, and what they are called.</param>
/// <param name="blockSize">Weights of a block; divides out · in.</param>
/// <param name="absmax">Emits the blocks' absmax, [blocks].</param>
/// <param name="outputs">out.</param>
/// <param name="inputs">in.</param>
internal sealed class CodebookWeight(
    Value codes, Value pairs, Codebook levels, int blockSize, Func<GraphBuilder, Value> absmax, long outputs, long inputs) : Weight(codes)
{
    /// <inheritdoc/>
    public override Value Read(GraphBuilder graph)
    {
        using IDisposable head = graph.AtHead();
        using IDisposable precise = graph.InFloat32(); // what is in 16 bits then is the product of level and absmax, rounded once
        long blocks = outputs * inputs / blockSize;
        Value rows = graph.Gather(levels.Quadruples(graph), graph.Cast(pairs, ElementType.Int32)); // [out · in / 4, 4]
        Value scales = graph.Reshape(absmax(graph), [blocks, 1], [blocks, 1]);
        Value weights = graph.Mul(graph.Reshape(rows, [blocks, blockSize], [blocks, blockSize]), scales); // [blocks, size]
        return graph.Reshape(weights, [outputs, inputs], [outputs, inputs]);
    }

    /// <summary>Some rows: the whole is read for them, since blocks go across the ends of rows.</summary>
    public override Value Rows(GraphBuilder graph, Value ids) => graph.Gather(Read(graph), ids); // [n, in]

    /// <inheritdoc/>
    public override Value Product(GraphBuilder graph, Value x, Weight? bias = null)
    {
        // MatMulBnb4 would take absmax in 16 bits, too, and copies its levels from the processor's stack.
        if (graph.ComputeType != ElementType.Float32 || graph.ForCapture)
        {
            return graph.Gemm(x, Read(graph), bias?.Read(graph), transB: true);
        }

        Value scales;
        using (graph.AtHead())
        {
            scales = absmax(graph); // [blocks]
        }

        Value y = graph.MatMulBnb4(x, Source, scales, outputs, inputs, blockSize, levels.IsNormalFloat); // [rows, in] -> [rows, out]
        return bias is null ? y : graph.Add(y, bias.Read(graph));
    }

    /// <inheritdoc/>
    public override Value InputGradient(GraphBuilder graph, Value dy, Value? sum) => graph.Gemm(dy, Read(graph), sum); // [rows, out] [out, in]
}

/// <summary>The levels of a 4-bit format.</summary>
/// <param name="Name">What the table is called in the graph.</param>
/// <param name="Levels">By code.</param>
/// <param name="IsNormalFloat">NF4, else FP4: what MatMulBnb4 is told.</param>
internal sealed record Codebook(string Name, float[] Levels, bool IsNormalFloat)
{
    /// <summary>What each two bytes stand for, the first in the low half of a little-endian number: [65536, 4].</summary>
    public Value Quadruples(GraphBuilder graph)
    {
        float[] table = new float[65_536 * 4];
        for (int i = 0; i < 65_536; i++)
        {
            table[4 * i] = Levels[(i >> 4) & 15];
            table[(4 * i) + 1] = Levels[i & 15];
            table[(4 * i) + 2] = Levels[i >> 12];
            table[(4 * i) + 3] = Levels[(i >> 8) & 15];
        }

        return graph.Table(Name, table, 4);
    }
}
