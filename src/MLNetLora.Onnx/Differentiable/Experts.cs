namespace MLNetLora.Onnx.Differentiable;

/// <summary>The matrices of a layer's experts, each a SwiGLU of its own.</summary>
/// <param name="Gate">[intermediate, hidden].</param>
/// <param name="Up">[intermediate, hidden].</param>
/// <param name="Down">[hidden, intermediate].</param>
/// <param name="GateUpLora">Adapter of gate and up as one matrix, gate above up: in = hidden, out = 2·intermediate; null for none.</param>
/// <param name="DownLora">Adapter of down: in = intermediate, out = hidden; null for none.</param>
internal sealed record ExpertWeights(
    ExpertWeight Gate, ExpertWeight Up, ExpertWeight Down, ExpertLora? GateUpLora = null, ExpertLora? DownLora = null)
{
    /// <summary>Whether most runs have fewer rows than there are experts, as one that goes from token to token has.</summary>
    public bool FewRows { get; init; }

    /// <summary>[1], 64-bit: at least as many as the rows of any layer, from which the sizes of blocks follow that all layers share; null for a layer's own.
    /// </summary>
    public Value? MostRows { get; init; }
}

/// <summary>
/// A mixture of experts: y = Σ over the experts e of a row of w_e · E_e(x), E(x) = (silu(x Gᵀ)∘x Uᵀ) Dᵀ.
/// With h = silu(gate)∘up and u = dy D:  dw = Σ u∘h,  dh = w·u,  dgate and dup as in <see cref="SwiGlu"/>,  dx = Σ over the experts of dgate G + dup U.
/// With an adapter s·B A on a matrix, of which x goes in and z comes out, v = x Aᵀ:  z += s·v Bᵀ,  dv = s·dz B,  dx += dv A,  dB = s·dzᵀ v,  dA = dvᵀ x.
/// Each expert is computed for its own rows alone, one expert after the other, so that time follows the rows' experts and not all there are;
/// on a GPU in blocks (<see cref="BlockedExperts"/>).
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
        if (g.ExpertsInBlocks)
        {
            return BlockedExperts.Apply(tape, x, weights, experts, matrices);
        }

        Dimension rows = x.Shape[0];
        (ExpertLora? gateUpLora, ExpertLora? downLora) = (matrices.GateUpLora, matrices.DownLora);
        ExpertRows order = new(g, experts, matrices.Gate.Count);
        ExpertLora.Stack? gateUp = gateUpLora?.Stacked(g);
        ExpertLora.Stack? down = downLora?.Stacked(g);
        Value shares = order.Sorted(weights); // [assigned, 1]
        Value[] forward = g.Loop(order.Trips, order.Active, order.Assigned, trip =>
        {
            ExpertRows.Part part = order.Of(trip);
            Value xe = part.Gather(x); // [expert rows, hidden]
            Value[]? added = null; // of gate and up, [expert rows, intermediate] each
            if (gateUp is not null)
            {
                Value v = g.Gemm(xe, gateUp.A(part.Expert), transB: true, alpha: gateUpLora!.Scaling); // s·x Aᵀ, [expert rows, r]
                added = g.Split(g.Gemm(v, gateUp.B(part.Expert), transB: true), 2, matrices.Gate.Rows, 1);
            }

            Value gate = g.Gemm(xe, matrices.Gate.Read(g, part.Expert), added?[0], transB: true); // [expert rows, intermediate]
            Value up = g.Gemm(xe, matrices.Up.Read(g, part.Expert), added?[1], transB: true); // [expert rows, intermediate]
            Value h = g.Mul(g.Silu(gate), up); // [expert rows, intermediate]
            Value ye = g.Gemm(h, matrices.Down.Read(g, part.Expert), transB: true); // [expert rows, hidden]
            if (down is not null)
            {
                Value v = g.Gemm(h, down.A(part.Expert), transB: true); // [expert rows, r]
                ye = g.Gemm(v, down.B(part.Expert), ye, transB: true, alpha: downLora!.Scaling); // [expert rows, hidden]
            }

            return new LoopResult([g.Mul(ye, part.Slice(shares)), gate, up], []);
        });
        (Value gates, Value ups) = (forward[1], forward[2]); // [assigned, intermediate]
        Value y = order.Sum(forward[0], rows); // [rows, hidden]
        IEnumerable<Value> trained = ((ExpertLora?[])[gateUpLora, downLora]).OfType<ExpertLora>().SelectMany(lora => (Value[])[lora.A, lora.B]);
        return tape.Record(y, [x, weights, .. trained], dy =>
        {
            Value[] backward = g.Loop(order.Trips, order.Active, order.Assigned, trip =>
            {
                ExpertRows.Part part = order.Of(trip);
                (Value gate, Value up) = (part.Slice(gates), part.Slice(ups)); // [expert rows, intermediate]
                (Value dye, Value we) = (part.Gather(dy), part.Slice(shares)); // [expert rows, hidden], [expert rows, 1]
                Value h = g.Mul(g.Silu(gate), up); // [expert rows, intermediate]
                Value u = g.Gemm(dye, matrices.Down.Read(g, part.Expert)); // [expert rows, hidden] [hidden, intermediate]
                List<Value> factors = [];
                if (down is not null)
                {
                    Value a = down.A(part.Expert); // [r, intermediate]
                    Value dv = g.Gemm(dye, down.B(part.Expert), alpha: downLora!.Scaling); // [expert rows, r], not yet times w
                    u = g.Gemm(dv, a, u); // [expert rows, intermediate]
                    factors.Add(g.Gemm(g.Mul(dv, we), h, transA: true)); // [r, intermediate]
                    Value v = g.Mul(g.Gemm(h, a, transB: true), we); // [expert rows, r]
                    factors.Add(g.Gemm(dye, v, transA: true, alpha: downLora.Scaling)); // [hidden, r]
                }

                Value dw = g.ReduceSum(g.Mul(u, h), [-1], keepAxes: true); // [expert rows, 1]
                Value share = g.Mul(g.Mul(u, we), g.Sigmoid(gate)); // dh∘σ, [expert rows, intermediate]
                Value dup = g.Mul(share, gate); // [expert rows, intermediate]
                Value slope = g.Mul(share, up); // dh∘σ∘up, [expert rows, intermediate]
                Value dgate = g.Add(slope, g.Mul(slope, g.QuickGelu(gate, -1f))); // [expert rows, intermediate]
                Value dx = g.Gemm(dgate, matrices.Gate.Read(g, part.Expert)); // [expert rows, intermediate] [intermediate, hidden]
                dx = g.Gemm(dup, matrices.Up.Read(g, part.Expert), dx); // [expert rows, hidden]
                if (gateUp is not null)
                {
                    Value xe = part.Gather(x); // [expert rows, hidden]
                    Value a = gateUp.A(part.Expert); // [r, hidden]
                    Value both = g.Concat([dgate, dup], 1, 2 * matrices.Gate.Rows); // [expert rows, 2·intermediate]
                    Value dv = g.Gemm(both, gateUp.B(part.Expert), alpha: gateUpLora!.Scaling); // [expert rows, r]
                    dx = g.Gemm(dv, a, dx); // [expert rows, hidden]
                    factors.Add(g.Gemm(dv, xe, transA: true)); // [r, hidden]
                    Value v = g.Gemm(xe, a, transB: true); // [expert rows, r]
                    factors.Add(g.Gemm(both, v, transA: true, alpha: gateUpLora.Scaling)); // [2·intermediate, r]
                }

                return new LoopResult([dx, dw], factors);
            });
            tape.AddGradient(x, () => order.Sum(backward[0], rows)); // [rows, hidden]
            tape.AddGradient(weights, () => order.Unsorted(backward[1], rows)); // [rows, k]
            int next = 2;
            foreach ((ExpertLora? lora, ExpertLora.Stack? stack) in new[] { (downLora, down), (gateUpLora, gateUp) })
            {
                if (lora is not null)
                {
                    (Value da, Value db) = (backward[next++], backward[next++]); // [active, r, in], [active, out, r]
                    tape.AddParameterGradient(lora.B, () => stack!.WholeB(order, db)); // [out, r·experts]
                    tape.AddParameterGradient(lora.A, () => stack!.WholeA(order, da)); // [r·experts, in]
                }
            }
        });
    }
}
