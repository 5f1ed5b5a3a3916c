namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// Grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245): P = softmax(α q kᵀ + bias), y = P v, α = 1/√d.
/// The g query heads that share a key head are laid out as one matrix of g·chunk rows, so keys are never repeated and
/// the sums over the group in dk and dv are part of the matrix products.
/// dv = Pᵀ dy,  dP = dy vᵀ,  dS = P∘(dP − Σ dy∘y),  dq = α dS k,  dk = α dSᵀ q.
/// Queries are computed in the chunks of the mask, forward from the first and backward from the last, one chunk's matrices at a time.
/// </summary>
internal static class Attention
{
    /// <summary>Emits attention.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="q">[batch, heads, sequence, d].</param>
    /// <param name="k">[batch, kv, sequence, d], kv dividing heads.</param>
    /// <param name="v">[batch, kv, sequence, d].</param>
    /// <param name="mask">What each query sees, and the chunks. Where every query sees all keys up to itself, the forward pass is one operator.</param>
    /// <param name="recompute">Makes P a second time in the backward pass instead of keeping it: memory then grows with the sequence and not with its
    /// square.</param>
    /// <returns>[batch, heads, sequence, d].</returns>
    public static Value Apply(Tape tape, Value q, Value k, Value v, CausalMask mask, bool recompute = false)
    {
        GraphBuilder g = tape.Graph;
        int chunks = mask.Chunks.Count;
        (Dimension batch, Dimension heads, Dimension sequence, Dimension d) = (q.Shape[0], q.Shape[1], q.Shape[2], q.Shape[3]);
        (Dimension kv, Dimension chunk) = (k.Shape[1], chunks == 1 ? sequence : "query_chunk");
        Dimension rows = heads == kv ? chunk : "group_rows"; // g·chunk
        float alpha = (float)(1 / Math.Sqrt(d.Size));
        recompute |= mask.IsPlain; // one operator keeps no probabilities
        Value[] kept = new Value[chunks];
        Value result = mask.IsPlain ? g.Attention(q, k, v) : Forward(); // [batch, heads, sequence, d]
        return tape.Record(result, [q, k, v], dresult =>
        {
            bool scores = tape.Needs(q) || tape.Needs(k);
            Value[] dys = Chunks(dresult); // [batch, heads, chunk, d]
            Value[] qs = recompute || tape.Needs(k) ? Chunks(q) : [];
            Value[] outs = scores ? Chunks(result) : [];
            Value[] dqs = new Value[chunks];
            Running dk = new(g, mask, sequence);
            Running dv = new(g, mask, sequence);
            Value? sizes = recompute ? g.Shape(Group(dys[^1])) : null; // (batch, kv, g·chunk, d), known when the backward pass arrives here
            for (int i = chunks - 1; i >= 0; i--)
            {
                // A chunk takes its sizes from what the one before it has computed, so that it starts when that one is done and its matrices are freed.
                Value dy = Group(dys[i], sizes); // [batch, kv, g·chunk, d]
                Value? query = qs.Length == 0 ? null : Group(qs[i], sizes); // [batch, kv, g·chunk, d]
                Value p = recompute ? Probabilities(i, query!) : kept[i]; // [batch, kv, g·chunk, visible]
                List<Value> done = [dy];
                if (tape.Needs(v))
                {
                    done.AddRange(dv.Add(i, g.MatMul(p, dy, transA: true))); // [batch, kv, visible, d]
                }

                if (scores)
                {
                    Value dp = Scores(i, dy, v, 1f); // [batch, kv, g·chunk, visible]
                    Value mean = g.ReduceSum(g.Mul(dy, Group(outs[i], sizes)), [-1], keepAxes: true); // [batch, kv, g·chunk, 1]
                    Value ds = g.Mul(p, g.Sub(dp, mean)); // [batch, kv, g·chunk, visible]
                    if (tape.Needs(q))
                    {
                        Value dquery = g.MatMul(ds, Visible(i, k), alpha: alpha); // [batch, kv, g·chunk, d]
                        dqs[i] = Ungroup(dquery); // [batch, heads, chunk, d]
                        done.Add(dquery);
                    }

                    if (tape.Needs(k))
                    {
                        done.AddRange(dk.Add(i, g.MatMul(ds, query!, transA: true, alpha: alpha))); // [batch, kv, visible, d]
                    }
                }

                sizes = i > 0 ? g.Gather(g.Concat([.. done.Select(g.Shape)], 0, 4 * done.Count), g.Int64s(0, 1, 2, 3)) : null; // those of dy
            }

            tape.AddGradient(q, () => chunks == 1 ? dqs[0] : g.Concat(dqs, 2, sequence)); // [batch, heads, sequence, d]
            tape.AddGradient(k, dk.Whole); // [batch, kv, sequence, d]
            tape.AddGradient(v, dv.Whole); // [batch, kv, sequence, d]
        });

        // [batch, heads, sequence, d]
        Value Forward()
        {
            Value[] ys = Chunks(q); // [batch, heads, chunk, d]
            for (int i = 0; i < chunks; i++)
            {
                kept[i] = Probabilities(i, Group(ys[i])); // [batch, kv, g·chunk, visible]
                ys[i] = Ungroup(g.MatMul(kept[i], Visible(i, v))); // [batch, heads, chunk, d]
            }

            return chunks == 1 ? ys[0] : g.Concat(ys, 2, sequence); // [batch, heads, sequence, d]
        }

        // α x keysᵀ. Among matrices of equal shape the runtime would give the memory of one layer's to the next, and so hold those of every chunk, as
        // many as S×S, from the first layer to the last. With the probabilities made anew each matrix has a symbol of its own and its memory is free
        // when it is done with.
        // [batch, kv, g·chunk, visible]
        Value Scores(int i, Value x, Value keys, float factor) =>
            g.MatMul(x, Visible(i, keys), transB: true, alpha: factor, columns: recompute ? g.Symbol($"{mask.Chunks[i].Visible}") : (Dimension?)null);

        Value Probabilities(int i, Value query)
        {
            Value s = Scores(i, query, k, alpha); // [batch, kv, g·chunk, visible]
            Dimension visible = s.Shape[3];
            s = g.Reshape(s, [0, heads.Size, -1, 0], [batch, heads, chunk, visible]); // the bias is the same for all heads
            Value p = g.Softmax(g.Add(s, mask.Chunks[i].Bias)); // [batch, heads, chunk, visible]
            return g.Reshape(p, [0, kv.Size, -1, 0], [batch, kv, rows, visible]);
        }

        Value[] Chunks(Value x) => chunks == 1 ? [x] : g.Split(x, chunks, chunk, 2);
        // [batch, kv, visible, d]
        Value Visible(int i, Value x) => chunks == 1 ? x : g.Slice(x, mask.Chunks[i].Start, mask.Chunks[i].End, 2, mask.Chunks[i].Visible);
        Value Group(Value x, Value? sizes = null) =>
            sizes is not null ? g.Reshape(x, sizes, [batch, kv, rows, d]) : heads == kv ? x : g.Reshape(x, [0, kv.Size, -1, d.Size], [batch, kv, rows, d]);
        Value Ungroup(Value x) => heads == kv ? x : g.Reshape(x, [0, heads.Size, -1, d.Size], [batch, heads, chunk, d]);
    }

    /// <summary>The gradient of the keys or values: every chunk adds to those that it sees, the last chunk first.</summary>
    private sealed class Running(GraphBuilder g, CausalMask mask, Dimension sequence)
    {
        private readonly List<Value> _parts = []; // of the keys that no further chunk sees, the last ones first
        private Value? _sum;

        /// <summary>Adds a chunk's part.</summary>
        /// <returns>What the next chunk has to wait for, so that the sum before it is freed.</returns>
        public Value[] Add(int chunk, Value part)
        {
            Value[] done = [];
            if (_sum is not null)
            {
                ChunkBorder border = mask.Borders[chunk];
                Value before = g.Slice(part, g.Int64s(0), border.BeforeSize, 2, border.Before); // [batch, kv, before, d]
                Value shared = g.Slice(part, border.BeforeSize, g.Int64s(long.MaxValue), 2, border.Shared); // [batch, kv, shared, d]
                Value sharedLater = g.Slice(_sum, g.Int64s(0), border.SharedSize, 2, border.Shared); // [batch, kv, shared, d]
                done = [g.Slice(_sum, border.SharedSize, g.Int64s(long.MaxValue), 2, "query_chunk")]; // [batch, kv, chunk, d]
                _parts.AddRange(done);
                part = g.Concat([before, g.Add(sharedLater, shared)], 2, part.Shape[2]); // [batch, kv, visible, d]
            }

            _sum = part;
            return [_sum, .. done];
        }

        public Value Whole() => _parts.Count == 0 ? _sum! : g.Concat([_sum!, .. Enumerable.Reverse(_parts)], 2, sequence); // [batch, kv, sequence, d]
    }
}
