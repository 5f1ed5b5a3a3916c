namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// The gated delta rule (Yang et al. 2024, arXiv:2412.06464): per head a state S [dk, dv] that every token lets fade, corrects and reads,
/// S ← exp(g) S,  S ← S + k (β(v − Sᵀk))ᵀ,  y = Sᵀq, zero at the start of each packed row.
/// The tokens are taken in chunks of C, so that nearly all is products of matrices (Yang et al. 2024, arXiv:2406.06484). With G the sum of g from the
/// start of the chunk on, Dᵢⱼ = exp(Gᵢ − Gⱼ) where i sees j, A = (q kᵀ)∘D, L the part of β∘(k kᵀ)∘D below the diagonal, and T = (1 + L)⁻¹:
/// w = T(β∘(v − e^G∘k S)),  y = (e^G∘q) S + A w,  S' = e^(G_C) S + (e^(G_C − G)∘k)ᵀ w.
/// Only w and S' go from chunk to chunk, in a loop.
/// Backward, from the last chunk: dw = Aᵀ dy + (e^(G_C − G)∘k) dS',  dr = Tᵀ dw,  dS = e^(G_C) dS' + (e^G∘q)ᵀ dy − (e^G∘k)ᵀ (β∘dr);
/// dL = −dr wᵀ below the diagonal, dA = dy wᵀ, dv = β∘dr, dβ = Σ dr∘(v − e^G∘k S) + Σ dL∘L/β, and every exp(G) gives its G its product with its gradient.
/// </summary>
internal static class DeltaRule
{
    /// <summary>Emits the rule.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="q">[tokens·key heads, dk], normed and scaled.</param>
    /// <param name="k">[tokens·key heads, dk], normed.</param>
    /// <param name="v">[tokens·value heads, dv].</param>
    /// <param name="decay">g, [tokens, value heads], 0 at most.</param>
    /// <param name="beta">β, [tokens, value heads], from 0 to 1.</param>
    /// <param name="chunks">The chunks and the heads.</param>
    /// <returns>[tokens·value heads, dv].</returns>
    public static Value Apply(Tape tape, Value q, Value k, Value v, Value decay, Value beta, DeltaChunks chunks)
    {
        GraphBuilder g = tape.Graph;
        using IDisposable precise = g.InFloat32(products: true);
        (Dimension n, Dimension batch, Dimension heads, int c) = (chunks.Chunks, chunks.ValueRows.Shape[1], chunks.ValueHeads, chunks.Size);
        (Dimension dk, Dimension dv) = (k.Shape[1], v.Shape[1]);
        Value qs = g.Gather(q, chunks.KeyRows); // [n, batch, heads, C, dk]
        Value ks = g.Gather(k, chunks.KeyRows); // [n, batch, heads, C, dk]
        Value vs = g.Gather(v, chunks.ValueRows); // [n, batch, heads, C, dv]
        Value bs = g.UnsqueezeLast(g.Gather(Flat(beta), chunks.ValueRows)); // [n, batch, heads, C, 1]

        // G in double precision: its differences are small where the sums are large.
        Value sums = g.CumSum(g.Cast(g.Gather(Flat(decay), chunks.ValueRows), ElementType.Float64), 3); // G, [n, batch, heads, C]
        Value column = g.UnsqueezeLast(sums); // [n, batch, heads, C, 1]
        Value row = g.Reshape(sums, [0, 0, 0, 1, c], [n, batch, heads, 1, c]); // [n, batch, heads, 1, C]
        Value end = g.Slice(column, g.Int64s(c - 1), g.Int64s(c), 3, 1); // G_C, [n, batch, heads, 1, 1]
        Value d = Fading(g.Sub(column, row), chunks.Attends); // D, [n, batch, heads, C, C]
        Value kk = g.MatMul(ks, ks, transB: true); // [n, batch, heads, C, C]
        Value qk = g.MatMul(qs, ks, transB: true); // [n, batch, heads, C, C]
        Value a = g.Mul(qk, d); // A, [n, batch, heads, C, C]
        Value t = Inverse(g, g.Mul(g.Mul(kk, d), bs), c); // T, [n, batch, heads, C, C]
        Value carried = Fading(column, chunks.Carried); // [n, batch, heads, C, 1]
        Value kept = Fading(g.Sub(end, column), chunks.Kept); // [n, batch, heads, C, 1]
        Value passed = Fading(end, chunks.Passes); // [n, batch, heads, 1, 1]
        Value qIn = g.Mul(qs, carried); // e^G∘q, [n, batch, heads, C, dk]
        Value kIn = g.Mul(ks, carried); // e^G∘k, [n, batch, heads, C, dk]
        Value kOut = g.Mul(ks, kept); // e^(G_C − G)∘k, [n, batch, heads, C, dk]
        Value zero = g.Zeros(g.Concat([chunks.BatchSize, g.Int64s(heads.Size, dk.Size, dv.Size)], 0, 4), [batch, heads, dk, dv]);
        Value[] scanned = g.Scan("delta_rule", [zero], [vs, bs, kIn, t, kOut, passed], (body, state, slice) =>
        {
            Value rest = body.Mul(body.Sub(slice[0], body.MatMul(slice[2], state[0])), slice[1]); // β∘(v − e^G∘k S), [batch, heads, C, dv]
            Value written = body.MatMul(slice[3], rest); // w, [batch, heads, C, dv]
            Value next = body.Add(body.Mul(state[0], slice[5]), body.MatMul(slice[4], written, transA: true)); // [batch, heads, dk, dv]
            return ([next], [state[0], written]);
        });
        (Value states, Value w) = (scanned[0], scanned[1]); // S at the start of each chunk, [n, batch, heads, dk, dv]; [n, batch, heads, C, dv]
        Value y = Rows(g.Add(g.MatMul(qIn, states), g.MatMul(a, w)), dv); // [tokens·heads, dv]
        return tape.Record(y, [q, k, v, decay, beta], dy =>
        {
            using IDisposable preciseBack = g.InFloat32(products: true);
            Value dys = g.Gather(dy, chunks.ValueRows); // [n, batch, heads, C, dv]
            Value dwHere = g.MatMul(a, dys, transA: true); // Aᵀ dy, [n, batch, heads, C, dv]
            Value dsHere = g.MatMul(qIn, dys, transA: true); // [n, batch, heads, dk, dv]
            Value none = g.Zeros(g.Concat([chunks.BatchSize, g.Int64s(heads.Size, dk.Size, dv.Size)], 0, 4), [batch, heads, dk, dv]);
            Value[] back = g.Scan("delta_rule_back", [none], [dwHere, kOut, t, bs, kIn, passed, dsHere], (body, state, slice) =>
            {
                Value dw = body.Add(slice[0], body.MatMul(slice[1], state[0])); // [batch, heads, C, dv]
                Value dr = body.MatMul(slice[2], dw, transA: true); // [batch, heads, C, dv]
                Value fromState = body.MatMul(slice[4], body.Mul(dr, slice[3]), transA: true); // [batch, heads, dk, dv]
                Value before = body.Sub(body.Add(body.Mul(state[0], slice[5]), slice[6]), fromState); // [batch, heads, dk, dv]
                return ([before], [state[0], dr]);
            }, reverse: true);
            (Value dstates, Value dr) = (back[0], back[1]); // dS', [n, batch, heads, dk, dv]; [n, batch, heads, C, dv]
            Value dvs = g.Mul(dr, bs); // [n, batch, heads, C, dv]
            tape.AddGradient(v, () => Rows(dvs, dv)); // [tokens·heads, dv]

            Value da = g.MatMul(dys, w, transB: true); // [n, batch, heads, C, C]
            Value dqk = g.Mul(da, d); // [n, batch, heads, C, C]
            Value below = Mask(g, "below", c, static (i, j) => i > j); // [C, C]
            Value dl = g.Mul(g.MatMul(dr, w, transB: true, alpha: -1f), g.Mul(d, below)); // dL∘D, [n, batch, heads, C, C]
            Value dkk = g.Mul(dl, bs); // [n, batch, heads, C, C]
            Value along = g.Mul(dl, kk); // dL∘L / β, [n, batch, heads, C, C]
            Value dqIn = g.MatMul(dys, states, transB: true); // [n, batch, heads, C, dk]
            Value dkIn = g.MatMul(dvs, states, transB: true, alpha: -1f); // [n, batch, heads, C, dk]
            Value dkOut = g.MatMul(w, dstates, transB: true); // [n, batch, heads, C, dk]
            tape.AddGradient(beta, () =>
            {
                Value rest = g.Sub(vs, g.MatMul(kIn, states)); // v − e^G∘k S, [n, batch, heads, C, dv]
                Value dbeta = g.Add(g.ReduceSum(g.Mul(dr, rest), [-1], keepAxes: true), g.ReduceSum(along, [-1], keepAxes: true)); // [n, batch, heads, C, 1]
                return Scalars(dbeta, beta);
            });
            tape.AddGradient(decay, () =>
            {
                // A pair of tokens gives its G the same number twice, with either sign; in double precision they cancel where they must.
                Value pairs = g.Cast(g.Add(g.Mul(along, bs), g.Mul(g.Mul(dqk, qk), below)), ElementType.Float64); // dD∘D, [n, batch, heads, C, C]
                Value within = g.Sub(g.ReduceSum(pairs, [-1], keepAxes: false), g.ReduceSum(pairs, [-2], keepAxes: false)); // [n, batch, heads, C]
                Value reads = g.ReduceSum(g.Add(g.Mul(dqIn, qIn), g.Mul(dkIn, kIn)), [-1], keepAxes: false); // [n, batch, heads, C]
                Value leaves = g.Cast(g.ReduceSum(g.Mul(dkOut, kOut), [-1], keepAxes: false), ElementType.Float64); // [n, batch, heads, C]
                Value stays = g.ReduceSum(g.Mul(g.Mul(states, dstates), passed), [-2, -1], keepAxes: false); // [n, batch, heads]
                Value dsums = g.Sub(g.Add(within, g.Cast(reads, ElementType.Float64)), leaves); // [n, batch, heads, C]
                Value dend = g.Add(g.ReduceSum(leaves, [-1], keepAxes: true), g.Cast(g.UnsqueezeLast(stays), ElementType.Float64)); // [n, batch, heads, 1]
                return Scalars(g.Cast(g.Add(g.CumSum(dsums, 3, reverse: true), dend), ElementType.Float32), decay);
            });
            tape.AddGradient(q, () => Keys(g.Add(g.Mul(dqIn, carried), g.MatMul(dqk, ks)), q));
            tape.AddGradient(k, () =>
            {
                Value across = g.Add(g.Mul(dkIn, carried), g.Mul(dkOut, kept)); // [n, batch, heads, C, dk]
                Value within = g.Add(g.MatMul(dkk, ks), g.MatMul(dkk, ks, transA: true)); // [n, batch, heads, C, dk]
                return Keys(g.Add(g.Add(across, within), g.MatMul(dqk, qs, transA: true)), k);
            });
        });

        Value Fading(Value sum, Value sees) => g.Exp(g.Add(g.Cast(sum, ElementType.Float32), sees));

        // [tokens, heads] -> [tokens·heads]
        Value Flat(Value x) => g.Reshape(x, [-1], ["delta_rows"]);

        // [n, batch, heads, C, size] -> [tokens·heads, size]
        Value Rows(Value x, Dimension size) => g.Gather(g.Reshape(x, [-1, size.Size], ["delta_places", size]), chunks.Places);

        // [n, batch, heads, C] or [n, batch, heads, C, 1] -> [tokens, heads]
        Value Scalars(Value x, Value like) => g.Reshape(g.Gather(g.Reshape(x, [-1], ["delta_places"]), chunks.Places), [-1, heads.Size], like.Shape);

        // [n, batch, heads, C, dk] -> [tokens·key heads, dk]: the sum over the value heads that share a key head
        Value Keys(Value x, Value like)
        {
            long shared = chunks.ValueHeads / chunks.KeyHeads;
            Value rows = Rows(x, dk); // [tokens·heads, dk]
            return shared == 1 ? rows : g.ReduceSum(g.Reshape(rows, [-1, shared, dk.Size], [like.Shape[0], shared, dk]), [1], keepAxes: false);
        }
    }

    /// <summary>
    /// (1 + L)⁻¹ for the part of L below the diagonal, by blocks that double: with X and Z the inverses of two neighbours on the diagonal and B the block of L
    /// below the first, the inverse of both together has −Z B X there. Unlike the series 1 − L + L² − …, whose terms may be large where the sum is not, each
    /// step is a substitution.
    /// </summary>
    /// <param name="g">Graph.</param>
    /// <param name="l">[…, C, C].</param>
    /// <param name="c">C, a power of two.</param>
    private static Value Inverse(GraphBuilder g, Value l, int c)
    {
        Value x = Mask(g, "identity", c, static (i, j) => i == j); // [C, C]
        for (int size = 1; size < c; size *= 2)
        {
            int block = size;
            Value below = g.Mul(l, Mask(g, $"below_{block}", c, (i, j) => i / (2 * block) == j / (2 * block) && i / block > j / block)); // […, C, C]
            Value correction = size == 1 ? below : g.MatMul(x, g.MatMul(below, x)); // […, C, C]
            x = g.Sub(x, correction); // […, C, C]
        }

        return x;
    }

    private static Value Mask(GraphBuilder g, string name, int c, Func<int, int, bool> isSet) =>
        g.Table($"delta_rule.{name}.{c}", [.. Enumerable.Range(0, c * c).Select(i => isSet(i / c, i % c) ? 1f : 0f)], c);
}
