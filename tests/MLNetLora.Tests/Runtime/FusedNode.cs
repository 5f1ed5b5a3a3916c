using System.Runtime.InteropServices;
using MLNetLora.Artifacts;
using MLNetLora.Onnx;
using MLNetLora.Runtime;

namespace MLNetLora.Tests.Runtime;

/// <summary>A fused kernel as the one node of a graph for a GPU.</summary>
internal static class FusedNode
{
    /// <summary>A session of a kernel's operator alone.</summary>
    public static OnnxSession Session(FusedKernel kernel, CudaDevice device)
    {
        GraphBuilder g = new("fused") { ForCuda = true, FusesKernels = true };
        Value[] x = [.. Enumerable.Range(0, kernel.Inputs).Select(i => g.Input($"input{i}", kernel.InputType(i), Shape(kernel, i)))];
        switch (kernel.Operator)
        {
            case FusedOperators.SwiGlu:
                g.Output("output0", g.SwiGlu(x[0], x[1]));
                break;
            case FusedOperators.SwiGluGrad:
                (Value ofGate, Value ofUp) = g.SwiGluGrad(x[0], x[1], x[2]);
                g.Output("output0", ofGate);
                g.Output("output1", ofUp);
                break;
            default:
                g.Output("output0", g.RmsNormGrad(x[0], x[1], x[2], x[3]));
                break;
        }

        return new OnnxSession(new ModelArtifact("fused.onnx", g.ToBytes(), null), SessionUse.Training, 1, device: device);
    }

    /// <summary>Runs it and looks at every number.</summary>
    public static void Run(OnnxSession session, FusedCase item, long[][]? shapes = null)
    {
        NativeTensor[] inputs = [.. Enumerable.Range(0, item.Kernel.Inputs).Select(i => item.Kernel.InputType(i) == ElementType.Float32
            ? Tensors.Of(item.Inputs[i], shapes?[i] ?? item.Shape(i))
            : NativeTensor.Over<ushort>(MemoryMarshal.Cast<byte, ushort>(item.Bytes(i)).ToArray(), item.Kernel.InputType(i), item.Shape(i)))];
        try
        {
            using NativeTensors outputs = session.Run([.. inputs.Select((_, i) => $"input{i}")], inputs, [.. item.Exact.Select((_, i) => $"output{i}")]);
            foreach ((int i, NativeTensor output) in outputs.Index())
            {
                item.Check(i, output.Span<byte>());
            }
        }
        finally
        {
            Array.ForEach(inputs, input => input.Dispose());
        }
    }

    private static Dimension[] Shape(FusedKernel kernel, int input) => kernel.Operator != FusedOperators.RmsNormGrad || input < 2 ? ["rows", "n"]
        : input == FusedOperators.InverseStd ? ["rows", 1] : ["n"];
}
