using MLNetLora.Onnx;

namespace MLNetLora.Artifacts;

/// <summary>What AdamW's graph has fixed in it.</summary>
/// <param name="Beta1">Decay of the first moment.</param>
/// <param name="Beta2">Decay of the second moment.</param>
/// <param name="Epsilon">Added to the corrected square root.</param>
internal sealed record AdamW(double Beta1, double Beta2, double Epsilon);

/// <summary>
/// Builds optimizer_model.onnx: AdamW with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101) after clipping by the global norm,
/// in PyTorch's order of operations. All tensors of a group are one flat vector, so the graph has some twenty nodes whatever the model.
/// </summary>
/// <remarks>
/// Inputs, with i the group: parameters.i, gradients.i, first_moment.i, second_moment.i [n]; decay.i [] = 1 − lr·weight_decay;
/// step_size [] = lr / (1 − beta1ᵗ); second_correction [] = √(1 − beta2ᵗ); maximum_norm [].
/// Outputs: gradient_norm [] before clipping; new_parameters.i, new_first_moment.i, new_second_moment.i. A moment is read by one node,
/// which the node of its new value depends on: the two can therefore share memory. Every reading of gradients.i comes before the writing of
/// new_parameters.i, which may therefore take the gradients' memory: the old parameters then stay as they are until the step is whole.
/// </remarks>
internal static class OptimizerModel
{
    /// <summary>The graph for a number of groups.</summary>
    public static ModelArtifact Build(int groups, AdamW adam)
    {
        GraphBuilder g = new("optimizer");
        Value one = g.Float(1f);
        Value stepSize = g.Input("step_size", ElementType.Float32);
        Value correction = g.Input("second_correction", ElementType.Float32);
        Value maximum = g.Input("maximum_norm", ElementType.Float32);
        Value[] gradients = [.. Enumerable.Range(0, groups).Select(i => g.Input($"gradients.{i}", ElementType.Float32, $"n{i}"))];
        Value norm = g.Sqrt(gradients.Select(g.SumOfSquares).Aggregate((sum, part) => g.Add(sum, part))); // []
        Value clip = g.Min(one, g.Div(maximum, g.Add(norm, g.Float(1e-6f)))); // []
        for (int i = 0; i < groups; i++)
        {
            Value decay = g.Input($"decay.{i}", ElementType.Float32);
            Value p = g.Input($"parameters.{i}", ElementType.Float32, $"n{i}"); // [n]
            Value m = g.Input($"first_moment.{i}", ElementType.Float32, $"n{i}"); // [n]
            Value v = g.Input($"second_moment.{i}", ElementType.Float32, $"n{i}"); // [n]
            Value clipped = g.Mul(gradients[i], clip); // [n]
            Value newM = g.Add(g.Mul(m, g.Float((float)adam.Beta1)), g.Mul(clipped, g.Float((float)(1 - adam.Beta1))), $"new_first_moment.{i}"); // [n]
            Value decayedV = g.Mul(v, g.Float((float)adam.Beta2)); // [n]
            Value newV = g.Add(decayedV, g.Mul(g.Mul(clipped, clipped), g.Float((float)(1 - adam.Beta2))), $"new_second_moment.{i}"); // [n]
            Value denominator = g.Add(g.Div(g.Sqrt(newV), correction), g.Float((float)adam.Epsilon)); // [n]
            Value newP = g.Sub(g.Mul(p, decay), g.Mul(g.Div(newM, denominator), stepSize), $"new_parameters.{i}"); // [n]
            g.Output(newM);
            g.Output(newV);
            g.Output(newP);
        }

        g.Output("gradient_norm", norm);
        return new ModelArtifact("optimizer_model.onnx", g.ToBytes(), null);
    }
}
