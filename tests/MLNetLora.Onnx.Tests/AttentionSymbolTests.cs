using MLNetLora.Onnx.Differentiable;

namespace MLNetLora.Onnx.Tests;

/// <summary>Matrices of attention that have a shape in common are one piece of memory to the runtime, held from the first to the last of them.</summary>
public sealed class AttentionSymbolTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void With_probabilities_made_anew_no_scores_share_a_shape(bool recompute)
    {
        GraphBuilder graph = new("g");
        Tape tape = new(graph);
        Value x = graph.Input("x", ElementType.Float32, 1, 2, "sequence", 4);
        tape.Parameter(x);
        CausalMask mask = CausalMask.Build(graph, graph.Input("first", ElementType.Int64, 1, "sequence"), chunks: 2);
        Value y = Attention.Apply(tape, Attention.Apply(tape, x, x, x, mask, recompute), x, x, mask, recompute);
        Value loss = graph.ReduceSum(y, [0, 1, 2, 3], keepAxes: false);
        tape.Record(loss, [y], _ => tape.AddGradient(y, () => y));
        foreach ((Value parameter, Value gradient) in tape.Backward(loss))
        {
            graph.Output(parameter.Name + ".gradient", gradient);
        }

        Proto.GraphProto written = Proto.ModelProto.Parser.ParseFrom(graph.ToBytes()).Graph;
        HashSet<string> products = [.. written.Node.Where(node => node.OpType == "FusedMatMul").Select(node => node.Output[0])];
        string[] scores = [.. written.ValueInfo.Where(info => products.Contains(info.Name)).Select(info => info.Type.TensorType.Shape.Dim[^1].DimParam).Where(
            symbol => symbol.Contains("visible", StringComparison.Ordinal))];
        Assert.Equal(recompute ? 12 : 8, scores.Length); // two layers of two chunks: forward, again where recomputed, and the gradient of the probabilities
        Assert.Equal(recompute ? 12 : 2, scores.Distinct().Count());
    }
}
