using MLNetLora.Onnx.Differentiable;

namespace MLNetLora.Onnx.Tests;

public sealed class CrossEntropyTests
{
    private const long Vocabulary = 9, Hidden = 4;

    [Theory]
    [InlineData(0.5f)] // every token about as likely
    [InlineData(8f)] // some labels all but certain, others all but impossible
    [InlineData(60f)] // beyond what e^x can hold, in one part of the vocabulary and not in others
    public void Cut_along_the_vocabulary_the_loss_is_that_of_double_precision(float scale)
    {
        Random random = new(3);
        Dictionary<string, Data> inputs = new()
        {
            ["x"] = Data.Random(random, 6, Hidden),
            ["head"] = new([.. Data.Random(random, Vocabulary, Hidden).Values.Select(value => value * scale)], [Vocabulary, Hidden]),
            ["labels"] = new([0, 3, 4, 8, 5, 2], [6], ElementType.Int64),
            ["weights"] = new([.. Enumerable.Repeat(1f / 6, 6)], [6]),
        };
        double expected = Enumerable.Range(0, 6).Average(i => Nll(inputs, i));
        Assert.Equal(expected, Loss(inputs, chunks: 1), 2e-6 * Math.Max(1, expected));
        Assert.Equal(expected, Loss(inputs, chunks: 2, 4, 1, 4), 2e-6 * Math.Max(1, expected));
        Assert.Equal(expected, Loss(inputs, chunks: 3, 3, 3, 3), 2e-6 * Math.Max(1, expected));
    }

    [Fact]
    public void The_loss_of_a_certain_label_keeps_its_digits()
    {
        // Logits 12 for the label and 0 for the others: log(1 + 8 e^-12) is 4.9e-5, a number that a difference of two logarithms of sums would not have.
        float[] head = new float[Vocabulary * Hidden];
        head[5 * Hidden] = 12;
        Dictionary<string, Data> inputs = new()
        {
            ["x"] = new([1, 0, 0, 0], [1, Hidden]),
            ["head"] = new(head, [Vocabulary, Hidden]),
            ["labels"] = new([5], [1], ElementType.Int64),
            ["weights"] = new([1], [1]),
        };
        double expected = Math.Log(1 + (8 * Math.Exp(-12)));
        Assert.Equal(expected, Loss(inputs, chunks: 1), 2e-7);
        Assert.Equal(expected, Loss(inputs, chunks: 1, 4, 1, 4), 2e-7);
        Assert.Equal(expected, Loss(inputs, chunks: 1, 5, 4), 2e-7);
    }

    [Theory]
    [InlineData(1, new long[0])]
    [InlineData(2, new long[0])]
    [InlineData(1, new long[] { 4, 1, 4 })]
    [InlineData(3, new long[] { 3, 3, 3 })]
    [InlineData(2, new long[] { 1, 8 })]
    public void Evaluation_counts_the_labels_of_the_largest_logit(int chunks, long[] parts)
    {
        Random random = new(5);
        Dictionary<string, Data> inputs = new()
        {
            ["x"] = Data.Random(random, 12, Hidden),
            ["head"] = Data.Random(random, Vocabulary, Hidden),
            ["weights"] = new([1, 1, 1, 1, 0.5f, 1, 1, 1, 1, 1, 0, 0], [12]),
        };
        int[] best = [.. Enumerable.Range(0, 12).Select(row => Best(inputs, row))];
        Assert.True(best.Distinct().Count() > 4); // in every part

        // Every third label is another; the last two rows are padding.
        inputs["labels"] = new([.. best.Select((token, row) => (float)(row % 3 == 2 ? (token + 1) % Vocabulary : token))], [12], ElementType.Int64);
        (float loss, float correct) = Evaluate(inputs, chunks, parts);
        Assert.Equal(6.5f, correct); // rows 0, 1, 3, half of 4, 6, 7, 9
        Assert.Equal(Loss(inputs, chunks, parts), loss, 1e-6f);
    }

    [Theory]
    [InlineData(new long[0])]
    [InlineData(new long[] { 4, 5 })]
    [InlineData(new long[] { 6, 3 })]
    public void Of_equal_logits_the_first_counts(long[] parts)
    {
        // Tokens 2 and 5 have the largest logit of row 0, 3 and 8 that of row 1.
        float[] head = new float[Vocabulary * Hidden];
        head[2 * Hidden] = head[5 * Hidden] = 7;
        head[(3 * Hidden) + 1] = head[(8 * Hidden) + 1] = 7;
        Dictionary<string, Data> inputs = new()
        {
            ["x"] = new([1, 0, 0, 0, 0, 1, 0, 0], [2, Hidden]),
            ["head"] = new(head, [Vocabulary, Hidden]),
            ["weights"] = new([1, 1], [2]),
        };
        foreach ((float[] labels, float hits) in ((float[], float)[])[([2, 3], 2), ([5, 3], 1), ([2, 8], 1), ([5, 8], 0)])
        {
            inputs["labels"] = new(labels, [2], ElementType.Int64);
            Assert.Equal(hits, Evaluate(inputs, 1, parts).Correct);
        }
    }

    private static (float Loss, float Correct) Evaluate(Dictionary<string, Data> inputs, int chunks, long[] parts)
    {
        GraphBuilder graph = new("g");
        (Dictionary<string, Value> values, Weight[]? cut) = Inputs(graph, inputs, parts);
        (Value loss, Value correct) = CrossEntropy.Evaluate(
            graph, values["x"], new FloatWeight(values["head"]), values["labels"], values["weights"], chunks, cut);
        graph.Output("loss", loss);
        graph.Output("correct", correct);
        using OnnxRun run = new(graph);
        Dictionary<string, float[]> results = run.Run(inputs);
        return (results["loss"][0], results["correct"][0]);
    }

    private static int Best(Dictionary<string, Data> inputs, int row) => Enumerable.Range(0, (int)Vocabulary).MaxBy(v => Enumerable.Range(0, (int)Hidden)
        .Sum(h => (double)inputs["x"].Values[(row * Hidden) + h] * inputs["head"].Values[(v * Hidden) + h]));

    private static float Loss(Dictionary<string, Data> inputs, int chunks, params long[] parts)
    {
        GraphBuilder graph = new("g");
        (Dictionary<string, Value> values, Weight[]? cut) = Inputs(graph, inputs, parts);
        graph.Output("loss",
            CrossEntropy.Apply(new Tape(graph), values["x"], new FloatWeight(values["head"]), values["labels"], values["weights"], chunks, cut));
        using OnnxRun run = new(graph);
        return run.Run(inputs)["loss"][0];
    }

    private static (Dictionary<string, Value> Values, Weight[]? Parts) Inputs(GraphBuilder graph, Dictionary<string, Data> inputs, long[] parts)
    {
        Dictionary<string, Value> values =
            inputs.ToDictionary(i => i.Key, i => graph.Input(i.Key, i.Value.Type, [.. i.Value.Shape.Select(size => (Dimension)size)]));
        return (values, parts.Length == 0
            ? null
            : [.. graph.Split(values["head"], graph.Int64s(parts), [.. parts.Select(size => (Dimension)size)], 0).Select(part => new FloatWeight(part))]);
    }

    private static double Nll(Dictionary<string, Data> inputs, int row)
    {
        double[] logits = [.. Enumerable.Range(0, (int)Vocabulary).Select(v => Enumerable.Range(0, (int)Hidden)
            .Sum(h => (double)inputs["x"].Values[(row * Hidden) + h] * inputs["head"].Values[(v * Hidden) + h]))];
        double highest = logits.Max();
        return highest + Math.Log(logits.Sum(logit => Math.Exp(logit - highest))) - logits[(int)inputs["labels"].Values[row]];
    }
}
