using Microsoft.ML.OnnxRuntime;
using MLNetLora.Onnx.Differentiable;
using MLNetLora.Onnx.Proto;

namespace MLNetLora.Onnx.Tests;

/// <summary>Attention of packed rows in chunks: the same numbers as each row alone, and no wider scores than a chunk's queries need.</summary>
public sealed class PackedAttentionTests
{
    private const int H = 4, D = 8;

    /// <summary>Row lengths per sequence (sequences apart by |), chunks, window (0: none).</summary>
    public static TheoryData<string, int, int> Packings => new()
    {
        { "5 4 3", 3, 0 }, // borders inside chunks
        { "4 4 4", 3, 0 }, // borders where chunks end: nothing is shared
        { "8 4", 3, 0 },
        { "1 1 1 1 1 1 1 1 1 1 1 1", 4, 0 },
        { "1 1 1 1 1 1 1 1 1 1 1 1", 12, 0 }, // chunks of one query
        { "12", 4, 0 }, // one row fills everything
        { "2 10", 4, 0 }, // a row over several chunks, beginning inside one
        { "5 4 3|12", 3, 0 }, // another row of the batch sees all
        { "7 5|4 4 4", 3, 0 },
        { "9 3|2 7 3", 4, 0 },
        { "12", 4, 2 },
        { "12", 4, 5 },
        { "5 7|12", 6, 3 },
        { "12|12", 3, 1 }, // a query sees itself alone
    };

    [Theory]
    [MemberData(nameof(Packings))]
    public void Packed_rows_give_the_result_and_gradients_of_each_row_alone(string packing, int chunks, int window)
    {
        foreach ((int kv, bool recompute) in (ReadOnlySpan<(int, bool)>)[(2, false), (2, true), (H, true)])
        {
            int[][] sequences = Parse(packing);
            (int batch, int length) = (sequences.Length, sequences[0].Sum());
            Random random = new(3);
            Dictionary<string, Data> inputs = new()
            {
                ["q"] = Data.Random(random, batch, H, length, D),
                ["k"] = Data.Random(random, batch, kv, length, D),
                ["v"] = Data.Random(random, batch, kv, length, D),
                ["dy"] = Data.Random(random, batch, H, length, D),
                ["first"] = Firsts(sequences, window),
            };
            Dictionary<string, float[]> packed = Run(inputs, kv, chunks, recompute);
            for (int s = 0; s < batch; s++)
            {
                for (int r = 0, at = 0; r < sequences[s].Length; at += sequences[s][r++])
                {
                    (int sequence, int start, int size) = (s, at, sequences[s][r]);
                    Dictionary<string, Data> alone = inputs.Where(i => i.Key != "first").ToDictionary(i => i.Key,
                        i => Part(i.Value.Values, (int)i.Value.Shape[1], length, sequence, start, size));
                    alone["first"] = Firsts([[size]], window);
                    foreach ((string name, float[] expected) in Run(alone, kv, chunks: 1, recompute: false))
                    {
                        float[] actual = Part(packed[name], name is "k.gradient" or "v.gradient" ? kv : H, length, sequence, start, size).Values;
                        Assert.Equal(expected.Length, actual.Length);
                        Assert.All(expected.Zip(actual),
                            pair => Assert.True(Math.Abs(pair.First - pair.Second) <= 2e-6f, $"{name}: {pair.First} alone, {pair.Second} packed"));
                    }
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Packings))]
    public void A_chunk_scores_the_keys_that_its_queries_see_and_a_symbol_is_one_size(string packing, int chunks, int window)
    {
        int[][] sequences = Parse(packing);
        (int batch, int length) = (sequences.Length, sequences[0].Sum());
        GraphBuilder graph = new("attention");
        Tape tape = new(graph);
        Dictionary<string, Data> inputs = new()
        {
            ["x"] = Data.Random(new Random(3), batch, H, length, D),
            ["first"] = Firsts(sequences, 0),
            ["windowed_first"] = Firsts(sequences, window),
        };
        Value x = Input("x", "batch", H, "sequence", D);
        tape.Parameter(x);
        Value full = Attention.Apply(tape, x, x, x, CausalMask.Build(graph, Input("first", "batch", "sequence"), chunks), recompute: true);
        Value windowed = Attention.Apply(tape, full, full, full, CausalMask.Build(graph, Input("windowed_first", "batch", "sequence"), chunks),
            recompute: true);
        Value loss = graph.ReduceSum(windowed, [0, 1, 2, 3], keepAxes: false);
        tape.Record(loss, [windowed], _ => tape.AddGradient(windowed, () => x));
        graph.Output("x.gradient", tape.Backward(loss)[0].Gradient);

        Dictionary<string, long[]> shapes = Shapes(graph, inputs, out ModelProto model);
        Dictionary<string, long> sizes = [];
        foreach (ValueInfoProto info in model.Graph.ValueInfo)
        {
            foreach ((TensorShapeProto.Types.Dimension dimension, long size) in info.Type.TensorType.Shape.Dim.Zip(shapes[info.Name]))
            {
                Assert.True(
                    dimension.DimParam.Length == 0 ? dimension.DimValue == size : sizes.TryAdd(dimension.DimParam, size) || sizes[dimension.DimParam] == size,
                    $"{info.Name} says {dimension}, which is {size} here and {sizes.GetValueOrDefault(dimension.DimParam)} elsewhere");
            }
        }

        int chunk = length / chunks;
        long[] widths = [.. new[] { "first", "windowed_first" }.SelectMany(name => Enumerable.Range(0, chunks).Select(i =>
            ((i + 1) * chunk) - (long)inputs[name].Values.Where((_, at) => at % length / chunk == i).Min()))];
        long[][] scores = [.. model.Graph.Node.Where(node => node.OpType == "Softmax").Select(node => shapes[node.Output[0]])];
        Assert.All(scores, shape => Assert.Equal([batch, H, chunk], shape[..3]));
        Assert.Equal(widths.Concat(widths).Order(), scores.Select(shape => shape[3]).Order()); // forward, and again backward

        Value Input(string name, params Dimension[] shape) => graph.Input(name, inputs[name].Type, shape);
    }

    [Fact]
    public void A_later_chunk_may_see_earlier_keys_again()
    {
        Random random = new(3);
        Dictionary<string, Data> inputs = new[] { "q", "k", "v", "dy" }.ToDictionary(name => name, _ => Data.Random(random, 1, H, 12, D));
        inputs["first"] = new Data([0, 0, 0, 3, 4, 4, 6, 7, 8, 2, 1, 5], [1, 12], ElementType.Int64); // the last three queries see more than those before them
        Dictionary<string, float[]> whole = Run(inputs, H, chunks: 1, recompute: false);
        foreach ((string name, float[] actual) in Run(inputs, H, chunks: 4, recompute: true))
        {
            Assert.All(whole[name].Zip(actual),
                pair => Assert.True(Math.Abs(pair.First - pair.Second) <= 2e-6f, $"{name}: {pair.First} whole, {pair.Second} in chunks"));
        }
    }

    private static Dictionary<string, float[]> Run(Dictionary<string, Data> inputs, int kv, int chunks, bool recompute)
    {
        GraphBuilder graph = new("attention");
        Tape tape = new(graph);
        Value q = graph.Input("q", ElementType.Float32, "batch", H, "sequence", D);
        Value k = graph.Input("k", ElementType.Float32, "batch", kv, "sequence", D);
        Value v = graph.Input("v", ElementType.Float32, "batch", kv, "sequence", D);
        Value dy = graph.Input("dy", ElementType.Float32, "batch", H, "sequence", D);
        Value first = graph.Input("first", ElementType.Int64, "batch", "sequence");
        Array.ForEach([q, k, v], value => tape.Parameter(value));
        Value y = Attention.Apply(tape, q, k, v, CausalMask.Build(graph, first, chunks), recompute);
        Value loss = graph.ReduceSum(graph.Mul(y, dy), [0, 1, 2, 3], keepAxes: false);
        tape.Record(loss, [y], _ => tape.AddGradient(y, () => dy));
        foreach ((Value parameter, Value gradient) in tape.Backward(loss))
        {
            graph.Output(parameter.Name + ".gradient", gradient);
        }

        graph.Output("y", y);
        using OnnxRun run = new(graph);
        return run.Run(inputs);
    }

    /// <summary>The shape of every value of a run.</summary>
    private static Dictionary<string, long[]> Shapes(GraphBuilder graph, Dictionary<string, Data> inputs, out ModelProto model)
    {
        model = ModelProto.Parser.ParseFrom(graph.ToBytes());
        ModelProto open = model.Clone();
        open.Graph.Output.AddRange(open.Graph.ValueInfo);
        using SessionOptions options = new() { GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL };
        using InferenceSession session = new(Google.Protobuf.MessageExtensions.ToByteArray(open), options);
        using RunOptions run = new();
        string[] names = [.. session.InputNames];
        IReadOnlyDictionary<string, Data> all = AttentionBounds.Add(inputs, names);
        OrtValue[] values = [.. names.Select(name => all[name].ToOrt())];
        using IDisposableReadOnlyCollection<OrtValue> results = session.Run(run, names, values, session.OutputNames);
        Array.ForEach(values, value => value.Dispose());
        return session.OutputNames.Zip(results).ToDictionary(pair => pair.First, pair => pair.Second.GetTensorTypeAndShape().Shape);
    }

    private static int[][] Parse(string packing) =>
        [.. packing.Split('|').Select(rows => rows.Split(' ').Select(size => int.Parse(size, System.Globalization.CultureInfo.InvariantCulture)).ToArray())];

    private static Data Firsts(int[][] sequences, int window) => new(
        [.. sequences.SelectMany(rows => rows.SelectMany(
            (size, r) => Enumerable.Range(rows.Take(r).Sum(), size).Select(at => (float)Math.Max(rows.Take(r).Sum(), window == 0 ? 0 : at + 1 - window))))],
        [sequences.Length, sequences[0].Sum()], ElementType.Int64);

    /// <summary>Some positions of one sequence: [batch, heads, length, D] → [1, heads, size, D].</summary>
    private static Data Part(float[] values, int heads, int length, int sequence, int start, int size) =>
        new([.. Enumerable.Range(0, heads).SelectMany(head => values.Skip(((((sequence * heads) + head) * length) + start) * D).Take(size * D))],
            [1, heads, size, D]);
}
