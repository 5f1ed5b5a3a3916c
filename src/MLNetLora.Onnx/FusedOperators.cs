using MLNetLora.Onnx.Differentiable;
using MLNetLora.Onnx.Proto;

namespace MLNetLora.Onnx;

/// <summary>
/// Operators of this library's own: one kernel each where the plain graph has several, which pass all their numbers through memory. In 16 bits they read and
/// write these, and compute in float32 between: what comes out is rounded once.
/// </summary>
internal static class FusedOperators
{
    /// <summary>Their domain.</summary>
    public const string Domain = "mlnetlora";

    /// <summary>gate, up → y.</summary>
    public const string SwiGlu = "SwiGlu";

    /// <summary>dy, gate, up → dgate, dup.</summary>
    public const string SwiGluGrad = "SwiGluGrad";

    /// <summary>dy, x, w, r → dx; the gradient of w is the plain graph's.</summary>
    public const string RmsNormGrad = "RmsNormGrad";

    /// <summary>Which input of <see cref="RmsNormGrad"/> is r, 1/√(mean x² + ε): it is in float32 where the others are in 16 bits.</summary>
    public const int InverseStd = 3;

    private static readonly Dimension[] s_matrix = ["rows", "n"];

    /// <summary>The formula of an operator, by operators of ONNX: what it computes where there is no kernel for it.</summary>
    /// <param name="name">The operator.</param>
    public static FunctionProto Formula(string name)
    {
        GraphBuilder g = new(name); // inputs in the operator's order
        switch (name)
        {
            case SwiGlu:
                g.Output("y", Differentiable.SwiGlu.Forward(g, Input("gate"), Input("up")));
                break;
            case SwiGluGrad:
                (Value dy, Value gate, Value up) = (Input("dy"), Input("gate"), Input("up"));
                Value share = Differentiable.SwiGlu.Share(g, dy, gate);
                g.Output("dgate", Differentiable.SwiGlu.OfGate(g, share, gate, up));
                g.Output("dup", Differentiable.SwiGlu.OfUp(g, share, gate));
                break;
            case RmsNormGrad:
                g.Output("dx", RmsNorm.OfX(g, Input("dy"), Input("x"), g.Input("w", ElementType.Float32, "n"), g.Input("r", ElementType.Float32, "rows", 1)));
                break;
            default:
                throw new ArgumentException($"There is no fused operator '{name}'.", nameof(name));
        }

        return g.ToFunction(Domain);

        Value Input(string input) => g.Input(input, ElementType.Float32, s_matrix);
    }
}
