using MLNetLora.Artifacts;
using MLNetLora.Onnx;

namespace MLNetLora.Training;

/// <summary>The optimizers that a run can have.</summary>
internal static class Optimizers
{
    /// <summary>The one that the options ask for.</summary>
    public static Optimizer Of(TrainingOptions options) => options.Optimizer switch
    {
        OptimizerKind.AdamW8Bit => AdamW(options.AdamBeta1, options.AdamBeta2, options.AdamEpsilon) with { EightBitFrom = options.EightBitFrom },
        OptimizerKind.Sgd => Sgd,
        OptimizerKind.Lion => Lion(options.LionBeta1, options.LionBeta2),
        _ => AdamW(options.AdamBeta1, options.AdamBeta2, options.AdamEpsilon),
    };

    /// <summary>AdamW with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101), in PyTorch's order of operations.</summary>
    /// <remarks>Scalars: decay = 1 − lr·weight_decay; step_size = lr / (1 − beta1ᵗ); second_correction = √(1 − beta2ᵗ).</remarks>
    /// <param name="beta1">Decay of the first moment.</param>
    /// <param name="beta2">Decay of the second moment.</param>
    /// <param name="epsilon">Added to the corrected square root.</param>
    public static Optimizer AdamW(double beta1, double beta2, double epsilon)
    {
        return new([new OptimizerState("first_moment", IsSigned: true), new OptimizerState("second_moment", IsSigned: false)], Build, Scalars);

        StepOutputs Build(GraphBuilder g, StepInputs u)
        {
            Value m = g.Add(g.Mul(u.States[0], g.Float((float)beta1)), g.Mul(u.Gradients, g.Float((float)(1 - beta1))), "new_first_moment"); // [n]
            Value decayedV = g.Mul(u.States[1], g.Float((float)beta2)); // [n]
            Value v = g.Add(decayedV, g.Mul(g.Mul(u.Gradients, u.Gradients), g.Float((float)(1 - beta2))), "new_second_moment"); // [n]
            Value denominator = g.Add(g.Div(g.Sqrt(v), u.Scalar("second_correction")), g.Float((float)epsilon)); // [n]
            Value decayed = g.Mul(u.Parameters, u.Scalar("decay")); // [n]
            return new StepOutputs(g.Sub(decayed, g.Mul(g.Div(m, denominator), u.Scalar("step_size")), "new_parameters"), [m, v]);
        }

        // Corrections in double: 1 − 0.999 has only four good digits in float32.
        IReadOnlyDictionary<string, double> Scalars(StepNumbers n) => new Dictionary<string, double>
        {
            ["decay"] = 1 - (n.LearningRate * n.WeightDecay),
            ["step_size"] = n.LearningRate / (1 - Math.Pow(beta1, n.Step)),
            ["second_correction"] = Math.Sqrt(1 - Math.Pow(beta2, n.Step)),
        };
    }

    /// <summary>Gradient descent without momentum. Weight decay on the gradient, as PyTorch's SGD has it, is then the same as on the parameters.</summary>
    /// <remarks>Scalars: decay = 1 − lr·weight_decay; step_size = lr.</remarks>
    public static Optimizer Sgd { get; } = new(
        [],
        (g, u) => new StepOutputs(
            g.Sub(g.Mul(u.Parameters, u.Scalar("decay")), g.Mul(u.Gradients, u.Scalar("step_size")), "new_parameters"), // [n]
            []),
        n => new Dictionary<string, double> { ["decay"] = 1 - (n.LearningRate * n.WeightDecay), ["step_size"] = n.LearningRate });

    /// <summary>Lion (Chen et al. 2023, arXiv:2302.06675): p·(1 − lr·weight_decay) − lr·sign(beta1·m + (1 − beta1)·g); m = beta2·m + (1 − beta2)·g.</summary>
    /// <remarks>Scalars: decay = 1 − lr·weight_decay; step_size = lr.</remarks>
    /// <param name="beta1">Share of the momentum in the direction of a step.</param>
    /// <param name="beta2">Decay of the momentum.</param>
    public static Optimizer Lion(double beta1, double beta2)
    {
        return new([new OptimizerState("momentum", IsSigned: true)], Build, Scalars);

        StepOutputs Build(GraphBuilder g, StepInputs u)
        {
            Value old = g.Mul(u.States[0], g.Float(1f)); // [n], a copy: two nodes need it, and the new momentum is written over the state
            Value mixed = g.Add(g.Mul(old, g.Float((float)beta1)), g.Mul(u.Gradients, g.Float((float)(1 - beta1)))); // [n]
            Value m = g.Add(g.Mul(old, g.Float((float)beta2)), g.Mul(u.Gradients, g.Float((float)(1 - beta2))), "new_momentum"); // [n]
            Value decayed = g.Mul(u.Parameters, u.Scalar("decay")); // [n]
            return new StepOutputs(g.Sub(decayed, g.Mul(g.Sign(mixed), u.Scalar("step_size")), "new_parameters"), [m]);
        }

        static IReadOnlyDictionary<string, double> Scalars(StepNumbers n) => new Dictionary<string, double>
        {
            ["decay"] = 1 - (n.LearningRate * n.WeightDecay),
            ["step_size"] = n.LearningRate,
        };
    }
}
