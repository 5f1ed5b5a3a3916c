using System.Reflection;
using MLNetLora.Onnx.Differentiable;
using MLNetLora.Onnx.Proto;

namespace MLNetLora.Onnx.Tests;

/// <summary>
/// Every operator's backward pass against central differences of its forward pass: for random directions v, (L(x + εv) − L(x − εv)) / 2ε equals the
/// gradient times v, where L is the operator's output weighted with random numbers.
/// </summary>
public sealed class FiniteDifferenceTests
{
    private const long B = 2, S = 5, H = 4, KV = 2, D = 8, N = 12, R = 3, V = 11, E = 5, I = 6, Piece = 3;

    // Per case: the operator's class, its inputs, which of them are differentiated, and how it is emitted.
    private static readonly Case[] s_cases =
    [
        new("Residual", r => new() { ["a"] = Data.Random(r, S, N), ["b"] = Data.Random(r, S, N) }, (t, v) => Residual.Apply(t, v["a"], v["b"])),
        new("Residual twice the same", r => new() { ["a"] = Data.Random(r, S, N) }, (t, v) => Residual.Apply(t, v["a"], v["a"])),
        new("Linear", r => new() { ["x"] = Data.Random(r, S, N), ["w"] = Data.Random(r, D, N), ["bias"] = Data.Random(r, D) },
            (t, v) => Linear.Apply(t, v["x"], t.Parameter(v["w"]), t.Parameter(v["bias"]))),
        new("Lora", r => LoraInputs(r, mask: false), (t, v) => Adapted(t, v)),
        new("Lora with dropout", r => LoraInputs(r, mask: true), (t, v) => Adapted(t, v, 1.25f)),
        new("Dora", r => DoraInputs(r, mask: false), (t, v) => Decomposed(t, v), Fixed: ["w", "norm"]),
        new("Dora with dropout", r => DoraInputs(r, mask: true), (t, v) => Decomposed(t, v, 1.25f), Fixed: ["w", "norm"]),
        new("DropoutMask", r => LoraInputs(r, mask: true, n: 16), (t, v) => Adapted(t, v, 1.25f)),
        new("DropoutMask from counters", r => new(LoraInputs(r, mask: false, n: 12))
        {
            ["rows"] = new([.. Enumerable.Range(0, (int)S).Select(_ => r.NextSingle() * 9e18f)], [S, 1], ElementType.Int64),
            ["columns"] = new([.. Enumerable.Range(0, 3).Select(_ => r.NextSingle() * 9e18f)], [1, 3], ElementType.Int64),
        }, (t, v) => Adapted(t, v, 1.25f)),
        new("Embedding", r => new() { ["table"] = Data.Random(r, V, N), ["ids"] = Ids(r, S, V) },
            (t, v) => Embedding.Apply(t, t.Parameter(v["table"]), v["ids"])),
        new("Embedding with trained rows",
            r => new() { ["table"] = Data.Random(r, V, N), ["rows"] = Data.Random(r, 2, N), ["ids"] = new([3, 1, 3, 5, 0], [S], ElementType.Int64) },
            (t, v) => Embedding.Apply(t, new FloatWeight(v["table"]), v["ids"], new TrainedRows(t.Parameter(v["rows"]), [5, 3])), Fixed: ["table"]),
        new("RmsNorm", r => new() { ["x"] = Data.Random(r, S, N), ["w"] = Data.Random(r, N) }, (t, v) => RmsNorm.Apply(t, v["x"], t.Parameter(v["w"]), 1e-6f)),
        new("RmsNorm per head", r => new() { ["x"] = Data.Random(r, B, H, S, D), ["w"] = Data.Random(r, D) },
            (t, v) => RmsNorm.Apply(t, v["x"], t.Parameter(v["w"]), 1e-2f)),
        new("Rope", r => new() { ["x"] = Data.Random(r, B, H, S, D), ["positions"] = Positions(), ["cos"] = Table(MathF.Cos), ["sin"] = Table(MathF.Sin) },
            (t, v) => Rope.Apply(t, v["x"], v["positions"], v["cos"], v["sin"]), Fixed: ["cos", "sin"]),
        new("Rope, part of a head", r => new() { ["x"] = Data.Random(r, B, H, S, 2 * D), ["positions"] = Positions(), ["cos"] = Table(MathF.Cos),
            ["sin"] = Table(MathF.Sin) }, (t, v) => Rope.Apply(t, v["x"], v["positions"], v["cos"], v["sin"]), Fixed: ["cos", "sin"]),
        new("RmsNorm, factors less one", r => new() { ["x"] = Data.Random(r, S, N), ["w"] = Data.Random(r, N) },
            (t, v) => RmsNorm.Apply(t, v["x"], new OnePlusWeight(t.Parameter(v["w"])), 1e-6f)),
        new("L2Norm", r => new() { ["x"] = Data.Random(r, S, N) }, (t, v) => L2Norm.Apply(t, v["x"], 1e-2f, 0.7f)),
        new("View", r => new() { ["x"] = Data.Random(r, S, H * D) }, (t, v) => View.Apply(t, v["x"], [-1, D], ["rows", D])),
        new("Sigmoid", r => new() { ["x"] = Data.Random(r, S, N) }, (t, v) => Sigmoid.Apply(t, v["x"])),
        new("OutputGate", r => new() { ["x"] = Data.Random(r, S, N), ["gate"] = Data.Random(r, S, N) },
            (t, v) => OutputGate.Apply(t, v["x"], v["gate"])),
        new("Decay", r => new() { ["a"] = Data.Random(r, S, H), ["log"] = Data.Random(r, H), ["bias"] = Data.Random(r, H) },
            (t, v) => Decay.Apply(t, v["a"], t.Parameter(v["log"]), t.Parameter(v["bias"]))),
        new("CausalConvolution", r => new() { ["x"] = Data.Random(r, B * S, N), ["w"] = Data.Random(r, N, 1, 4), ["ids"] = DeltaTests.Ids(B, S),
            ["first"] = DeltaTests.Firsts("5|3 2") },
            (t, v) => CausalConvolution.Apply(t, v["x"], t.Parameter(v["w"]), ConvolutionTaps.Build(t.Graph, v["ids"], v["first"], 4))),
        new("DeltaRule, one chunk", r => DeltaTests.Inputs(r, 5, keyHeads: 2, valueHeads: 2, "5|5"), (t, v) => DeltaTests.Emit(t, v, 2, 2, chunk: 8)),
        new("DeltaRule, chunks that are filled up", r => DeltaTests.Inputs(r, 11, keyHeads: 2, valueHeads: 2, "11"),
            (t, v) => DeltaTests.Emit(t, v, 2, 2, chunk: 4)),
        new("DeltaRule, packed rows and shared keys", r => DeltaTests.Inputs(r, 12, keyHeads: 2, valueHeads: 4, "5 1 6|12"),
            (t, v) => DeltaTests.Emit(t, v, 2, 4, chunk: 4)),
        new("Heads split", r => new() { ["x"] = Data.Random(r, B * S, H * D), ["sizes"] = new([B, S, H, D], [4], ElementType.Int64) },
            (t, v) => Heads.Split(t, v["x"], v["sizes"], [B, S, H, D])),
        new("Heads swap and merge", r => new() { ["x"] = Data.Random(r, B, H, S, D) }, (t, v) => Heads.Merge(t, Heads.Swap(t, v["x"]), "rows")),
        new("Attention, grouped", r => AttentionInputs(r, KV, S), (t, v) => Attend(t, v, 1)),
        new("Attention, a key head for each", r => AttentionInputs(r, H, S), (t, v) => Attend(t, v, 1)),
        new("Attention in chunks", r => AttentionInputs(r, KV, 6), (t, v) => Attend(t, v, 3)),
        new("Attention in chunks, a key head for each, recomputed", r => AttentionInputs(r, H, 6), (t, v) => Attend(t, v, 3, recompute: true)),
        new("Attention, recomputed", r => AttentionInputs(r, KV, 6), (t, v) => Attend(t, v, 1, recompute: true)),
        new("CausalMask", r => AttentionInputs(r, KV, 6), (t, v) => Attend(t, v, 2)),
        new("SwiGlu", r => new() { ["gate"] = Data.Random(r, S, N), ["up"] = Data.Random(r, S, N) }, (t, v) => SwiGlu.Apply(t, v["gate"], v["up"])),
        new("Rows", r => new() { ["x"] = Data.Random(r, S, N), ["indices"] = new([3, 0, 4], [3], ElementType.Int64) },
            (t, v) => Rows.Apply(t, v["x"], v["indices"])),
        new("Columns", r => new() { ["x"] = Data.Random(r, S, 3 * D) }, (t, v) =>
        {
            Value[] parts = Columns.Split(t, v["x"], 3);
            return SwiGlu.Apply(t, Residual.Apply(t, parts[0], parts[2]), parts[1]);
        }),
        new("Columns of several sizes", r => new() { ["x"] = Data.Random(r, S, 2 * D + N) }, (t, v) =>
        {
            Value[] parts = Columns.Split(t, v["x"], [D, N, D]);
            return SwiGlu.Apply(t, parts[0], parts[2]);
        }),
        new("Columns, one without use", r => new() { ["x"] = Data.Random(r, S, 2 * D) }, (t, v) => Columns.Split(t, v["x"], 2)[1]),
        new("SigmoidGate", r => new() { ["gate"] = Data.Random(r, S, 1), ["x"] = Data.Random(r, S, N) }, (t, v) => SigmoidGate.Apply(t, v["gate"], v["x"])),
        new("Routing", r => new() { ["logits"] = Logits(r, S, E) }, (t, v) => Routing.Apply(t, v["logits"], 3, normalize: false).Weights),
        new("Routing, normalized", r => new() { ["logits"] = Logits(r, S, E) }, (t, v) => Routing.Apply(t, v["logits"], 3, normalize: true).Weights),
        new("Experts", r => ExpertInputs(r, 1), (t, v) => Mixture(t, v), Fixed: ["file 0"]),
        new("Experts, each matrix elsewhere", r => ExpertInputs(r, 2), (t, v) => Mixture(t, v), Fixed: ["file 0", "file 1"]),
        new("Experts with an adapter", r => WithFactors(r, ExpertInputs(r, 1)), (t, v) => Mixture(t, v), Fixed: ["file 0"]),
        new("Experts, recomputed", r => ExpertInputs(r, 1), (t, v) => t.Checkpoint(v["x"], (tape, x) => Mixture(tape, v, x)), Fixed: ["file 0"]),
        new("BlockedExperts", r => ExpertInputs(r, 1), (t, v) => Mixture(t, v, blocks: true), Fixed: ["file 0"]),
        new("BlockedExperts, each matrix elsewhere", r => ExpertInputs(r, 2), (t, v) => Mixture(t, v, blocks: true), Fixed: ["file 0", "file 1"]),
        new("BlockedExperts, further blocks", r => ManyRows(r), (t, v) => Mixture(t, v, blocks: true), Fixed: ["file 0"]),
        new("BlockedExperts with an adapter, further blocks", r => WithFactors(r, ManyRows(r)), (t, v) => Mixture(t, v, blocks: true), Fixed: ["file 0"]),
        new("BlockedExperts for few rows, more of them", r => WithFactors(r, ManyRows(r)), (t, v) => Mixture(t, v, blocks: true, fewRows: true),
            Fixed: ["file 0"]),
        new("BlockedExperts for few rows", r => WithFactors(r, ExpertInputs(r, 1, [4, 0, 2, 1])), (t, v) => Mixture(t, v, blocks: true, fewRows: true),
            Fixed: ["file 0"]),
        new("BlockedExperts, one of a row and fewer rows than experts", r => WithFactors(r, ExpertInputs(r, 1, [4, 0, 4], 1)),
            (t, v) => Mixture(t, v, blocks: true), Fixed: ["file 0"]),
        new("BlockedExperts with an adapter, recomputed", r => WithFactors(r, ManyRows(r)),
            (t, v) => t.Checkpoint(v["x"], (tape, x) => Mixture(tape, v, x, blocks: true)), Fixed: ["file 0"]),
        new("CrossEntropy", CrossEntropyInputs, (t, v) => CrossEntropy.Apply(t, v["x"], t.Parameter(v["head"]), v["labels"], v["weights"]), IsLoss: true,
            Fixed: ["weights"]),
        new("CrossEntropy in chunks", CrossEntropyInputs, (t, v) => CrossEntropy.Apply(t, v["x"], t.Parameter(v["head"]), v["labels"], v["weights"], chunks: 2),
            IsLoss: true, Fixed: ["weights"]),
        new("CrossEntropy, the vocabulary in parts", CrossEntropyInputs,
            (t, v) => CrossEntropy.Apply(t, v["x"], new FloatWeight(v["head"]), v["labels"], v["weights"], chunks: 2,
            parts: [.. t.Graph.Split(v["head"], t.Graph.Int64s(2, 1, V - 3), [2, 1, V - 3], 0).Select(part => new FloatWeight(part))]), IsLoss: true,
            Fixed: ["weights", "head"]),
        new("CrossEntropy with trained rows", r => WithRows(CrossEntropyInputs(r), r), (t, v) => CrossEntropy.Apply(
            t, v["x"], new FloatWeight(v["head"]), v["labels"], v["weights"], trained: new TrainedRows(t.Parameter(v["rows"]), [5, V - 1, 0])), IsLoss: true,
            Fixed: ["weights", "head"]),
        new("CrossEntropy with trained rows, the vocabulary in parts", r => WithRows(CrossEntropyInputs(r), r), (t, v) => CrossEntropy.Apply(
            t, v["x"], new FloatWeight(v["head"]), v["labels"], v["weights"], chunks: 2,
            parts: [.. t.Graph.Split(v["head"], t.Graph.Int64s(2, 1, V - 3), [2, 1, V - 3], 0).Select(part => new FloatWeight(part))],
            trained: new TrainedRows(t.Parameter(v["rows"]), [5, V - 1, 0])), IsLoss: true, Fixed: ["weights", "head"]),
        new("Linear, recomputed", r => new() { ["x"] = Data.Random(r, S, N), ["w"] = Data.Random(r, N, N) },
            (t, v) => t.Checkpoint(v["x"], (tape, x) => SwiGlu.Apply(tape, Linear.Apply(tape, x, t.Parameter(v["w"])), x))),
    ];

    public static TheoryData<string> Names => [.. s_cases.Select(item => item.Name)];

    [Theory]
    [MemberData(nameof(Names))]
    public void Gradient_equals_the_central_difference(string name) => Check(name, fused: false);

    /// <summary>The formulas that the kernels compute.</summary>
    [Theory]
    [InlineData("SwiGlu")]
    [InlineData("RmsNorm")]
    [InlineData("RmsNorm per head")]
    [InlineData("RmsNorm, factors less one")]
    [InlineData("L2Norm")]
    [InlineData("Linear, recomputed")]
    public void So_does_that_of_fused_operators(string name) => Check(name, fused: true);

    private static void Check(string name, bool fused)
    {
        Case item = s_cases.Single(c => c.Name == name);
        Random random = new(7);
        Dictionary<string, Data> inputs = item.Inputs(random);
        GraphBuilder graph = new(name) { FusesKernels = fused };
        Tape tape = new(graph);
        Dictionary<string, Value> values =
            inputs.ToDictionary(i => i.Key, i => graph.Input(i.Key, i.Value.Type, [.. i.Value.Shape.Select(size => (Dimension)size)]));
        string[] differentiated = [.. inputs.Where(i => i.Value.Type == ElementType.Float32 && !(item.Fixed ?? []).Contains(i.Key)).Select(i => i.Key)];
        foreach (string input in differentiated)
        {
            tape.Parameter(values[input]);
        }

        Value y = item.Emit(tape, values);
        Value loss = y;
        if (!item.IsLoss)
        {
            Value weights = graph.Input("weights of y", ElementType.Float32, [.. y.Shape.Select((_, i) => (Dimension)$"y{i}")]);
            long[] axes = [.. Enumerable.Range(0, y.Shape.Count).Select(axis => (long)axis)];
            loss = graph.ReduceSum(graph.Mul(y, weights), axes, keepAxes: false);
            tape.Record(loss, [y], _ => tape.AddGradient(y, () => weights));
            long[] shape = Sizes(graph, y, inputs);
            inputs["weights of y"] = Data.Random(random, shape);
        }

        IReadOnlyList<(Value Parameter, Value Gradient)> gradients = tape.Backward(loss);
        Assert.Equal(differentiated.Order(), gradients.Select(g => g.Parameter.Name).Order());
        graph.Output("loss", loss);
        foreach ((Value parameter, Value gradient) in gradients)
        {
            graph.Output(parameter.Name + ".gradient", gradient);
        }

        Assert.Equal(fused, ModelProto.Parser.ParseFrom(graph.ToBytes()).Graph.Node.Any(node => node.Domain == FusedOperators.Domain));
        using OnnxRun run = new(graph);
        Dictionary<string, float[]> at = run.Run(inputs);
        foreach (string input in differentiated)
        {
            float[] gradient = at[input + ".gradient"];
            Assert.Equal(inputs[input].Values.Length, gradient.Length);
            Assert.Contains(gradient, value => value != 0);
            for (int repeat = 0; repeat < 5; repeat++)
            {
                float[] direction = Data.Random(random, gradient.Length).Values;
                const float epsilon = 1e-2f;
                double up = Loss(+epsilon);
                double down = Loss(-epsilon);
                double expected = gradient.Zip(direction, (g, d) => (double)g * d).Sum();
                double scale = gradient.Zip(direction, (g, d) => Math.Abs((double)g * d)).Sum();
                Assert.True(Math.Abs(((up - down) / (2 * epsilon)) - expected) <= 2e-3 * scale,
                    $"{name}, d/d{input}: difference {(up - down) / (2 * epsilon)}, gradient {expected}");

                double Loss(float step) =>
                    run.Run(new Dictionary<string, Data>(inputs)
                    {
                        [input] = inputs[input] with { Values = [.. inputs[input].Values.Zip(direction, (x, d) => x + (step * d))] },
                    })["loss"][0];
            }
        }
    }

    [Fact]
    public void Every_differentiable_operator_has_a_case()
    {
        string[] operators =
        [
            .. typeof(Linear).Assembly.GetTypes()
                .Where(type => type.Namespace == typeof(Linear).Namespace && !type.IsNested && type.IsAbstract && type.IsSealed)
                .Select(type => type.Name),
        ];
        Assert.NotEmpty(operators);
        Assert.DoesNotContain(operators, name => !s_cases.Any(item => item.Name.StartsWith(name, StringComparison.Ordinal)));
    }

    private static long[] Sizes(GraphBuilder graph, Value y, Dictionary<string, Data> inputs)
    {
        GraphBuilder probe = graph;
        probe.Output("shape probe", probe.Cast(probe.Shape(y), ElementType.Float32));
        using OnnxRun run = new(probe);
        Dictionary<string, Data> with = new(inputs) { ["weights of y"] = new Data([1f], [.. Enumerable.Repeat(1L, y.Shape.Count)]) };
        return [.. run.Run(with)["shape probe"].Select(size => (long)size)];
    }

    private static Dictionary<string, Data> LoraInputs(Random r, bool mask, long n = N)
    {
        Dictionary<string, Data> inputs = new()
        {
            ["x"] = Data.Random(r, S, n),
            ["w"] = Data.Random(r, D, n),
            ["bias"] = Data.Random(r, D),
            ["a"] = Data.Random(r, R, n),
            ["b"] = Data.Random(r, D, R),
        };
        if (mask)
        {
            long bytes = DropoutMask.RowBytes((int)n);
            inputs["mask"] = new([.. Enumerable.Range(0, (int)(S * bytes)).Select(_ => (float)r.Next(256))], [S, bytes], ElementType.UInt8);
        }

        return inputs;
    }

    // The norm is held constant in the backward pass, so it is an input of its own here.
    private static Dictionary<string, Data> DoraInputs(Random r, bool mask) => new(LoraInputs(r, mask))
    {
        ["m"] = Data.Random(r, D),
        ["norm"] = new([.. Enumerable.Range(0, (int)D).Select(_ => 1 + r.NextSingle())], [D]),
    };

    private static Value Decomposed(Tape t, Dictionary<string, Value> v, float keptScale = 1f) => Dora.Apply(
        t, v["x"], new FloatWeight(v["w"]), t.Parameter(v["bias"]), t.Parameter(v["a"]), t.Parameter(v["b"]), t.Parameter(v["m"]), v["norm"], 0.7f,
        Mask(v), keptScale);

    private static DropoutMask? Mask(Dictionary<string, Value> v) => v.TryGetValue("mask", out Value? mask) ? new DropoutMask(mask)
        : v.TryGetValue("rows", out Value? rows) ? new DropoutMask(rows, new DropoutColumns(v["columns"], 3, 0.4))
        : null;

    private static Dictionary<string, Data> WithRows(Dictionary<string, Data> inputs, Random r) => new(inputs)
    {
        ["rows"] = Data.Random(r, 3, N),
        ["labels"] = new([5, 2, V - 1, 0], [4], ElementType.Int64),
    };

    private static Dictionary<string, Data> AttentionInputs(Random r, long kv, long length) => new()
    {
        ["q"] = Data.Random(r, B, H, length, D),
        ["k"] = Data.Random(r, B, kv, length, D),
        ["v"] = Data.Random(r, B, kv, length, D),
        // the second row is packed from two
        ["first"] = new([.. Enumerable.Range(0, (int)(B * length)).Select(i => i % length >= 3 && i >= length ? 3f : 0f)], [B, length], ElementType.Int64),
    };

    // Far enough apart that no step changes which are the largest.
    private static Data Logits(Random r, long rows, long experts) => new(
        [.. Enumerable.Range(0, (int)rows).SelectMany(_ => Enumerable.Range(0, (int)experts).OrderBy(_ => r.Next()).Select(rank => 0.4f * rank))],
        [rows, experts]);

    /// <summary>Experts of whom the second gets no row; in the files the gate matrices stand in reversed order.</summary>
    private static Dictionary<string, Data> ExpertInputs(Random r, int files, float[]? chosen = null, int k = 2)
    {
        chosen ??= [4, 0, 0, 2, 3, 0, 2, 4, 0, 3];
        long rows = chosen.Length / k;
        Dictionary<string, Data> inputs = new()
        {
            ["x"] = Data.Random(r, rows, N),
            ["weights"] = Data.Random(r, rows, k),
            ["experts"] = new(chosen, [rows, k], ElementType.Int64),
        };
        for (int i = 0; i < files; i++)
        {
            inputs[$"file {i}"] = new([.. Data.Random(r, (3 * E * I * N) + Piece).Values.Select(value => value / 2)], [(E * I * N) + 1, Piece]);
        }

        return inputs;
    }

    /// <summary>A first expert for every row, whose rows are more than a block, and a second one of three for each.</summary>
    private static Dictionary<string, Data> ManyRows(Random r) =>
        ExpertInputs(r, 1, [.. Enumerable.Range(0, 40).SelectMany(row => row % 2 == 0 ? (float[])[0, 2 + r.Next(3)] : [2 + r.Next(3), 0])]);

    private static Dictionary<string, Data> WithFactors(Random r, Dictionary<string, Data> inputs) => new(inputs)
    {
        ["a of gate and up"] = Data.Random(r, R * E, N),
        ["b of gate and up"] = Data.Random(r, 2 * I, R * E),
        ["a of down"] = Data.Random(r, R * E, I),
        ["b of down"] = Data.Random(r, N, R * E),
    };

    private static Value Mixture(Tape tape, Dictionary<string, Value> v, Value? x = null, bool blocks = false, bool fewRows = false)
    {
        Value[] files = [.. v.Where(item => item.Key.StartsWith("file", StringComparison.Ordinal)).Select(item => item.Value)];
        ExpertWeights matrices = new(
            Matrix("gate", I, N, e => E - 1 - e), Matrix("up", I, N, e => E + e), Matrix("down", N, I, e => (2 * E) + e));
        if (v.ContainsKey("a of down"))
        {
            matrices = matrices with { GateUpLora = Adapter("gate and up"), DownLora = Adapter("down") };
        }

        return blocks
            ? BlockedExperts.Apply(tape, x ?? v["x"], v["weights"], v["experts"], matrices with { FewRows = fewRows })
            : Experts.Apply(tape, x ?? v["x"], v["weights"], v["experts"], matrices);

        ExpertLora Adapter(string name) => new(tape.Parameter(v["a of " + name]), tape.Parameter(v["b of " + name]), (int)R, 0.7f);

        ExpertRegions Matrix(string name, long rows, long columns, Func<long, long> number) => new(name,
            [.. files.Select((file, i) => new ExpertRegion(
                file, [.. Enumerable.Range(0, (int)E).Select(e => e % files.Length == i ? (number(e) * I * N / Piece) + 1 : -1)]))],
            rows, columns);
    }

    private static Value Adapted(Tape t, Dictionary<string, Value> v, float keptScale = 1f) => Lora.Apply(
        t, v["x"], t.Parameter(v["w"]), t.Parameter(v["bias"]), t.Parameter(v["a"]), t.Parameter(v["b"]), 0.7f, Mask(v), keptScale);

    private static Value Attend(Tape tape, Dictionary<string, Value> v, int chunks, bool recompute = false) =>
        Attention.Apply(tape, v["q"], v["k"], v["v"], CausalMask.Build(tape.Graph, v["first"], chunks), recompute);

    private static Dictionary<string, Data> CrossEntropyInputs(Random r) => new()
    {
        ["x"] = Data.Random(r, 4, N),
        ["head"] = Data.Random(r, V, N),
        ["labels"] = Ids(r, 4, V),
        ["weights"] = new([0.25f, 0.5f, 0f, 0.25f], [4]),
    };

    private static Data Ids(Random r, long count, long below) =>
        new([.. Enumerable.Range(0, (int)count).Select(_ => (float)r.Next((int)below))], [count], ElementType.Int64);

    private static Data Positions() => new([.. Enumerable.Range(0, (int)(B * S)).Select(i => (float)(i % S))], [B, S], ElementType.Int64);

    private static Data Table(Func<float, float> function) =>
        new([.. Enumerable.Range(0, (int)(S * D / 2)).Select(i => function(i / (D / 2) * MathF.Pow(100, -(i % (D / 2)) / (float)(D / 2))))], [S, D / 2]);

    private sealed record Case(string Name, Func<Random, Dictionary<string, Data>> Inputs, Func<Tape, Dictionary<string, Value>, Value> Emit,
        bool IsLoss = false, string[]? Fixed = null);
}
