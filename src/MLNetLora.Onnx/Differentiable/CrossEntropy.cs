namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// The output layer and the loss in one: logits = x Hᵀ, loss = Σᵢ wᵢ · (−log softmax(logitsᵢ)[labelᵢ]).
/// With P the softmax:  dx = w·(P H − H[label]),  dH = (w·P)ᵀ x minus w·x on the rows of the labels.
/// The rows are computed in chunks: in the backward pass only one chunk's [rows, vocabulary] matrix is alive at a time.
/// A frozen H may also be cut along the vocabulary, so that a 16-bit one is never upcast whole and no second matrix stands beside the logits: with Sⱼ
/// the softmax within part j and cⱼ the share of that part, P = (c₁S₁, c₂S₂, …) and P H = Σⱼ cⱼ (Sⱼ Hⱼ) (Milakov and Gimelshein 2018, arXiv:1805.02867).
/// </summary>
internal static class CrossEntropy
{
    /// <summary>Emits output layer and loss. The gradient of the loss is taken to be one: it must be the end of the graph.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">[labels, hidden], labelled positions only, a multiple of <paramref name="chunks"/>.</param>
    /// <param name="head">[vocabulary, hidden].</param>
    /// <param name="labels">[labels], 64-bit.</param>
    /// <param name="weights">[labels], what each token's loss counts: one over the window's label tokens, or 0 for padding.</param>
    /// <param name="chunks">Number of parts of the rows.</param>
    /// <param name="parts">The rows of a frozen <paramref name="head"/> in order, cut into parts [part, hidden]; null for the whole.</param>
    /// <param name="trained">Rows of a frozen <paramref name="head"/> that are trained in its place; null for none. Of those dH is the sum of
    /// w·(P − label)ᵀ x over their columns.</param>
    /// <returns>The loss, no axes, in nats.</returns>
    public static Value Apply(Tape tape, Value x, Weight head, Value labels, Value weights, int chunks = 1, IReadOnlyList<Weight>? parts = null,
        TrainedRows? trained = null)
    {
        GraphBuilder g = tape.Graph;
        using IDisposable precise = g.InFloat32();
        Parts cut = Cut(g, x, head, labels, weights, chunks, parts, trained);
        (IReadOnlyList<Weight> vocabulary, long[] firsts, Value[] xs, Value[] columns, Value[] ws) = cut;
        Probabilities[] ps = new Probabilities[chunks];
        Value[] losses = new Value[chunks];
        for (int i = 0; i < chunks; i++)
        {
            (ps[i], Value nll, _) = Forward(g, xs[i], vocabulary, columns[i], predicts: false);
            losses[i] = g.ReduceSum(g.Mul(nll, ws[i]), [0, 1], keepAxes: false); // []
        }

        Value loss = losses.Aggregate((sum, part) => g.Add(sum, part)); // []
        return tape.Record(loss, trained is null ? [x, head.Source] : [x, trained.Rows.Source], _ =>
        {
            using IDisposable preciseBack = g.InFloat32();
            Value[] dxs = new Value[chunks];
            for (int i = 0; i < chunks; i++)
            {
                // 0·loss: orders the chunk's loss before its gradient, so that what only the loss reads is not kept until the end.
                Value w = g.Add(ws[i], g.Mul(losses[i], g.Float(0f))); // [chunk, 1]
                Value labelled = head.Rows(g, g.Reshape(columns[i], [-1], [columns[i].Shape[0]])); // [chunk, hidden]
                if (trained is not null)
                {
                    Value matches = trained.Matches(g, g.Reshape(columns[i], [-1], [columns[i].Shape[0]])); // [chunk, n]
                    labelled = trained.Replace(g, labelled, matches);
                    Value difference = g.Sub(OfTrained(ps[i]), matches); // [chunk, n]
                    Value weighted = g.Mul(xs[i], w); // [chunk, hidden]
                    tape.AddParameterGradient(trained.Rows.Source, () => g.Gemm(difference, weighted, transA: true)); // [n, hidden]
                }

                dxs[i] = g.Mul(g.Sub(Expected(g, ps[i], vocabulary), labelled), w); // [chunk, hidden]
                if (head.IsTrainable)
                {
                    (Value part, Value column, Value p) = (xs[i], columns[i], ps[i].Within[0]);
                    tape.AddParameterGradient(head.Source, () =>
                    {
                        Value weighted = g.Mul(part, w); // [chunk, hidden]
                        return g.ScatterAdd(g.Gemm(p, weighted, transA: true), column, g.Neg(weighted)); // [vocabulary, hidden]
                    });
                }
            }

            tape.AddGradient(x, () => chunks == 1 ? dxs[0] : g.Concat(dxs, 0, x.Shape[0])); // [labels, hidden]
        });

        // P of the trained rows, in their order: [chunk, n].
        Value OfTrained(Probabilities p)
        {
            List<Value> columns = [];
            List<long> order = [];
            for (int j = 0; j < vocabulary.Count; j++)
            {
                long[] within = trained!.Within(firsts[j], vocabulary[j].Source.Shape[0].Size);
                if (within.Length > 0)
                {
                    Value own = trained.Columns(g, p.Within[j], firsts[j], within); // [chunk, rows in the part]
                    columns.Add(vocabulary.Count == 1 ? own : g.Mul(own, p.Shares[j]));
                    order.AddRange(within);
                }
            }

            Value all = columns.Count == 1 ? columns[0] : g.Concat(columns, 1, order.Count);
            return g.GatherColumns(all, [.. Enumerable.Range(0, order.Count).Select(i => (long)order.IndexOf(i))]);
        }
    }

    /// <summary>Emits output layer and loss without a gradient, and how many labels the model would have said itself.</summary>
    /// <param name="g">Graph.</param>
    /// <param name="x">See <see cref="Apply"/>, as the rest.</param>
    /// <param name="head">[vocabulary, hidden].</param>
    /// <param name="labels">[labels], 64-bit.</param>
    /// <param name="weights">[labels].</param>
    /// <param name="chunks">Number of parts of the rows.</param>
    /// <param name="parts">The rows of <paramref name="head"/> in parts; null for the whole.</param>
    /// <param name="trained">Rows that are trained in the place of the head's; null for none.</param>
    /// <returns>The loss, and Σᵢ wᵢ over the labels whose logit is the largest, of equal ones the first; both without axes.</returns>
    public static (Value Loss, Value Correct) Evaluate(GraphBuilder g, Value x, Weight head, Value labels, Value weights, int chunks = 1,
        IReadOnlyList<Weight>? parts = null, TrainedRows? trained = null)
    {
        using IDisposable precise = g.InFloat32();
        Parts cut = Cut(g, x, head, labels, weights, chunks, parts, trained);
        (Value Loss, Value Correct)[] sums = new (Value, Value)[chunks];
        for (int i = 0; i < chunks; i++)
        {
            (_, Value nll, Value? predicted) = Forward(g, cut.Rows[i], cut.Vocabulary, cut.Labels[i], predicts: true);
            Value hits = g.Cast(g.Equal(predicted!, cut.Labels[i]), ElementType.Float32); // [chunk, 1]
            sums[i] = (Weighted(nll, i), Weighted(hits, i));
        }

        return sums.Aggregate((sum, part) => (g.Add(sum.Loss, part.Loss), g.Add(sum.Correct, part.Correct))); // []

        Value Weighted(Value each, int i) => g.ReduceSum(g.Mul(each, cut.Weights[i]), [0, 1], keepAxes: false); // []
    }

    private static Parts Cut(GraphBuilder g, Value x, Weight head, Value labels, Value weights, int chunks, IReadOnlyList<Weight>? parts,
        TrainedRows? trained)
    {
        IReadOnlyList<Weight> vocabulary = head.IsTrainable ? [head] : parts ?? [head];
        long[] firsts = [.. vocabulary.Select((_, j) => vocabulary.Take(j).Sum(part => part.Source.Shape[0].Size))];
        vocabulary = trained is null ? vocabulary : [.. vocabulary.Zip(firsts, trained.Patch)];
        return new Parts(vocabulary, firsts, Chunks(x), Chunks(g.UnsqueezeLast(labels)), Chunks(g.UnsqueezeLast(weights)));

        Value[] Chunks(Value whole) => chunks == 1 ? [whole] : g.Split(whole, chunks, "chunk");
    }

    /// <summary>Probabilities of a chunk of rows, −log of that of each row's label, [chunk, 1], and where asked for the token of the largest logit of each
    /// row, of equal ones the first, [chunk, 1].</summary>
    private static (Probabilities, Value Nll, Value? Predicted) Forward(
        GraphBuilder g, Value x, IReadOnlyList<Weight> vocabulary, Value label, bool predicts)
    {
        int parts = vocabulary.Count;
        Value[] tokens = new Value[parts];
        Value[] within = new Value[parts];
        Value[] highest = new Value[parts];
        Value[] tops = new Value[parts];
        Value[] scores = new Value[parts];
        long first = 0;
        for (int j = 0; j < parts; j++)
        {
            long size = vocabulary[j].Source.Shape[0].Size;
            Value logits = g.Gemm(x, vocabulary[j].Read(g), transB: true); // [chunk, part]
            scores[j] = parts == 1 ? g.GatherLast(logits, label) : Labelled(logits, first, size); // [chunk, 1]
            if (predicts)
            {
                // The largest is read where it was found, so that both are done with the logits at once.
                Value at = g.ArgMax(logits); // [chunk, 1]
                highest[j] = g.GatherLast(logits, at); // [chunk, 1]
                tokens[j] = first == 0 ? at : g.Add(at, g.Int64(first)); // [chunk, 1]
            }
            else
            {
                highest[j] = g.ReduceMax(logits, [-1], keepAxes: true); // [chunk, 1]
            }

            within[j] = g.Softmax(logits); // [chunk, part]
            tops[j] = g.ReduceMax(within[j], [-1], keepAxes: true); // [chunk, 1], 1 / Σ exp(logits − highest)
            first += size;
        }

        // −log p(label) = (highest − score) − log p(highest): both are exact where the label is all but certain.
        Value score = scores.Aggregate((sum, part) => g.Add(sum, part)); // [chunk, 1]
        if (parts == 1)
        {
            return (new Probabilities(within, []), Nll(highest[0], tops[0]), predicts ? tokens[0] : null);
        }

        // log Σ exp(logits) of a part is highest − log top; 0·score: the scores are taken before their logits are freed.
        Value[] sums = [.. Enumerable.Range(0, parts).Select(j => g.Sub(g.Add(highest[j], g.Mul(scores[j], g.Float(0f))), g.Log(tops[j])))]; // [chunk, 1]
        Value shares = g.Softmax(g.Concat(sums, 1, parts)); // [chunk, parts]
        Value top = g.ReduceMax(g.Mul(shares, g.Concat(tops, 1, parts)), [-1], keepAxes: true); // [chunk, 1]
        Value most = g.Concat(highest, 1, parts); // [chunk, parts]
        Value? predicted = predicts ? g.GatherLast(g.Concat(tokens, 1, parts), g.ArgMax(most)) : null; // [chunk, 1]
        return (new Probabilities(within, g.Split(shares, parts, 1, 1)), Nll(g.ReduceMax(most, [-1], keepAxes: true), top), predicted);

        Value Nll(Value largest, Value probability) => g.Sub(g.Sub(largest, score), g.Log(probability)); // [chunk, 1]

        // The label's logit where the label lies in this part, else 0.
        Value Labelled(Value logits, long start, long size)
        {
            Value at = g.Sub(label, g.Int64(start)); // [chunk, 1]
            Value inside = g.And(g.GreaterOrEqual(at, g.Int64(0)), g.GreaterOrEqual(g.Int64(size - 1), at)); // [chunk, 1]
            return g.Where(inside, g.GatherLast(logits, g.Max(g.Min(at, g.Int64(size - 1)), g.Int64(0))), g.Float(0f)); // [chunk, 1]
        }
    }

    /// <summary>P H: [chunk, hidden].</summary>
    private static Value Expected(GraphBuilder g, Probabilities p, IReadOnlyList<Weight> vocabulary) => Enumerable.Range(0, vocabulary.Count).Select(j =>
    {
        Value product = g.Gemm(p.Within[j], vocabulary[j].Read(g)); // [chunk, part] [part, hidden] -> [chunk, hidden]
        return vocabulary.Count == 1 ? product : g.Mul(product, p.Shares[j]); // [chunk, hidden]
    }).Aggregate((sum, part) => g.Add(sum, part));

    /// <summary>What the loss is computed of, in its parts.</summary>
    /// <param name="Vocabulary">The head's rows, [part, hidden] each.</param>
    /// <param name="Firsts">The token of each part's first row.</param>
    /// <param name="Rows">x, [chunk, hidden] each.</param>
    /// <param name="Labels">[chunk, 1] each.</param>
    /// <param name="Weights">[chunk, 1] each.</param>
    private sealed record Parts(IReadOnlyList<Weight> Vocabulary, long[] Firsts, Value[] Rows, Value[] Labels, Value[] Weights);

    /// <summary>P of a chunk of rows.</summary>
    /// <param name="Within">Of each part of the vocabulary the softmax within it, [chunk, part].</param>
    /// <param name="Shares">Of each part its share of the whole, [chunk, 1]; empty for a single part.</param>
    private sealed record Probabilities(Value[] Within, Value[] Shares);
}
