namespace MLNetLora.Onnx.Differentiable;

/// <summary>The matrices of a layer's experts, each a SwiGLU of its own.</summary>
/// <param name="Gate">[intermediate, hidden].</param>
/// <param name="Up">[intermediate, hidden].</param>
/// <param name="Down">[hidden, intermediate].</param>
internal sealed record ExpertWeights(ExpertWeight Gate, ExpertWeight Up, ExpertWeight Down);

/// <summary>
/// A mixture of experts: y = Σ over the experts e of a row of w_e · E_e(x), E(x) = (silu(x Gᵀ)∘x Uᵀ) Dᵀ.
/// With h = silu(gate)∘up and u = dy D:  dw = Σ u∘h,  dh = w·u,  dgate and dup as in <see cref="SwiGlu"/>,  dx = Σ over the experts of dgate G + dup U.
/// Each expert is computed for its own rows alone, one expert after the other, so that time follows the rows' experts and not all there are.
/// </summary>
internal static class Experts
{
    /// <summary>Emits the experts; of the forward pass gate and up are kept.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">[rows, hidden].</param>
    /// <param name="weights">[rows, k].</param>
    /// <param name="experts">[rows, k], 64-bit; no expert twice in a row.</param>
    /// <param name="matrices">The experts.</param>
    /// <returns>[rows, hidden].</returns>
    public static Value Apply(Tape tape, Value x, Value weights, Value experts, ExpertWeights matrices)
    {
        GraphBuilder g = tape.Graph;
        Dimension rows = x.Shape[0];
        ExpertRows order = new(g, experts, matrices.Gate.Count);
        Value shares = order.Sorted(weights); // [assigned, 1]
        Value[] forward = g.Loop(order.Trips, order.Active, order.Assigned, trip =>
        {
            ExpertRows.Part part = order.Of(trip);
            Value xe = part.Gather(x); // [expert rows, hidden]
            Value gate = g.Gemm(xe, matrices.Gate.Read(g, part.Expert), transB: true); // [expert rows, intermediate]
            Value up = g.Gemm(xe, matrices.Up.Read(g, part.Expert), transB: true); // [expert rows, intermediate]
            Value h = g.Mul(g.Silu(gate), up); // [expert rows, intermediate]
            Value ye = g.Gemm(h, matrices.Down.Read(g, part.Expert), transB: true); // [expert rows, hidden]
            return new LoopResult([g.Mul(ye, part.Slice(shares)), gate, up], []);
        });
        (Value gates, Value ups) = (forward[1], forward[2]); // [assigned, intermediate]
        Value y = order.Sum(forward[0], rows); // [rows, hidden]
        return tape.Record(y, [x, weights], dy =>
        {
            Value[] backward = g.Loop(order.Trips, order.Active, order.Assigned, trip =>
            {
                ExpertRows.Part part = order.Of(trip);
                (Value gate, Value up) = (part.Slice(gates), part.Slice(ups)); // [expert rows, intermediate]
                Value u = g.Gemm(part.Gather(dy), matrices.Down.Read(g, part.Expert)); // [expert rows, hidden] [hidden, intermediate]
                Value dw = g.ReduceSum(g.Mul(u, g.Mul(g.Silu(gate), up)), [-1], keepAxes: true); // [expert rows, 1]
                Value share = g.Mul(g.Mul(u, part.Slice(shares)), g.Sigmoid(gate)); // dh∘σ, [expert rows, intermediate]
                Value dup = g.Mul(share, gate); // [expert rows, intermediate]
                Value slope = g.Mul(share, up); // dh∘σ∘up, [expert rows, intermediate]
                Value dgate = g.Add(slope, g.Mul(slope, g.QuickGelu(gate, -1f))); // [expert rows, intermediate]
                Value dx = g.Gemm(dgate, matrices.Gate.Read(g, part.Expert)); // [expert rows, intermediate] [intermediate, hidden]
                dx = g.Gemm(dup, matrices.Up.Read(g, part.Expert), dx); // [expert rows, hidden]
                return new LoopResult([dx, dw], []);
            });
            tape.AddGradient(x, () => order.Sum(backward[0], rows)); // [rows, hidden]
            tape.AddGradient(weights, () => order.Unsorted(backward[1], rows)); // [rows, k]
        });
    }
}
