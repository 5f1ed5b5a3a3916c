namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// The output layer and the loss in one: logits = x Hᵀ, loss = Σᵢ wᵢ · (−log softmax(logitsᵢ)[labelᵢ]).
/// With P the softmax:  dx = w·(P H − H[label]),  dH = (w·P)ᵀ x minus w·x on the rows of the labels.
/// The rows are worked off in chunks: in the backward pass only one chunk's [rows, vocabulary] matrix is alive at a time.
/// </summary>
public static class CrossEntropy
{
    /// <summary>Emits output layer and loss. The gradient of the loss is taken to be one: it must be the end of the graph.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">[labels, hidden], labelled positions only, a multiple of <paramref name="chunks"/>.</param>
    /// <param name="head">[vocabulary, hidden].</param>
    /// <param name="labels">[labels], 64-bit.</param>
    /// <param name="weights">[labels], what each token's loss counts: one over the window's label tokens, or 0 for padding.</param>
    /// <param name="chunks">Number of parts.</param>
    /// <returns>The loss, no axes, in nats.</returns>
    public static Value Apply(Tape tape, Value x, Weight head, Value labels, Value weights, int chunks = 1)
    {
        GraphBuilder g = tape.Graph;
        Value column = g.UnsqueezeLast(labels); // [labels, 1]
        Value weightColumn = g.UnsqueezeLast(weights); // [labels, 1]
        Value[] xs = Parts(x);
        Value[] columns = Parts(column);
        Value[] ws = Parts(weightColumn);
        Value[] logps = new Value[chunks];
        Value[] losses = new Value[chunks];
        Value forwardHead = head.Read(g); // [vocabulary, hidden]; a 16-bit one is cast once forward and once backward, not for each chunk
        for (int i = 0; i < chunks; i++)
        {
            logps[i] = g.LogSoftmax(g.Gemm(xs[i], forwardHead, transB: true)); // [chunk, vocabulary]
            Value nll = g.Neg(g.GatherLast(logps[i], columns[i])); // [chunk, 1]
            losses[i] = g.ReduceSum(g.Mul(nll, ws[i]), [0, 1], keepAxes: false); // []
        }

        Value loss = losses.Aggregate((sum, part) => g.Add(sum, part)); // []
        return tape.Record(loss, [x, head.Source], _ =>
        {
            Value[] dxs = new Value[chunks];
            Value backwardHead = head.Read(g);
            for (int i = 0; i < chunks; i++)
            {
                // 0·loss: orders the chunk's loss before its gradient, so that its log-probabilities can be freed with it.
                Value w = g.Add(ws[i], g.Mul(losses[i], g.Float(0f))); // [chunk, 1]
                Value p = g.Exp(logps[i]); // [chunk, vocabulary]
                Value labelled = g.Cast(g.Gather(head.Source, Squeeze(columns[i])), ElementType.Float32); // [chunk, hidden]
                dxs[i] = g.Mul(g.Sub(g.Gemm(p, backwardHead), labelled), w); // [chunk, hidden]
                if (head.IsTrainable)
                {
                    (Value part, Value column) = (xs[i], columns[i]);
                    tape.AddParameterGradient(head.Source, () =>
                    {
                        Value weighted = g.Mul(part, w); // [chunk, hidden]
                        return g.ScatterAdd(g.Gemm(p, weighted, transA: true), column, g.Neg(weighted)); // [vocabulary, hidden]
                    });
                }
            }

            tape.AddGradient(x, () => chunks == 1 ? dxs[0] : g.Concat(dxs, 0, x.Shape[0])); // [labels, hidden]
        });

        Value[] Parts(Value whole) => chunks == 1 ? [whole] : g.Split(whole, chunks, "chunk");
        Value Squeeze(Value one) => g.Reshape(one, [-1], [one.Shape[0]]);
    }
}
