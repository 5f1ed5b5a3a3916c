using Microsoft.ML.OnnxRuntime;

namespace MLNetLora.Onnx.Tests;

public sealed class RowStreamsTests
{
    [Theory]
    [InlineData(1, 24, 17, true)]
    [InlineData(1, 24, 17, false)]
    [InlineData(5, 24, 17, true)]
    [InlineData(5, 24, 17, false)]
    [InlineData(1, 8, 8, false)]
    [InlineData(1, 23, 17, true)] // eight does not divide the outputs
    [InlineData(3, 23, 17, true)]
    public void Products_are_the_ordinary_ones_to_the_bit(int rows, int outputs, int inputs, bool biased)
    {
        GraphBuilder graph = new("g");
        RowStreams streams = new(graph);
        Value x = graph.Input("x", ElementType.Float32, "rows", inputs);
        Value w = graph.Input("w", ElementType.Float32, outputs, inputs);
        Value? b = biased ? graph.Input("b", ElementType.Float32, outputs) : null;
        graph.Output("plain", new FloatWeight(w).Product(graph, x, b is null ? null : new FloatWeight(b)));
        graph.Output("streamed", new FloatWeight(w) { Streams = streams }.Product(graph, x, b is null ? null : new FloatWeight(b)));
        Random random = new(1);
        using OnnxRun run = new(graph, GraphOptimizationLevel.ORT_ENABLE_BASIC, threads: 2);
        Dictionary<string, float[]> y = run.Run(new Dictionary<string, Data>
        {
            ["x"] = Data.Random(random, rows, inputs),
            ["w"] = Data.Random(random, outputs, inputs),
            ["b"] = Data.Random(random, outputs),
        });
        Assert.Equal(y["plain"], y["streamed"]);
    }

    [Fact]
    public void Each_kernel_call_on_one_row_takes_a_row_of_every_part()
    {
        GraphBuilder graph = new("g");
        Value x = graph.Input("x", ElementType.Float32, "rows", 8);
        Value y = new FloatWeight(graph.Input("w", ElementType.Float32, 24, 8)) { Streams = new RowStreams(graph) }.Product(graph, x);
        graph.Output("y", y);
        Proto.NodeProto product = Proto.ModelProto.Parser.ParseFrom(graph.ToBytes()).Graph.Node.Single(node => node.OpType == "FusedMatMul");
        Assert.Equal(1, product.Attribute.Single(attribute => attribute.Name == "transBatchB").I);

        // The product's own batches show how it was cut: three of eight outputs from one row, one of all 24 from two rows.
        GraphBuilder cut = new("cut");
        RowStreams streams = new(cut);
        Value rows = cut.Input("x", ElementType.Float32, "rows", 8);
        Value parts = streams.Parts(rows, cut.Input("w", ElementType.Float32, 24, 8));
        cut.Output("sizes", cut.Cast(cut.Shape(parts), ElementType.Float32));
        using OnnxRun run = new(cut);
        Assert.Equal([8, 3, 8], Sizes(1));
        Assert.Equal([24, 1, 8], Sizes(2));

        float[] Sizes(int count) =>
            run.Run(new Dictionary<string, Data> { ["x"] = Data.Random(new Random(1), count, 8), ["w"] = Data.Random(new Random(2), 24, 8) })["sizes"];
    }

    [Fact]
    public void Sizes_are_made_once_for_each_shape_of_a_weight()
    {
        GraphBuilder graph = new("g");
        RowStreams streams = new(graph);
        Value x = graph.Input("x", ElementType.Float32, "rows", 8);
        Value first = streams.Product(x, graph.Input("w1", ElementType.Float32, 8, 8));
        graph.Output("y", streams.Product(first, graph.Input("w2", ElementType.Float32, 8, 8)));
        Assert.Single(Proto.ModelProto.Parser.ParseFrom(graph.ToBytes()).Graph.Node, node => node.OpType == "Where");
    }
}
