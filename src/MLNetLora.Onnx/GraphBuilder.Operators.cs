namespace MLNetLora.Onnx;

/// <content>One method per operator used; each computes the output's shape.</content>
internal sealed partial class GraphBuilder
{
    private const string Microsoft = "com.microsoft";

    private readonly List<MatrixProduct> _products = [];

    /// <summary>The matrix products of the graph, in order of their making: what a benchmark runs alone to know the floor.</summary>
    internal IReadOnlyList<MatrixProduct> Products
    {
        get
        {
            HashSet<string> needed = Needed();
            return [.. _products.Where(product => needed.Contains(product.Result.Name))];
        }
    }

    /// <summary>a + b with broadcasting, under a name of its own where one is given.</summary>
    public Value Add(Value a, Value b, string? name = null) => Elementwise("Add", a, b, name);

    /// <summary>a − b with broadcasting, under a name of its own where one is given.</summary>
    public Value Sub(Value a, Value b, string? name = null) => Elementwise("Sub", a, b, name);

    /// <summary>a ∘ b with broadcasting.</summary>
    public Value Mul(Value a, Value b) => Elementwise("Mul", a, b);

    /// <summary>a / b with broadcasting.</summary>
    public Value Div(Value a, Value b) => Elementwise("Div", a, b);

    /// <summary>The smaller of a and b with broadcasting.</summary>
    public Value Min(Value a, Value b) => Elementwise("Min", a, b);

    /// <summary>The larger of a and b with broadcasting.</summary>
    public Value Max(Value a, Value b) => Elementwise("Max", a, b);

    /// <summary>The largest of tensors of one shape, element by element.</summary>
    public Value Max(IReadOnlyList<Value> parts) => Node("Max", parts, parts[0].Type, parts[0].Shape);

    /// <summary>−x.</summary>
    public Value Neg(Value x) => Unary("Neg", x);

    /// <summary>|x|.</summary>
    public Value Abs(Value x) => Unary("Abs", x);

    /// <summary>−1, 0 or 1.</summary>
    public Value Sign(Value x) => Unary("Sign", x);

    /// <summary>√x.</summary>
    public Value Sqrt(Value x) => Unary("Sqrt", x);

    /// <summary>Natural logarithm.</summary>
    public Value Log(Value x) => Unary("Log", x);

    /// <summary>eˣ.</summary>
    public Value Exp(Value x) => Unary("Exp", x);

    /// <summary>ln(1 + eˣ).</summary>
    public Value Softplus(Value x) => Unary("Softplus", x);

    /// <summary>1 / (1 + e⁻ˣ).</summary>
    public Value Sigmoid(Value x) => Unary("Sigmoid", x);

    /// <summary>x·sigmoid(x).</summary>
    public Value Silu(Value x) => QuickGelu(x, 1f);

    /// <summary>x·sigmoid(alpha·x).</summary>
    public Value QuickGelu(Value x, float alpha) => Node("QuickGelu", [x], x.Type, x.Shape, Microsoft, ("alpha", alpha));

    /// <summary>Softmax over the last axis.</summary>
    public Value Softmax(Value x) => Node("Softmax", [x], x.Type, x.Shape, "", ("axis", -1L));

    /// <summary>The same numbers in another element type; the cast of an initializer is written at the head of the file.</summary>
    public Value Cast(Value x, ElementType type)
    {
        if (x.Type == type)
        {
            return x;
        }

        using IDisposable section = Into(_initializers.Contains(x.Name) ? _head : _group);
        return Node("Cast", [x], type, x.Shape, "", ("to", (long)type));
    }

    /// <summary>alpha · op(a) op(b) + c for matrices, op being a transpose where asked; c broadcasts and may be null.</summary>
    /// <param name="a">[M, K], or [K, M] with <paramref name="transA"/>.</param>
    /// <param name="b">[K, N], or [N, K] with <paramref name="transB"/>.</param>
    /// <param name="c">[M, N], [N] or null.</param>
    /// <param name="transA">Transposes a.</param>
    /// <param name="transB">Transposes b.</param>
    /// <param name="alpha">Factor of the product; c is not scaled.</param>
    public Value Gemm(Value a, Value b, Value? c = null, bool transA = false, bool transB = false, float alpha = 1f)
    {
        Value y = Node("Gemm", c is null ? [a, b] : [a, b, c], a.Type, [a.Shape[transA ? 1 : 0], b.Shape[transB ? 0 : 1]], "",
            ("transA", transA ? 1L : 0L), ("transB", transB ? 1L : 0L), ("alpha", alpha));
        Note(new MatrixProduct(a, b, transA, transB, y));
        return y;
    }

    /// <summary>alpha · op(a) op(b) over the last two axes, the leading ones being batches; the result's last axis may be called otherwise than that
    /// of b.</summary>
    public Value MatMul(Value a, Value b, bool transA = false, bool transB = false, float alpha = 1f, Dimension? columns = null)
    {
        Dimension m = a.Shape[transA ? ^1 : ^2];
        Dimension n = columns ?? b.Shape[transB ? ^2 : ^1];
        Value y = Node("FusedMatMul", [a, b], a.Type, [.. a.Shape.SkipLast(2), m, n], Microsoft, ("transA", transA ? 1L : 0L), ("transB", transB ? 1L : 0L),
            ("alpha", alpha));
        Note(new MatrixProduct(a, b, transA, transB, y));
        return y;
    }

    /// <summary>x Wᵀ for a stack of matrices W that is not the first axis of its tensor but the second.</summary>
    /// <param name="x">[1, M, K].</param>
    /// <param name="w">[N, batches, K].</param>
    /// <returns>[batches, M, N].</returns>
    public Value MatMulStacked(Value x, Value w) =>
        Node("FusedMatMul", [x, w], x.Type, [w.Shape[1], x.Shape[1], w.Shape[0]], Microsoft, ("transB", 1L), ("transBatchB", 1L));

    /// <summary>x Wᵀ + bias, the weight quantized in blocks; the rows of x are quantized to 8 bits where the processor multiplies those (accuracy
    /// level 4).</summary>
    /// <param name="x">[M, in].</param>
    /// <param name="packed">[out, blocks, bytes].</param>
    /// <param name="scales">[out, blocks].</param>
    /// <param name="zeroPoints">[out, bytes]; null for the middle, 2^(bits−1).</param>
    /// <param name="bits">Bits of a weight.</param>
    /// <param name="blockSize">Weights of a block.</param>
    /// <param name="inputs">Inputs without padding.</param>
    /// <param name="bias">[out], or null.</param>
    public Value MatMulNBits(Value x, Value packed, Value scales, Value? zeroPoints, int bits, int blockSize, long inputs, Value? bias = null)
    {
        List<Value?> operands = [x, packed, scales, zeroPoints, null, bias]; // the fifth is g_idx, an order of the inputs
        while (operands[^1] is null)
        {
            operands.RemoveAt(operands.Count - 1);
        }

        return Node("MatMulNBits", operands, x.Type, [x.Shape[0], packed.Shape[0]], Microsoft,
            ("K", inputs), ("N", packed.Shape[0].Size), ("bits", (long)bits), ("block_size", (long)blockSize), ("accuracy_level", 4L));
    }

    /// <summary>x Wᵀ, the weight in 4-bit codes of flat blocks.</summary>
    /// <param name="x">[M, in].</param>
    /// <param name="codes">[out · in / 2], unsigned 8-bit, the first code of a byte in its high half.</param>
    /// <param name="absmax">[out · in / block size].</param>
    /// <param name="outputs">out.</param>
    /// <param name="inputs">in.</param>
    /// <param name="blockSize">Weights of a block.</param>
    /// <param name="isNormalFloat">NF4, else FP4.</param>
    public Value MatMulBnb4(Value x, Value codes, Value absmax, long outputs, long inputs, int blockSize, bool isNormalFloat) =>
        Node("MatMulBnb4", [x, codes, absmax], x.Type, [x.Shape[0], outputs], Microsoft,
            ("K", inputs), ("N", outputs), ("block_size", (long)blockSize), ("quant_type", isNormalFloat ? 1L : 0L));

    /// <summary>Whole numbers to the nearest, even ones where two are as near: round(x / scale) + zero, kept within 0 to 255.</summary>
    /// <param name="x">Any shape.</param>
    /// <param name="scale">One for each index of the axis.</param>
    /// <param name="zero">Unsigned 8-bit, as many.</param>
    /// <param name="axis">The axis.</param>
    public Value QuantizeLinear(Value x, Value scale, Value zero, int axis) =>
        Node("QuantizeLinear", [x, scale, zero], ElementType.UInt8, x.Shape, "", ("axis", (long)axis));

    /// <summary>scaleA · scaleB · (a − zeroA) b, summed in 32-bit integers.</summary>
    /// <param name="a">[M, K], unsigned 8-bit.</param>
    /// <param name="b">[K, N], signed 8-bit.</param>
    /// <param name="scaleA">No axes.</param>
    /// <param name="scaleB">[N].</param>
    /// <param name="zeroA">No axes.</param>
    public Value MatMulIntegerToFloat(Value a, Value b, Value scaleA, Value scaleB, Value zeroA) =>
        Node("MatMulIntegerToFloat", [a, b, scaleA, scaleB, zeroA], ElementType.Float32, [a.Shape[0], b.Shape[1]], Microsoft);

    /// <summary>Sum over the given axes.</summary>
    /// <param name="x">Any shape.</param>
    /// <param name="axes">Axes, counted from the end when negative.</param>
    /// <param name="keepAxes">Keeps summed axes with size 1.</param>
    public Value ReduceSum(Value x, long[] axes, bool keepAxes) => Reduce("ReduceSum", x, axes, keepAxes);

    /// <summary>Mean over the given axes.</summary>
    public Value ReduceMean(Value x, long[] axes, bool keepAxes) => Reduce("ReduceMean", x, axes, keepAxes);

    /// <summary>Maximum over the given axes.</summary>
    public Value ReduceMax(Value x, long[] axes, bool keepAxes)
    {
        if (!ForCuda || !keepAxes || axes is not [-1])
        {
            return Reduce("ReduceMax", x, axes, keepAxes);
        }

        Value at = ArgMax(x);
        return Node("GatherElements", [x, at], x.Type, at.Shape, "", ("axis", -1L));
    }

    /// <summary>Where the largest element along the last axis stands, of equal ones the first: […, N] → […, 1], 64-bit.</summary>
    public Value ArgMax(Value x) => Node("ArgMax", [x], ElementType.Int64, [.. x.Shape.SkipLast(1), 1], "", ("axis", -1L), ("keepdims", 1L));

    /// <summary>Smallest over the given axes.</summary>
    public Value ReduceMin(Value x, long[] axes, bool keepAxes) => Reduce("ReduceMin", x, axes, keepAxes);

    /// <summary>Sums of the elements up to each one along an axis, itself included; with <paramref name="reverse"/> from each one on.</summary>
    public Value CumSum(Value x, int axis, bool reverse = false) => Node("CumSum", [x, Int64(axis)], x.Type, x.Shape, "", ("reverse", reverse ? 1L : 0L));

    /// <summary>Sum of squares over all axes, no axes left.</summary>
    public Value SumOfSquares(Value x) => Node("ReduceSumSquare", [x], x.Type, [], "", ("keepdims", 0L));

    /// <summary>Σ of x² over one axis, which goes.</summary>
    public Value SumOfSquaresOver(Value x, long axis) => Reduce("ReduceSumSquare", x, [axis], keepAxes: false);

    /// <summary>Rows of x chosen by indices along axis 0.</summary>
    /// <param name="x">[N, …].</param>
    /// <param name="indices">Any shape.</param>
    /// <param name="name">A name of its own; null for any.</param>
    public Value Gather(Value x, Value indices, string? name = null) =>
        Emit("Gather", [x, indices], name is null ? Unique("Gather") : Claim(name), x.Type, [.. indices.Shape, .. x.Shape.Skip(1)], "", ("axis", 0L));

    /// <summary>
    /// A size as a number beside those of a device: one more than the last of 0, 1, … size − 1. The size itself is in the processor's memory, where sizes are
    /// wanted, and would have to be copied.
    /// </summary>
    /// <param name="counted">[size], the numbers from 0 on.</param>
    /// <returns>[1], 64-bit.</returns>
    public Value CountOf(Value counted) => Add(Gather(counted, Int64s(-1)), Int64s(1));

    /// <summary>Slices of x chosen by indices along its last axis: […, N] → […, chosen].</summary>
    /// <param name="x">[…, N].</param>
    /// <param name="indices">[chosen].</param>
    public Value GatherLastAxis(Value x, Value indices) =>
        Node("Gather", [x, indices], x.Type, [.. x.Shape.SkipLast(1), .. indices.Shape], "", ("axis", x.Shape.Count - 1L));

    /// <summary>One element per row: x[i, indices[i, 0]].</summary>
    /// <param name="x">[M, N].</param>
    /// <param name="indices">[M, 1].</param>
    public Value GatherLast(Value x, Value indices) => Node("GatherElements", [x, indices], x.Type, indices.Shape, "", ("axis", 1L));

    /// <summary>The k largest of each row, the largest first, and where they stood; of equal ones the first.</summary>
    /// <param name="x">[rows, n].</param>
    /// <param name="k">How many, at most n.</param>
    /// <returns>[rows, k] and, 64-bit, [rows, k].</returns>
    public (Value Values, Value Indices) TopK(Value x, int k)
    {
        Dimension[] shape = [x.Shape[0], k];
        Value[] outputs = Nodes("TopK", [x, Int64s(k)], [(x.Type, shape, null), (ElementType.Int64, shape, null)]);
        return (outputs[0], outputs[1]);
    }

    /// <summary>A vector in ascending order, and where its elements stood; equal ones stay in their order.</summary>
    /// <param name="x">[n].</param>
    /// <param name="count">n, a vector of one element.</param>
    public (Value Values, Value Indices) Sort(Value x, Value count)
    {
        Value[] outputs = Nodes("TopK", [x, count], [(x.Type, x.Shape, null), (ElementType.Int64, x.Shape, null)], "", ("largest", 0L));
        return (outputs[0], outputs[1]);
    }

    /// <summary>Sums up to and with each element: [n] → [n].</summary>
    public Value CumSum(Value x) => Node("CumSum", [x, Int64(0)], x.Type, x.Shape);

    /// <summary>Where a vector is not zero: [n] → [count], 64-bit.</summary>
    public Value NonZero(Value x, Dimension count) => Reshape(Node("NonZero", [x], ElementType.Int64, [1, count]), [-1], [count]);

    /// <summary>data with updates in the places of each row that indices name: result[i, indices[i, j]] = updates[i, j].</summary>
    /// <param name="data">[rows, n].</param>
    /// <param name="indices">[rows, k], 64-bit; no place twice.</param>
    /// <param name="updates">[rows, k].</param>
    public Value ScatterLast(Value data, Value indices, Value updates) =>
        Node("ScatterElements", [data, indices, updates], data.Type, data.Shape, "", ("axis", 1L));

    /// <summary>A vector with updates in the places that indices name, or added there.</summary>
    /// <param name="data">[n].</param>
    /// <param name="indices">[m], 64-bit; twice the same only where they are added.</param>
    /// <param name="updates">[m].</param>
    /// <param name="add">Adds instead of replacing.</param>
    public Value ScatterVector(Value data, Value indices, Value updates, bool add = false) =>
        Node("ScatterElements", [data, indices, updates], data.Type, data.Shape, "", ("axis", 0L), ("reduction", add ? "add" : "none"));

    /// <summary>data with updates added to the rows that indices name; rows named twice receive both.</summary>
    /// <param name="data">[N, n].</param>
    /// <param name="indices">[M, 1].</param>
    /// <param name="updates">[M, n].</param>
    /// <remarks>ScatterElements, since the CPU kernel of ScatterND adds from several threads without a lock and loses updates where an index repeats.</remarks>
    public Value ScatterAdd(Value data, Value indices, Value updates) =>
        Node("ScatterElements", [data, Expand(indices, Shape(updates), updates.Shape), updates], data.Type, data.Shape, "", ("axis", 0L), ("reduction", "add"));

    /// <summary>Some columns of a matrix: [m, n] → [m, columns].</summary>
    public Value GatherColumns(Value x, long[] columns) =>
        Node("Gather", [x, Int64s(columns)], x.Type, [x.Shape[0], columns.Length], "", ("axis", 1L));

    /// <summary>A matrix with some columns replaced.</summary>
    /// <param name="data">[m, n].</param>
    /// <param name="columns">[k], 64-bit, each once.</param>
    /// <param name="updates">[m, k].</param>
    public Value ScatterColumns(Value data, Value columns, Value updates) =>
        Node("ScatterElements", [data, Expand(columns, Shape(updates), updates.Shape), updates], data.Type, data.Shape, "", ("axis", 1L));

    /// <summary>data with the rows that indices name replaced by updates; no row may be named twice with different updates.</summary>
    /// <param name="data">[N, n].</param>
    /// <param name="indices">[M, 1].</param>
    /// <param name="updates">[M, n].</param>
    public Value ScatterRows(Value data, Value indices, Value updates) => ForCuda
        ? Node("ScatterElements", [data, Expand(indices, Shape(updates), updates.Shape), updates], data.Type, data.Shape, "", ("axis", 0L))
        : Node("ScatterND", [data, indices, updates], data.Type, data.Shape);

    /// <summary>Zeros with updates in the rows that indices name; a row may be named twice only where its updates are zero.</summary>
    /// <param name="sizes">(N, n).</param>
    /// <param name="shape">The same as dimensions.</param>
    /// <param name="indices">[M].</param>
    /// <param name="updates">[M, n].</param>
    public Value RowsOfZeros(Value sizes, IReadOnlyList<Dimension> shape, Value indices, Value updates)
    {
        Value zeros = Zeros(sizes, shape);
        return ScatterRows(zeros, UnsqueezeLast(indices), updates);
    }

    /// <summary>The same data in another shape; 0 keeps an axis and −1 is worked out.</summary>
    /// <param name="x">Any shape.</param>
    /// <param name="sizes">The constant shape.</param>
    /// <param name="shape">What it is called symbolically.</param>
    public Value Reshape(Value x, long[] sizes, IReadOnlyList<Dimension> shape) => Node("Reshape", [x, Int64s(sizes)], x.Type, shape);

    /// <summary>The same data in a shape computed at run time.</summary>
    public Value Reshape(Value x, Value sizes, IReadOnlyList<Dimension> shape) => Node("Reshape", [x, sizes], x.Type, shape);

    /// <summary>x with an axis of size 1 at the end.</summary>
    public Value UnsqueezeLast(Value x) => Node("Unsqueeze", [x, Int64s(-1)], x.Type, [.. x.Shape, 1]);

    /// <summary>Axes of x in another order.</summary>
    public Value Transpose(Value x, params long[] order) => Node("Transpose", [x], x.Type, [.. order.Select(axis => x.Shape[(int)axis])], "", ("perm", order));

    /// <summary>Sizes of x as a vector.</summary>
    public Value Shape(Value x) => Node("Shape", [x], ElementType.Int64, [x.Shape.Count]);

    /// <summary>Tensors joined along an axis.</summary>
    public Value Concat(IReadOnlyList<Value> parts, int axis, Dimension joined)
    {
        Dimension[] shape = [.. parts[0].Shape];
        shape[axis] = joined;
        return Node("Concat", [.. parts], parts[0].Type, shape, "", ("axis", (long)axis));
    }

    /// <summary>Split into equal parts along an axis.</summary>
    /// <param name="x">Tensor whose size on the axis is a multiple of <paramref name="parts"/>.</param>
    /// <param name="parts">Number of parts.</param>
    /// <param name="part">Size of a part.</param>
    /// <param name="axis">The axis.</param>
    public Value[] Split(Value x, int parts, Dimension part, int axis = 0) =>
        Nodes("Split", [x],
            [.. Enumerable.Repeat((x.Type, (IReadOnlyList<Dimension>)[.. x.Shape.Take(axis), part, .. x.Shape.Skip(axis + 1)], (string?)null), parts)], "",
            ("axis", (long)axis), ("num_outputs", (long)parts));

    /// <summary>Split into parts of run-time sizes along an axis; a part may be empty.</summary>
    /// <param name="x">Tensor whose size on the axis is the sum of <paramref name="sizes"/>.</param>
    /// <param name="sizes">[parts], 64-bit.</param>
    /// <param name="parts">What the sizes are called.</param>
    /// <param name="axis">The axis.</param>
    public Value[] Split(Value x, Value sizes, IReadOnlyList<Dimension> parts, int axis) =>
        Nodes("Split", [x, sizes],
            [.. parts.Select(part => (x.Type, (IReadOnlyList<Dimension>)[.. x.Shape.Take(axis), part, .. x.Shape.Skip(axis + 1)], (string?)null))], "",
            ("axis", (long)axis));

    /// <summary>The part of one axis from start (included) to end (excluded), both run-time vectors of one element.</summary>
    public Value Slice(Value x, Value start, Value end, int axis, Dimension size) =>
        Node("Slice", [x, start, end, Int64s(axis)], x.Type, [.. x.Shape.Take(axis), size, .. x.Shape.Skip(axis + 1)]);

    /// <summary>0, 1, … up to a run-time size without axes: [size], 64-bit.</summary>
    public Value Range(Value size, Dimension name) => Node("Range", [Int64(0), size, Int64(1)], ElementType.Int64, [name]);

    /// <summary>a > b, broadcast.</summary>
    public Value Greater(Value a, Value b) => Node("Greater", [a, b], ElementType.Bool, Broadcast(a.Shape, b.Shape));

    /// <summary>a ≥ b, broadcast.</summary>
    public Value GreaterOrEqual(Value a, Value b) => Node("GreaterOrEqual", [a, b], ElementType.Bool, Broadcast(a.Shape, b.Shape));

    /// <summary>a = b, broadcast.</summary>
    public Value Equal(Value a, Value b) => Node("Equal", [a, b], ElementType.Bool, Broadcast(a.Shape, b.Shape));

    /// <summary>Both true, broadcast.</summary>
    public Value And(Value a, Value b) => Node("And", [a, b], ElementType.Bool, Broadcast(a.Shape, b.Shape));

    /// <summary>a where the condition holds, b elsewhere, broadcast; to the given shape where the condition is itself broadcast along an axis of unknown
    /// size.</summary>
    public Value Where(Value condition, Value a, Value b, IReadOnlyList<Dimension>? shape = null) =>
        Node("Where", [condition, a, b], a.Type, shape ?? Broadcast(condition.Shape, Broadcast(a.Shape, b.Shape)));

    /// <summary>x broadcast to a shape computed at run time.</summary>
    public Value Expand(Value x, Value sizes, IReadOnlyList<Dimension> shape) => Node("Expand", [x, sizes], x.Type, shape);

    /// <summary>A tensor of zeros with a shape computed at run time.</summary>
    public Value Zeros(Value sizes, IReadOnlyList<Dimension> shape) => Node("ConstantOfShape", [sizes], ElementType.Float32, shape);

    /// <summary>1 / x.</summary>
    public Value Reciprocal(Value x) => Unary("Reciprocal", x);

    /// <summary>Root mean square normalization over the last axis: x / √(mean(x²) + epsilon) · weight.</summary>
    /// <returns>The result and 1/√(mean(x²) + epsilon), the last axis of which has size 1.</returns>
    public (Value Output, Value InverseStd) RmsNormalization(Value x, Value weight, float epsilon)
    {
        Value[] outputs = Nodes("SimplifiedLayerNormalization", [x, weight],
            [(x.Type, x.Shape, null), (ElementType.Float32, [.. x.Shape.SkipLast(1), 1], null)], "",
            ("axis", -1L), ("epsilon", epsilon), ("stash_type", 1L));
        return (outputs[0], outputs[1]);
    }

    /// <summary>gate·σ(gate)·up as one kernel (<see cref="FusedOperators"/>).</summary>
    /// <param name="gate">[rows, n].</param>
    /// <param name="up">[rows, n].</param>
    /// <returns>[rows, n].</returns>
    public Value SwiGlu(Value gate, Value up) => Node(FusedOperators.SwiGlu, [gate, up], gate.Type, gate.Shape, FusedOperators.Domain);

    /// <summary>Its gradients as one kernel.</summary>
    /// <param name="dy">[rows, n].</param>
    /// <param name="gate">[rows, n].</param>
    /// <param name="up">[rows, n].</param>
    /// <returns>[rows, n] each.</returns>
    public (Value OfGate, Value OfUp) SwiGluGrad(Value dy, Value gate, Value up)
    {
        Value[] gradients = Nodes(FusedOperators.SwiGluGrad, [dy, gate, up], [(gate.Type, gate.Shape, null), (up.Type, up.Shape, null)],
            FusedOperators.Domain);
        return (gradients[0], gradients[1]);
    }

    /// <summary>The gradient of x in <see cref="RmsNormalization"/> as one kernel.</summary>
    /// <param name="dy">[…, n].</param>
    /// <param name="x">[…, n].</param>
    /// <param name="weight">[n].</param>
    /// <param name="inverseStd">[…, 1], float32 whatever x is.</param>
    /// <returns>[…, n].</returns>
    public Value RmsNormGrad(Value dy, Value x, Value weight, Value inverseStd) =>
        Node(FusedOperators.RmsNormGrad, [dy, x, weight, inverseStd], x.Type, x.Shape, FusedOperators.Domain);

    /// <summary>Causal attention as one operator, which ONNX Runtime has one kernel for on a GPU (FlashAttention-2, Dao 2023, arXiv:2307.08691): y =
    /// softmax(q kᵀ / √d) v over the keys up to each query.</summary>
    /// <param name="q">[batch, heads, sequence, d].</param>
    /// <param name="k">[batch, kv, sequence, d].</param>
    /// <param name="v">[batch, kv, sequence, d].</param>
    /// <returns>The shape of q.</returns>
    public Value Attention(Value q, Value k, Value v) => Node("Attention", [q, k, v], q.Type, q.Shape, "", ("is_causal", 1L));

    /// <summary>Rotary position embedding, half-split (NeoX) layout.</summary>
    /// <param name="x">[batch, heads, sequence, headSize], or [batch, sequence, heads·headSize].</param>
    /// <param name="positions">[batch, sequence], rows of the tables.</param>
    /// <param name="cos">[positions, headSize / 2], or half of the dimensions that are rotated.</param>
    /// <param name="sin">The shape of cos.</param>
    /// <param name="partOf">Number of heads where only the first dimensions of each are rotated, twice as many as the tables have columns; 0 where all
    /// are.</param>
    public Value RotaryEmbedding(Value x, Value positions, Value cos, Value sin, int partOf = 0) => partOf == 0
        ? Node("RotaryEmbedding", [x, positions, cos, sin], x.Type, x.Shape, Microsoft, ("interleaved", 0L))
        : Node("RotaryEmbedding", [x, positions, cos, sin], x.Type, x.Shape, Microsoft, ("interleaved", 0L),
            ("num_heads", (long)partOf), ("rotary_embedding_dim", 2 * cos.Shape[1].Size));

    /// <summary>The gated delta rule token by token from a state on: S ← exp(g) S;  S ← S + k (β(v − Sᵀk))ᵀ;  y = Sᵀq.</summary>
    /// <param name="q">[batch, sequence, key heads · dk], normed and scaled.</param>
    /// <param name="k">[batch, sequence, key heads · dk], normed.</param>
    /// <param name="v">[batch, sequence, value heads · dv]; as many value heads in turn share a key head.</param>
    /// <param name="state">[batch, value heads, dk, dv].</param>
    /// <param name="decay">g, [batch, sequence, value heads].</param>
    /// <param name="beta">β, [batch, sequence, value heads].</param>
    /// <param name="present">Name of the new state.</param>
    /// <returns>y, [batch, sequence, value heads · dv], and the new state.</returns>
    public (Value Output, Value State) LinearAttention(Value q, Value k, Value v, Value state, Value decay, Value beta, string present)
    {
        Value[] outputs = Nodes("LinearAttention", [q, k, v, state, decay, beta], [(v.Type, v.Shape, null), (state.Type, state.Shape, present)], Microsoft,
            ("q_num_heads", q.Shape[2].Size / state.Shape[2].Size), ("kv_num_heads", state.Shape[1].Size), ("update_rule", "gated_delta"), ("scale", 1f));
        return (outputs[0], outputs[1]);
    }

    /// <summary>
    /// Runs a small graph once for each slice of the first axis, one after another: the graph does not grow with their number. The small graph sees what it
    /// is given and nothing else.
    /// </summary>
    /// <param name="name">What the loop is called.</param>
    /// <param name="states">What goes from step to step, as it is before the first.</param>
    /// <param name="slices">[steps, …] each.</param>
    /// <param name="step">Given the states and a slice of each, […], emits the new states and what is kept of the step, […].</param>
    /// <param name="reverse">From the last slice to the first.</param>
    /// <returns>What is kept, [steps, …], in the order of the slices.</returns>
    public Value[] Scan(
        string name, Value[] states, Value[] slices, Func<GraphBuilder, Value[], Value[], (Value[] States, Value[] Kept)> step, bool reverse = false)
    {
        GraphBuilder body = new(Unique(name));
        string prefix = body._graph.Name + "/"; // names within are none of those outside
        body._scope = prefix;
        Value[] before = [.. states.Select((state, i) => body.Input($"{prefix}state{i}", state.Type, [.. state.Shape]))];
        Value[] parts = [.. slices.Select((slice, i) => body.Input($"{prefix}slice{i}", slice.Type, [.. slice.Shape.Skip(1)]))];
        (Value[] after, Value[] kept) = step(body, before, parts);
        Value[] results = [.. after, .. kept];
        for (int i = 0; i < results.Length; i++)
        {
            if (before.Contains(results[i]) || parts.Contains(results[i]) || results.Take(i).Contains(results[i]))
            {
                body.Output($"{prefix}result{i}", results[i]); // an input, or twice the same, needs a node of its own
            }
            else
            {
                body.Output(results[i]);
            }
        }

        long[] directions = [.. Enumerable.Repeat(reverse ? 1L : 0L, Math.Max(slices.Length, kept.Length))];
        (ElementType, IReadOnlyList<Dimension>, string?)[] outputs =
        [
            .. after.Select(value => (value.Type, value.Shape, (string?)null)),
            .. kept.Select(value => (value.Type, (IReadOnlyList<Dimension>)[slices[0].Shape[0], .. value.Shape], (string?)null)),
        ];
        return Nodes("Scan", [.. states, .. slices], outputs, "", ("body", body.ToGraph()), ("num_scan_inputs", (long)slices.Length),
            ("scan_input_directions", directions[..slices.Length]), ("scan_output_directions", directions[..kept.Length]))[after.Length..];
    }

    /// <summary>Those in the body of a loop run as often as the run decides, and are left out.</summary>
    private void Note(MatrixProduct product)
    {
        if (_inner is null)
        {
            _products.Add(product);
        }
    }

    private Value Unary(string op, Value x) => Node(op, [x], x.Type, x.Shape);

    private Value Elementwise(string op, Value a, Value b, string? name = null) =>
        Emit(op, [a, b], name is null ? Unique(op) : Claim(name), a.Type, Broadcast(a.Shape, b.Shape));

    private Value Reduce(string op, Value x, long[] axes, bool keepAxes)
    {
        HashSet<int> reduced = [.. axes.Select(axis => (int)(axis < 0 ? axis + x.Shape.Count : axis))];
        Dimension[] shape = [.. x.Shape.Select((dimension, i) => (dimension, i))
            .Where(d => keepAxes || !reduced.Contains(d.i))
            .Select(d => reduced.Contains(d.i) ? 1 : d.dimension)];

        return Node(op, [x, Int64s(axes)], x.Type, shape, "", ("keepdims", keepAxes ? 1L : 0L));
    }

    private static Dimension[] Broadcast(IReadOnlyList<Dimension> a, IReadOnlyList<Dimension> b)
    {
        Dimension[] shape = new Dimension[Math.Max(a.Count, b.Count)];
        for (int i = 1; i <= shape.Length; i++)
        {
            Dimension left = i <= a.Count ? a[^i] : 1;
            Dimension right = i <= b.Count ? b[^i] : 1;
            shape[^i] = left == 1 ? right : left;
        }

        return shape;
    }
}

/// <summary>A Gemm or MatMul of a graph: its operands, and which are transposed.</summary>
internal sealed record MatrixProduct(Value A, Value B, bool TransA, bool TransB, Value Result);
