namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// Low-rank adaptation of matrices that are stacked, one for each expert, with PEFT's layout of the factors (ParamWrapper): expert e has the rows e·r to
/// (e + 1)·r of A and the columns e, e + experts, e + 2·experts, … of B. For one expert y = x Wᵀ + s · x Aᵀ Bᵀ.
/// </summary>
/// <param name="a">[r·experts, in], float32.</param>
/// <param name="b">[out, r·experts], float32.</param>
/// <param name="rank">r.</param>
/// <param name="scaling">s.</param>
internal sealed class ExpertLora(Weight a, Weight b, int rank, float scaling)
{
    /// <summary>[r·experts, in].</summary>
    public Value A => a.Source;

    /// <summary>[out, r·experts].</summary>
    public Value B => b.Source;

    /// <summary>s.</summary>
    public float Scaling => scaling;

    /// <summary>Emits the factors with the expert as an axis of its own, once for a layer.</summary>
    public Stack Stacked(GraphBuilder g)
    {
        (long experts, long inputs, long outputs) = (A.Shape[0].Size / rank, A.Shape[1].Size, B.Shape[0].Size);
        Value first = g.Reshape(A, [experts, rank, inputs], [experts, rank, inputs]); // [experts, r, in]
        Value second = g.Reshape(B, [outputs, rank, experts], [outputs, rank, experts]); // [out, r, experts]
        return new Stack(g, first, second, rank);
    }

    /// <summary>The factors of a layer's experts.</summary>
    /// <param name="g">The graph.</param>
    /// <param name="a">[experts, r, in].</param>
    /// <param name="b">[out, r, experts].</param>
    /// <param name="rank">r.</param>
    public sealed class Stack(GraphBuilder g, Value a, Value b, long rank)
    {
        private readonly (long Experts, long In, long Out) _size = (a.Shape[0].Size, a.Shape[2].Size, b.Shape[0].Size);

        /// <summary>A of one expert: [1] 64-bit → [r, in].</summary>
        public Value A(Value expert) => g.Reshape(g.Gather(a, expert), [rank, _size.In], [rank, _size.In]);

        /// <summary>B of one expert: [1] 64-bit → [out, r].</summary>
        public Value B(Value expert) => g.Reshape(g.GatherLastAxis(b, expert), [_size.Out, rank], [_size.Out, rank]);

        /// <summary>A of all experts: [experts, r, in].</summary>
        public Value AllA => a;

        /// <summary>B of all experts: [experts, out, r].</summary>
        public Value AllB => g.Transpose(b, 2, 0, 1);

        /// <summary>The gradient of the whole A from those of the experts that have rows: [active, r, in] → [r·experts, in].</summary>
        public Value WholeA(ExpertRows order, Value gradients) => WholeA(order.Scatter(gradients, rank * _size.In));

        /// <summary>The gradient of the whole A: as many numbers as [experts, r, in] → [r·experts, in].</summary>
        public Value WholeA(Value gradients) => g.Reshape(gradients, [-1, _size.In], [rank * _size.Experts, _size.In]);

        /// <summary>The gradient of the whole B: [active, out, r] → [out, r·experts].</summary>
        public Value WholeB(ExpertRows order, Value gradients) => WholeB(order.Scatter(gradients, _size.Out * rank));

        /// <summary>The gradient of the whole B: as many numbers as [experts, out, r] → [out, r·experts].</summary>
        public Value WholeB(Value gradients)
        {
            Value all = g.Reshape(gradients, [-1, _size.Out, rank], [_size.Experts, _size.Out, rank]);
            return g.Reshape(g.Transpose(all, 1, 2, 0), [_size.Out, -1], [_size.Out, rank * _size.Experts]); // [out, r, experts] -> [out, r·experts]
        }
    }
}
