using MLNetLora.Onnx.Differentiable;

namespace MLNetLora.Onnx.Tests;

/// <summary>The delta rule and the convolution before it against the recurrence, token by token in double precision.</summary>
public sealed class DeltaTests
{
    private const int Dk = 6, Dv = 5;

    /// <summary>Row lengths per sequence, sequences apart by |; heads of keys and values; how alike keys are; how fast states fade.</summary>
    public static TheoryData<string, int, int, float, float> Cases => new()
    {
        { "5", 1, 1, 0, 1 },
        { "64", 2, 2, 0, 1 },
        { "65", 2, 4, 0, 1 },
        { "150|150", 2, 2, 0, 0.1f },
        { "40 30 1 1 58|130", 2, 4, 0, 1 }, // borders inside chunks, rows of one token, a row over several chunks
        { "64 64|128", 1, 2, 0, 1 }, // borders where chunks end
        { "128", 2, 2, 0.95f, 0 }, // nearly the same key again and again, nothing fades: the worst that L can be
        { "128", 2, 2, 0.95f, 20 }, // all fades within a token or two
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public void The_result_is_that_of_the_recurrence_whatever_the_chunks(string packing, int keyHeads, int valueHeads, float alike, float fading)
    {
        Random random = new(11);
        int length = Lengths(packing)[0].Sum();
        Dictionary<string, Data> inputs = Inputs(random, length, keyHeads, valueHeads, packing, alike, fading);
        double[] expected = Recurrence(inputs, packing, keyHeads, valueHeads);
        double size = Math.Sqrt(expected.Sum(value => value * value));
        Assert.True(size > 0.1);
        Dictionary<string, float[]>? first = null;
        foreach (int chunk in (ReadOnlySpan<int>)[64, 32, 8, 2])
        {
            Dictionary<string, float[]> actual = Run(inputs, keyHeads, valueHeads, chunk);
            double error = Math.Sqrt(expected.Zip(actual["y"], (e, a) => (e - a) * (e - a)).Sum()) / size;
            Assert.True(error <= 3e-6, $"chunks of {chunk}: {error} from the recurrence");
            first ??= actual;
            foreach ((string name, float[] values) in actual)
            {
                double norm = Math.Sqrt(first[name].Sum(value => (double)value * value));
                double difference = Math.Sqrt(first[name].Zip(values, (e, a) => ((double)e - a) * (e - a)).Sum());
                Assert.True(difference <= 2e-5 * norm, $"{name} in chunks of {chunk}: {difference / norm} from chunks of 64");
            }
        }
    }

    [Theory]
    [InlineData("9")]
    [InlineData("4 1 2 2|9")]
    public void The_convolution_reads_its_own_row(string packing)
    {
        const int channels = 3, taps = 4;
        Random random = new(5);
        int[][] lengths = Lengths(packing);
        int length = lengths[0].Sum();
        Dictionary<string, Data> inputs = new()
        {
            ["x"] = Data.Random(random, lengths.Length * length, channels),
            ["w"] = Data.Random(random, channels, 1, taps),
            ["ids"] = Ids(lengths.Length, length),
            ["first"] = Firsts(packing),
        };
        GraphBuilder graph = new("convolution");
        Tape tape = new(graph);
        Value x = graph.Input("x", ElementType.Float32, "tokens", channels);
        FloatWeight w = new(graph.Input("w", ElementType.Float32, channels, 1, taps));
        Value ids = graph.Input("ids", ElementType.Int64, "batch", "sequence");
        ConvolutionTaps read = ConvolutionTaps.Build(graph, ids, graph.Input("first", ElementType.Int64, "mask_batch", "sequence"), taps);
        graph.Output("y", CausalConvolution.Apply(tape, x, w, read));
        using OnnxRun run = new(graph);
        float[] actual = run.Run(inputs)["y"];
        for (int at = 0; at < lengths.Length * length; at++)
        {
            int start = (at / length * length) + (int)inputs["first"].Values[at];
            for (int channel = 0; channel < channels; channel++)
            {
                double z = Enumerable.Range(0, taps).Where(j => at - j >= start)
                    .Sum(j => (double)inputs["x"].Values[((at - j) * channels) + channel] * inputs["w"].Values[(channel * taps) + taps - 1 - j]);
                Assert.Equal(z / (1 + Math.Exp(-z)), actual[(at * channels) + channel], 1e-6);
            }
        }
    }

    [Fact]
    public void The_graph_does_not_grow_with_the_sequence()
    {
        GraphBuilder graph = new("delta");
        Tape tape = new(graph);
        Dictionary<string, Value> values = Inputs(new Random(1), 8, 2, 2, "8").ToDictionary(
            input => input.Key, input => graph.Input(input.Key, input.Value.Type, Symbols(input.Key, input.Value)));
        graph.Output("y", Emit(tape, values, 2, 2, 64));
        using OnnxRun run = new(graph);
        foreach (int length in (ReadOnlySpan<int>)[1, 64, 1000]) // the same session
        {
            Dictionary<string, Data> inputs = Inputs(new Random(1), length, 2, 2, $"{length}");
            double[] expected = Recurrence(inputs, $"{length}", 2, 2);
            Assert.All(expected.Zip(run.Run(inputs)["y"]), pair => Assert.Equal(pair.First, pair.Second, 1e-5));
        }
    }

    /// <summary>Queries, keys of length one, values, decays, betas.</summary>
    internal static Dictionary<string, Data> Inputs(
        Random random, int length, int keyHeads, int valueHeads, string packing, float alike = 0, float fading = 1)
    {
        int batch = Lengths(packing).Length;
        Data k = Data.Random(random, batch * length * keyHeads, Dk);
        for (int i = 0; i < k.Values.Length; i += Dk)
        {
            Span<float> key = k.Values.AsSpan(i, Dk);
            for (int j = 0; j < Dk && alike > 0; j++)
            {
                key[j] = 1 + ((1 - alike) * key[j]);
            }

            float norm = MathF.Sqrt(System.Numerics.Tensors.TensorPrimitives.SumOfSquares<float>(key));
            System.Numerics.Tensors.TensorPrimitives.Divide(key, norm, key);
        }

        Data decay = Data.Random(random, batch * length, valueHeads);
        Data beta = Data.Random(random, batch * length, valueHeads);
        return new()
        {
            ["q"] = Data.Random(random, batch * length * keyHeads, Dk),
            ["k"] = k,
            ["v"] = Data.Random(random, batch * length * valueHeads, Dv),
            ["decay"] = decay with { Values = [.. decay.Values.Select(value => -0.5f * fading * (1 + value))] },
            ["beta"] = beta with { Values = [.. beta.Values.Select(value => alike > 0 ? 1 : 0.5f * (1 + value))] },
            ["ids"] = Ids(batch, length),
            ["first"] = Firsts(packing),
        };
    }

    internal static Value Emit(Tape tape, Dictionary<string, Value> v, int keyHeads, int valueHeads, int chunk) => DeltaRule.Apply(
        tape, v["q"], v["k"], v["v"], v["decay"], v["beta"], DeltaChunks.Build(tape.Graph, v["ids"], v["first"], keyHeads, valueHeads, chunk));

    internal static Data Ids(long batch, long length) => new(new float[batch * length], [batch, length], ElementType.Int64);

    internal static Data Firsts(string packing) => new(
        [.. Lengths(packing).SelectMany(rows => rows.SelectMany((size, r) => Enumerable.Repeat((float)rows.Take(r).Sum(), size)))],
        [Lengths(packing).Length, Lengths(packing)[0].Sum()], ElementType.Int64);

    private static int[][] Lengths(string packing) =>
        [.. packing.Split('|').Select(rows => rows.Split(' ').Select(size => int.Parse(size, System.Globalization.CultureInfo.InvariantCulture)).ToArray())];

    private static Dimension[] Symbols(string name, Data data) => name switch
    {
        "ids" => ["batch", "sequence"],
        "first" => ["mask_batch", "sequence"],
        "q" or "k" => ["key_rows", data.Shape[1]],
        "v" => ["delta_rows", data.Shape[1]],
        _ => ["tokens", data.Shape[1]],
    };

    private static Dictionary<string, float[]> Run(Dictionary<string, Data> inputs, int keyHeads, int valueHeads, int chunk)
    {
        GraphBuilder graph = new("delta");
        Tape tape = new(graph);
        Dictionary<string, Value> values = inputs.ToDictionary(
            input => input.Key, input => graph.Input(input.Key, input.Value.Type, Symbols(input.Key, input.Value)));
        foreach (string name in (string[])["q", "k", "v", "decay", "beta"])
        {
            tape.Parameter(values[name]);
        }

        Value y = Emit(tape, values, keyHeads, valueHeads, chunk);
        Value loss = graph.ReduceSum(graph.Mul(y, y), [0, 1], keepAxes: false);
        tape.Record(loss, [y], _ => tape.AddGradient(y, () => y)); // half of it
        foreach ((Value parameter, Value gradient) in tape.Backward(loss))
        {
            graph.Output(parameter.Name + ".gradient", gradient);
        }

        graph.Output("y", y);
        using OnnxRun run = new(graph);
        return run.Run(inputs);
    }

    private static double[] Recurrence(Dictionary<string, Data> inputs, string packing, int keyHeads, int valueHeads)
    {
        int[][] lengths = Lengths(packing);
        int length = lengths[0].Sum();
        double[] y = new double[lengths.Length * length * valueHeads * Dv];
        for (int sequence = 0; sequence < lengths.Length; sequence++)
        {
            for (int head = 0; head < valueHeads; head++)
            {
                double[,] state = new double[Dk, Dv];
                for (int position = 0; position < length; position++)
                {
                    int token = (sequence * length) + position;
                    if (inputs["first"].Values[token] == position)
                    {
                        state = new double[Dk, Dv];
                    }

                    int keys = ((token * keyHeads) + (head / (valueHeads / keyHeads))) * Dk;
                    int values = ((token * valueHeads) + head) * Dv;
                    double fade = Math.Exp(inputs["decay"].Values[(token * valueHeads) + head]);
                    double beta = inputs["beta"].Values[(token * valueHeads) + head];
                    for (int j = 0; j < Dv; j++)
                    {
                        double known = 0;
                        for (int i = 0; i < Dk; i++)
                        {
                            state[i, j] *= fade;
                            known += state[i, j] * inputs["k"].Values[keys + i];
                        }

                        double write = beta * (inputs["v"].Values[values + j] - known);
                        for (int i = 0; i < Dk; i++)
                        {
                            state[i, j] += inputs["k"].Values[keys + i] * write;
                            y[values + j] += state[i, j] * inputs["q"].Values[keys + i];
                        }
                    }
                }
            }
        }

        return y;
    }
}
