using MLNetLora.Onnx;
using MLNetLora.Quantization;

namespace MLNetLora.Artifacts;

/// <summary>
/// Builds the models of an optimizer's step. gradient_norm_model.onnx: the global norm of all gradients, and the factor that clips them to it.
/// optimizer_model.onnx: the step of a piece of the parameters, which are flat vectors, so that the graph has some twenty nodes whatever the model.
/// optimizer_8bit_model.onnx: the same of blocks whose states are in 8 bits, for a device that shall not copy them back to be packed.
/// </summary>
internal static class OptimizerModel
{
    /// <summary>The norm and the factor.</summary>
    /// <param name="groups">How many.</param>
    /// <param name="isScaled">Whether the gradients are those of a loss that was multiplied with loss_scale, which the factor undoes.</param>
    /// <remarks>Inputs: gradients.i [n], with i the group; maximum_norm []; where asked for loss_scale []. Outputs: gradient_norm [] before clipping; clip [].
    /// </remarks>
    public static ModelArtifact Norm(int groups, bool isScaled = false)
    {
        GraphBuilder g = new("gradient_norm");
        Value maximum = g.Input("maximum_norm", ElementType.Float32);
        Value[] gradients = [.. Enumerable.Range(0, groups).Select(i => g.Input($"gradients.{i}", ElementType.Float32, $"n{i}"))];
        Value norm = g.Sqrt(gradients.Select(g.SumOfSquares).Aggregate((sum, part) => g.Add(sum, part))); // []
        Value? scale = isScaled ? g.Input("loss_scale", ElementType.Float32) : null;
        norm = scale is null ? norm : g.Div(norm, scale); // []
        Value clip = g.Min(g.Float(1f), g.Div(maximum, g.Add(norm, g.Float(1e-6f)))); // []
        clip = scale is null ? clip : g.Div(clip, scale); // []
        g.Output("gradient_norm", norm);
        g.Output("clip", clip);
        return new ModelArtifact("gradient_norm_model.onnx", g.ToBytes(), null);
    }

    /// <summary>The step.</summary>
    /// <remarks>
    /// Inputs: parameters, gradients and each state [n]; clip []; the optimizer's scalars []. Outputs: new_parameters and new_STATE [n]. A state is read by
    /// one node, which the node of its new value depends on: the two can therefore share memory. The one reading of gradients comes before the writing of
    /// new_parameters, which may therefore take the gradients' memory: the old parameters then stay as they are until the step is whole.
    /// </remarks>
    public static ModelArtifact Step(Optimizer optimizer)
    {
        GraphBuilder g = new("optimizer");
        Value clip = g.Input("clip", ElementType.Float32);
        Value parameters = g.Input("parameters", ElementType.Float32, "n"); // [n]
        Value gradients = g.Input("gradients", ElementType.Float32, "n"); // [n]
        Value[] states = [.. optimizer.States.Select(state => g.Input(state.Name, ElementType.Float32, "n"))]; // [n]
        StepInputs inputs = new(parameters, g.Mul(gradients, clip), states, name => g.Input(name, ElementType.Float32));
        StepOutputs updated = optimizer.Build(g, inputs);
        foreach ((OptimizerState state, Value value) in optimizer.States.Zip(updated.States))
        {
            Output(g, $"new_{state.Name}", value);
        }

        Output(g, "new_parameters", updated.Parameters);
        return new ModelArtifact("optimizer_model.onnx", g.ToBytes(), null);
    }

    /// <summary>The step of blocks whose states are in 8 bits, from codes to codes.</summary>
    /// <remarks>
    /// Inputs: parameters and gradients [blocks, 256]; of each state STATE.codes, unsigned 8-bit [blocks, 256], and STATE.absmax [blocks, 1]; clip []; the
    /// optimizer's scalars []. Outputs: new_parameters, new_STATE.codes and new_STATE.absmax. They may take memory as those of <see cref="Step"/> do.
    /// </remarks>
    public static ModelArtifact EightBitStep(Optimizer optimizer)
    {
        GraphBuilder g = new("optimizer_8bit");
        Dimension[] shape = ["blocks", DynamicMap.BlockSize];
        Value clip = g.Input("clip", ElementType.Float32);
        Value parameters = g.Input("parameters", ElementType.Float32, shape); // [blocks, 256]
        Value gradients = g.Input("gradients", ElementType.Float32, shape); // [blocks, 256]
        Value[] states = [.. optimizer.States.Select(state => DynamicMapGraph.Dequantize(g, state.Map, // [blocks, 256]
            g.Input($"{state.Name}.codes", ElementType.UInt8, shape), g.Input($"{state.Name}.absmax", ElementType.Float32, "blocks", 1)))];
        StepInputs inputs = new(parameters, g.Mul(gradients, clip), states, name => g.Input(name, ElementType.Float32));
        StepOutputs updated = optimizer.Build(g, inputs);
        foreach ((OptimizerState state, Value value) in optimizer.States.Zip(updated.States))
        {
            (Value codes, Value absmax) = DynamicMapGraph.Quantize(g, state.Map, value);
            g.Output($"new_{state.Name}.codes", codes);
            g.Output($"new_{state.Name}.absmax", absmax);
        }

        Output(g, "new_parameters", updated.Parameters);
        return new ModelArtifact("optimizer_8bit_model.onnx", g.ToBytes(), null);
    }

    /// <summary>The node that computes it writes it, so that it can be written over what that node has read.</summary>
    private static void Output(GraphBuilder g, string name, Value value)
    {
        if (value.Name != name)
        {
            throw new InvalidOperationException($"The optimizer's {value.Name} must be named {name}.");
        }

        g.Output(value);
    }
}
