namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// The formulas of <see cref="Experts"/> for a device: all experts at once, in blocks of equal size (<see cref="ExpertBlocks"/>), each a product of its rows
/// with its expert's matrix.
/// </summary>
internal static class BlockedExperts
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
        ExpertBlocks blocks = new(g, experts, weights, matrices.Gate.Count, matrices.FewRows, matrices.MostRows);
        Adapter? gateUp = Adapter.Of(g, matrices.GateUpLora);
        Adapter? down = Adapter.Of(g, matrices.DownLora);
        (long inner, long hidden) = (matrices.Gate.Rows, matrices.Gate.Columns);
        List<(ExpertPart Part, Value Gate, Value Up)> kept = [];
        List<Value> sums = [];
        foreach (ExpertPart part in blocks.Parts)
        {
            Value xb = part.Gather(x, hidden); // [blocks, block, hidden]
            Value gate = part.Product(xb, matrices.Gate); // [blocks, block, intermediate]
            Value up = part.Product(xb, matrices.Up); // [blocks, block, intermediate]
            if (gateUp is not null)
            {
                Value[] added = g.Split(gateUp.Product(part, xb), 2, inner, 2); // [blocks, block, intermediate] each
                (gate, up) = (g.Add(gate, added[0]), g.Add(up, added[1]));
            }

            Value h = g.Mul(g.Silu(gate), up); // [blocks, block, intermediate]
            Value yb = part.Product(h, matrices.Down); // [blocks, block, hidden]
            yb = down is null ? yb : g.Add(yb, down.Product(part, h)); // [blocks, block, hidden]
            kept.Add((part, gate, up));
            sums.Add(part.Sum(yb, weights)); // [rows, hidden]
        }

        Adapter[] adapters = [.. ((Adapter?[])[gateUp, down]).OfType<Adapter>()];
        return tape.Record(sums.Aggregate((sum, next) => g.Add(sum, next)), [x, weights, .. adapters.SelectMany(adapter => adapter.Trained)], dy =>
        {
            (List<Value> dxs, List<Value> dws) = ([], []);
            foreach ((ExpertPart part, Value gate, Value up) in kept)
            {
                Value dyb = part.Gather(dy, hidden); // not yet times w, [blocks, block, hidden]
                Value h = g.Mul(g.Silu(gate), up); // [blocks, block, intermediate]
                Value u = part.InputGradient(dyb, matrices.Down); // [blocks, block, intermediate]
                u = down is null ? u : g.Add(u, down.InputGradient(part, dyb, h, part.Shares)); // [blocks, block, intermediate]
                dws.Add(part.Back(g.ReduceSum(g.Mul(u, h), [-1], keepAxes: true))); // [rows, k]
                Value share = g.Mul(g.Mul(u, part.Shares), g.Sigmoid(gate)); // dh∘σ, [blocks, block, intermediate]
                Value dup = g.Mul(share, gate); // [blocks, block, intermediate]
                Value slope = g.Mul(share, up); // dh∘σ∘up, [blocks, block, intermediate]
                Value dgate = g.Add(slope, g.Mul(slope, g.QuickGelu(gate, -1f))); // [blocks, block, intermediate]
                Value dxb = g.Add(part.InputGradient(dgate, matrices.Gate), part.InputGradient(dup, matrices.Up)); // [blocks, block, hidden]
                if (gateUp is not null)
                {
                    Value both = g.Concat([dgate, dup], 2, 2 * inner); // [blocks, block, 2·intermediate]
                    dxb = g.Add(dxb, gateUp.InputGradient(part, both, part.Gather(x, hidden), null)); // [blocks, block, hidden]
                }

                dxs.Add(part.Sum(dxb)); // [rows, hidden]
            }

            tape.AddGradient(x, () => dxs.Aggregate((sum, next) => g.Add(sum, next))); // [rows, hidden]
            tape.AddGradient(weights, () => dws.Aggregate((sum, next) => g.Add(sum, next))); // [rows, k]
            foreach (Adapter adapter in adapters)
            {
                adapter.AddGradients(tape);
            }
        });
    }

    /// <summary>An adapter on a stack of matrices, W + s·B A each: z = s·v Bᵀ with v = x Aᵀ; dv = s·dz B, dx = dv A, dB = s·dzᵀ v, dA = dvᵀ x.</summary>
    private sealed class Adapter
    {
        private readonly GraphBuilder _graph;
        private readonly ExpertLora _lora;
        private readonly ExpertLora.Stack _stack;
        private readonly Value _a; // [experts, r, in]
        private readonly Value _b; // [experts, out, r]
        private readonly List<(ExpertPart Part, Value Dz, Value X, Value Dv, Value? Factors)> _used = [];

        private Adapter(GraphBuilder graph, ExpertLora lora)
        {
            (_graph, _lora, _stack) = (graph, lora, lora.Stacked(graph));
            (_a, _b) = (_stack.AllA, _stack.AllB);
        }

        public IEnumerable<Value> Trained => [_lora.A, _lora.B];

        public static Adapter? Of(GraphBuilder graph, ExpertLora? lora) => lora is null ? null : new Adapter(graph, lora);

        /// <summary>z: [blocks, block, in] → [blocks, block, out].</summary>
        public Value Product(ExpertPart part, Value x) =>
            _graph.MatMul(_graph.MatMul(x, part.Of(_a), transB: true), part.Of(_b), transB: true, alpha: _lora.Scaling);

        /// <summary>dx: [blocks, block, out] → [blocks, block, in].</summary>
        /// <param name="part">The blocks.</param>
        /// <param name="dz">[blocks, block, out].</param>
        /// <param name="x">[blocks, block, in].</param>
        /// <param name="factors">What dz is still to be multiplied with in the gradients of A and B, [blocks, block, 1]; null for nothing.</param>
        public Value InputGradient(ExpertPart part, Value dz, Value x, Value? factors)
        {
            Value dv = _graph.MatMul(dz, part.Of(_b), alpha: _lora.Scaling); // [blocks, block, r]
            _used.Add((part, dz, x, dv, factors));
            return _graph.MatMul(dv, part.Of(_a));
        }

        /// <summary>Adds the gradients of A and B.</summary>
        public void AddGradients(Tape tape)
        {
            (long r, long inputs, long outputs) = (_a.Shape[1].Size, _a.Shape[2].Size, _b.Shape[1].Size);
            tape.AddParameterGradient(_lora.B, () => _stack.WholeB(Sum(_used.Select(use =>
            {
                Value v = Scaled(_graph.MatMul(use.X, use.Part.Of(_a), transB: true), use.Factors); // [blocks, block, r]
                return use.Part.Totals(_graph.MatMul(use.Dz, v, transA: true, alpha: _lora.Scaling), outputs * r); // [experts, out·r]
            }))));
            tape.AddParameterGradient(_lora.A, () => _stack.WholeA(Sum(_used.Select(use =>
                use.Part.Totals(_graph.MatMul(Scaled(use.Dv, use.Factors), use.X, transA: true), r * inputs))))); // [experts, r·in]
        }

        private Value Scaled(Value x, Value? factors) => factors is null ? x : _graph.Mul(x, factors);

        private Value Sum(IEnumerable<Value> parts)
        {
            using IDisposable precise = _graph.InFloat32(products: true);
            return parts.Aggregate((sum, next) => _graph.Add(sum, next));
        }
    }
}
