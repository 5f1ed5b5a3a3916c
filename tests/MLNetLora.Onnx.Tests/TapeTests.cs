using MLNetLora.Onnx.Differentiable;

namespace MLNetLora.Onnx.Tests;

public sealed class TapeTests
{
    [Fact]
    public void Nothing_below_the_lowest_trainable_tensor_gets_backward_nodes()
    {
        GraphBuilder graph = new("g");
        Tape tape = new(graph);
        Value x = graph.Input("x", ElementType.Float32, 2, 3);
        Value y = Linear.Apply(tape, x, new FloatWeight(graph.Input("frozen", ElementType.Float32, 3, 3)));
        Assert.False(tape.Needs(y));
        Value z = Linear.Apply(tape, y, tape.Parameter(graph.Input("trained", ElementType.Float32, 3, 3)));
        Assert.True(tape.Needs(z));
        Value loss = Loss(graph, tape, z);
        (_, Value gradient) = Assert.Single(tape.Backward(loss));
        graph.Output("loss", loss);
        graph.Output("gradient", gradient);

        // Two layers and the output layer forward; the output layer's dx and the trained layer's dW backward: no gradient of y, none of x.
        Proto.ModelProto model = Proto.ModelProto.Parser.ParseFrom(graph.ToBytes());
        Assert.Equal(5, model.Graph.Node.Count(node => node.OpType == "Gemm"));
    }

    [Fact]
    public void A_tensor_that_the_loss_does_not_depend_on_is_missing()
    {
        GraphBuilder graph = new("g");
        Tape tape = new(graph);
        tape.Parameter(graph.Input("unused", ElementType.Float32, 3));
        Value x = graph.Input("x", ElementType.Float32, 2, 3);
        Value y = Linear.Apply(tape, x, tape.Parameter(graph.Input("used", ElementType.Float32, 3, 3)));
        Assert.Equal(["used"], tape.Backward(Loss(graph, tape, y)).Select(item => item.Parameter.Name));
    }

    [Theory]
    [InlineData(Microsoft.ML.OnnxRuntime.GraphOptimizationLevel.ORT_DISABLE_ALL)]
    [InlineData(Microsoft.ML.OnnxRuntime.GraphOptimizationLevel.ORT_ENABLE_ALL)]
    public void Recomputing_changes_no_gradient(Microsoft.ML.OnnxRuntime.GraphOptimizationLevel level)
    {
        Random random = new(1);
        Dictionary<string, Data> inputs = new()
        {
            ["x"] = Data.Random(random, 3, 4),
            ["w1"] = Data.Random(random, 4, 4),
            ["w2"] = Data.Random(random, 4, 4),
            ["norm"] = Data.Random(random, 4),
            ["head"] = Data.Random(random, 6, 4),
            ["labels"] = new([1, 5, 2], [3], ElementType.Int64),
            ["weights"] = new([0.5f, 0.25f, 0.25f], [3]),
        };
        Dictionary<string, float[]> plain = Gradients(checkpointing: false);
        Dictionary<string, float[]> recomputed = Gradients(checkpointing: true);
        Assert.Equal(plain.Keys.Order(), recomputed.Keys.Order());
        Assert.All(plain, item => Assert.Equal(item.Value, recomputed[item.Key]));

        Dictionary<string, float[]> Gradients(bool checkpointing)
        {
            GraphBuilder graph = new("g");
            Tape tape = new(graph);
            Weight w1 = tape.Parameter(graph.Input("w1", ElementType.Float32, 4, 4));
            Weight w2 = tape.Parameter(graph.Input("w2", ElementType.Float32, 4, 4));
            Weight norm = tape.Parameter(graph.Input("norm", ElementType.Float32, 4));
            Value x = graph.Input("x", ElementType.Float32, "rows", 4);
            foreach (Weight w in (Weight[])[w1, w2])
            {
                x = checkpointing ? tape.Checkpoint(x, Block, ownMemory: true) : Block(tape, x);

                Value Block(Tape t, Value input) => Residual.Apply(t, input, Linear.Apply(t, RmsNorm.Apply(t, input, norm, 1e-6f), w));
            }

            Value loss = CrossEntropy.Apply(tape, x, new FloatWeight(graph.Input("head", ElementType.Float32, 6, 4)),
                graph.Input("labels", ElementType.Int64, "rows"), graph.Input("weights", ElementType.Float32, "rows"));
            foreach ((Value parameter, Value gradient) in tape.Backward(loss))
            {
                graph.Output(parameter.Name + ".gradient", gradient);
            }

            graph.Output("loss", loss);
            using OnnxRun run = new(graph, level);
            return run.Run(inputs);
        }
    }

    [Fact]
    public void Gradients_of_a_row_that_is_used_often_are_all_added_whatever_the_threads()
    {
        // 512 tokens of 4 kinds on 8 threads: a kernel that adds without a lock loses some of them.
        const int Tokens = 512, Width = 896;
        GraphBuilder graph = new("g");
        Tape tape = new(graph);
        Value ids = graph.Input("ids", ElementType.Int64, Tokens);
        Value x = Embedding.Apply(tape, tape.Parameter(graph.Input("table", ElementType.Float32, 4, Width)), ids);
        Value loss = CrossEntropy.Apply(tape, x, tape.Parameter(graph.Input("head", ElementType.Float32, 6, Width)),
            graph.Input("labels", ElementType.Int64, Tokens), graph.Input("weights", ElementType.Float32, Tokens));
        foreach ((Value parameter, Value gradient) in tape.Backward(loss))
        {
            graph.Output(parameter.Name + ".gradient", gradient);
        }

        Random random = new(1);
        Dictionary<string, Data> inputs = new()
        {
            ["ids"] = new([.. Enumerable.Range(0, Tokens).Select(i => (float)(i / 128))], [Tokens], ElementType.Int64),
            ["table"] = Data.Random(random, 4, Width),
            ["head"] = Data.Random(random, 6, Width),
            ["labels"] = new([.. Enumerable.Range(0, Tokens).Select(i => (float)(i % 2))], [Tokens], ElementType.Int64),
            ["weights"] = new([.. Enumerable.Repeat(1f / Tokens, Tokens)], [Tokens]),
        };
        using OnnxRun one = new(graph, threads: 1);
        using OnnxRun eight = new(graph, threads: 8);
        Dictionary<string, float[]> expected = one.Run(inputs);
        for (int i = 0; i < 200; i++)
        {
            Dictionary<string, float[]> actual = eight.Run(inputs);
            Assert.All(expected, item => Assert.True(item.Value.Zip(actual[item.Key], (a, b) => Math.Abs(a - b)).Max() < 1e-5f, item.Key));
        }
    }

    [Fact]
    public void A_recomputed_segment_waits_for_the_gradient()
    {
        GraphBuilder graph = new("g");
        Tape tape = new(graph);
        Weight w = tape.Parameter(graph.Input("w", ElementType.Float32, 4, 4));
        Value x = graph.Input("x", ElementType.Float32, "rows", 4);
        Value y = tape.Checkpoint(Linear.Apply(tape, x, w), (t, input) => SwiGlu.Apply(t, Linear.Apply(t, input, w), input));
        graph.Output("gradient", tape.Backward(Loss(graph, tape, y)).Single().Gradient);

        // Each node of the second copy must have the gradient's Shape above it; otherwise it would run with the forward pass and save nothing.
        Proto.GraphProto made = Proto.ModelProto.Parser.ParseFrom(graph.ToBytes()).Graph;
        Dictionary<string, Proto.NodeProto> producers = made.Node.SelectMany(node => node.Output.Select(output => (output, node))).ToDictionary(
            item => item.output, item => item.node);
        Proto.NodeProto[] again = [.. made.Node.Where(node => node.OpType is "Sigmoid" && node.Output[0].StartsWith("again/", StringComparison.Ordinal))];
        Assert.Single(again);
        Assert.Contains(Above(again[0]), node => node.OpType == "Shape");

        IEnumerable<Proto.NodeProto> Above(Proto.NodeProto node) =>
            node.Input.Where(producers.ContainsKey).SelectMany(input => Above(producers[input]).Append(producers[input]));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Recomputed_segments_of_their_own_memory_hand_on_none_to_each_other(bool ownMemory)
    {
        GraphBuilder graph = new("g");
        Tape tape = new(graph);
        Weight w = tape.Parameter(graph.Input("w", ElementType.Float32, 4, 4));
        Value x = Linear.Apply(tape, graph.Input("x", ElementType.Float32, "rows", 4), w);
        for (int i = 0; i < 3; i++)
        {
            x = tape.Checkpoint(x, (t, input) => SwiGlu.Apply(t, Linear.Apply(t, input, w), input), ownMemory);
        }

        graph.Output("gradient", tape.Backward(Loss(graph, tape, x)).Single().Gradient);
        Proto.GraphProto made = Proto.ModelProto.Parser.ParseFrom(graph.ToBytes()).Graph;
        Dictionary<string, string> symbols = made.ValueInfo.Where(info => info.Type.TensorType.Shape.Dim.Count == 2)
            .ToDictionary(info => info.Name, info => info.Type.TensorType.Shape.Dim[0].DimParam);
        string[] again = [.. made.Node.Where(node => node.OpType == "Sigmoid" && node.Output[0].StartsWith("again/", StringComparison.Ordinal))
            .Select(node => symbols[node.Output[0]])];
        Assert.Equal(ownMemory ? 3 : 1, again.Distinct().Count());
        Assert.Equal(!ownMemory, again.Contains("rows"));
    }

    [Fact]
    public void What_no_output_depends_on_is_left_out()
    {
        GraphBuilder graph = new("g");
        Tape tape = new(graph);
        Weight w = tape.Parameter(graph.Input("w", ElementType.Float32, 4, 4));
        Value x = graph.Input("x", ElementType.Float32, "rows", 4);
        FloatWeight frozen = new(graph.Input("frozen", ElementType.Float32, 4, 4));
        Value y = tape.Checkpoint(Linear.Apply(tape, x, w), (t, input) => Linear.Apply(t, SwiGlu.Apply(t, input, Linear.Apply(t, input, w)), frozen));
        Value loss = Loss(graph, tape, y);
        graph.Output("gradient", tape.Backward(loss).Single().Gradient);
        graph.Output("loss", loss);

        // The second copy needs the output of its first layer; nobody reads that of its last, whose weight is read forward once and for the gradient once.
        Proto.GraphProto made = Proto.ModelProto.Parser.ParseFrom(graph.ToBytes()).Graph;
        Assert.Single(made.Node, node => node.Output[0].StartsWith("again/", StringComparison.Ordinal)
            && node.OpType == "Gemm" && node.Input[1] == "w" && node.Attribute.Any(a => a.Name == "transB" && a.I == 1));
        Assert.Single(made.Node, node => node.OpType == "Gemm" && node.Input[1] == "frozen" && node.Attribute.Any(a => a.Name == "transB" && a.I == 1));
        HashSet<string> read = [.. made.Node.SelectMany(node => node.Input), .. made.Output.Select(output => output.Name)];
        Assert.All(made.Node, node => Assert.Contains(node.Output, read.Contains));
        Assert.Equal(graph.Products.Count, made.Node.Count(node => node.OpType is "Gemm" or "FusedMatMul"));
    }

    [Fact]
    public void A_name_is_given_once()
    {
        GraphBuilder graph = new("g");
        graph.Input("x", ElementType.Float32, 1);
        Assert.Contains("'x'", Assert.Throws<ArgumentException>(() => graph.Input("x", ElementType.Float32, 1)).Message, StringComparison.Ordinal);
    }

    private static Value Loss(GraphBuilder graph, Tape tape, Value x) =>
        CrossEntropy.Apply(tape, x, new FloatWeight(graph.Input("head", ElementType.Float32, 6, x.Shape[1])),
        graph.Input("labels", ElementType.Int64, x.Shape[0]), graph.Input("weights", ElementType.Float32, x.Shape[0]));
}
