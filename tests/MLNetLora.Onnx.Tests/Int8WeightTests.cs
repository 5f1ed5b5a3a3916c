namespace MLNetLora.Onnx.Tests;

/// <summary>Products in 8-bit integers against the same quantization and the same sums in C#.</summary>
public sealed class Int8WeightTests
{
    private const int Rows = 5, In = 37, Out = 21;

    [Fact]
    public void The_forward_product_smooths_quantizes_and_sums_as_said()
    {
        Random random = new(1);
        Data x = Data.Random(random, Rows, In);
        Array.Clear(x.Values, 2 * In, In); // a row of zeros stays zeros
        x.Values[3 * In] = 500; // far larger than its neighbours
        Dictionary<string, Data> inputs = Inputs(random);
        inputs["x"] = x;
        inputs["bias"] = Data.Random(random, Out);
        Dictionary<string, float[]> results = Run(inputs, (g, v) => Weight(v).Product(g, v["x"], new FloatWeight(v["bias"])));
        float[] smooth = [.. x.Values.Select((value, i) => value * inputs["smoothing"].Values[i % In])];
        float[] expected = Expected(smooth, In, inputs["forward"].Values, inputs["forward scales"].Values);
        AssertClose([.. expected.Select((value, i) => value + inputs["bias"].Values[i % Out])], results["y"]);
        Assert.Equal(inputs["bias"].Values, results["y"][(2 * Out)..(3 * Out)]);
    }

    [Fact]
    public void The_backward_product_adds_to_what_is_there()
    {
        Random random = new(2);
        Dictionary<string, Data> inputs = Inputs(random);
        inputs["dy"] = Data.Random(random, Rows, Out);
        inputs["sum"] = Data.Random(random, Rows, In);
        Dictionary<string, float[]> results = Run(inputs, (g, v) => Weight(v).InputGradient(g, v["dy"], v["sum"]));
        float[] expected = Expected(inputs["dy"].Values, Out, inputs["backward"].Values, inputs["backward scales"].Values);
        AssertClose([.. expected.Select((value, i) => value + inputs["sum"].Values[i])], results["y"]);
    }

    [Fact]
    public void Layers_with_the_same_input_quantize_it_once()
    {
        GraphBuilder graph = new("test");
        Dictionary<string, Value> values = Declare(graph, Inputs(new Random(3)));
        Value x = graph.Input("x", ElementType.Float32, "rows", In);
        int before = graph.NodeCount;
        Value first = Weight(values).Product(graph, x);
        int alone = graph.NodeCount - before;
        Value second = Weight(values).Product(graph, x);
        Assert.Equal(2, graph.NodeCount - before - alone); // the product and its scales
        Assert.NotSame(first, second);
        graph.Output("y", graph.Add(first, second));
        Assert.Equal(0, graph.UsedInitializers().Count(name => name.StartsWith("forward", StringComparison.Ordinal))); // those are inputs here
        Assert.Contains("const/u8:128", graph.UsedInitializers());
    }

    [Fact]
    public void A_quantized_weight_cannot_be_read()
    {
        GraphBuilder graph = new("test");
        Weight weight = Weight(Declare(graph, Inputs(new Random(4))));
        Assert.Contains("forward is quantized", Assert.Throws<NotSupportedException>(() => weight.Read(graph)).Message, StringComparison.Ordinal);
    }

    private static Dictionary<string, Data> Inputs(Random random) => new()
    {
        ["forward"] = Whole(random, In, Out),
        ["forward scales"] = Scales(random, Out),
        ["smoothing"] = Scales(random, In),
        ["backward"] = Whole(random, Out, In),
        ["backward scales"] = Scales(random, In),
    };

    // At most 63: processors without VNNI add products in pairs, in 16 bits that larger weights overflow (Int8Weights.MaximumInteger).
    private static Data Whole(Random random, int rows, int columns) =>
        new([.. Enumerable.Range(0, rows * columns).Select(_ => (float)random.Next(-63, 64))], [rows, columns], ElementType.Int8);

    private static Data Scales(Random random, int count) => new([.. Enumerable.Range(0, count).Select(_ => 0.01f + random.NextSingle())], [count]);

    private static Int8Weight Weight(Dictionary<string, Value> v) =>
        new(v["forward"], v["forward scales"], v["smoothing"], v["backward"], v["backward scales"]);

    private static Dictionary<string, Value> Declare(GraphBuilder graph, Dictionary<string, Data> inputs) =>
        inputs.ToDictionary(i => i.Key, i => graph.Input(i.Key, i.Value.Type, [.. i.Value.Shape.Select(size => (Dimension)size)]));

    private static Dictionary<string, float[]> Run(Dictionary<string, Data> inputs, Func<GraphBuilder, Dictionary<string, Value>, Value> emit)
    {
        GraphBuilder graph = new("test");
        graph.Output("y", emit(graph, Declare(graph, inputs)));
        using OnnxRun run = new(graph);
        Dictionary<string, Data> read = new(inputs);
        return run.Run(read);
    }

    // x [rows, n] times w [n, columns].
    private static float[] Expected(float[] x, int n, float[] w, float[] columnScales)
    {
        int columns = columnScales.Length;
        float[] y = new float[x.Length / n * columns];
        for (int r = 0; r < x.Length / n; r++)
        {
            float[] row = x[(r * n)..((r + 1) * n)];
            float scale = Math.Max(row.Max(Math.Abs) * (1 / 127f), 1e-30f);
            double[] whole = [.. row.Select(value => Math.Round((double)(value / scale), MidpointRounding.ToEven))];
            for (int c = 0; c < columns; c++)
            {
                y[(r * columns) + c] = (float)(Enumerable.Range(0, n).Sum(i => whole[i] * w[(i * columns) + c]) * columnScales[c] * scale);
            }
        }

        return y;
    }

    private static void AssertClose(float[] expected, float[] actual)
    {
        float largest = expected.Max(Math.Abs);
        Assert.All(expected.Zip(actual), pair => Assert.InRange(Math.Abs(pair.First - pair.Second), 0, 2e-6f * largest));
    }
}
