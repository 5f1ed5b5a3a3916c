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

    private static float Loss(Dictionary<string, Data> inputs, int chunks, params long[] parts)
    {
        GraphBuilder graph = new("g");
        Dictionary<string, Value> values =
            inputs.ToDictionary(i => i.Key, i => graph.Input(i.Key, i.Value.Type, [.. i.Value.Shape.Select(size => (Dimension)size)]));
        Weight[]? cut = parts.Length == 0
            ? null
            : [.. graph.Split(values["head"], graph.Int64s(parts), [.. parts.Select(size => (Dimension)size)], 0).Select(part => new FloatWeight(part))];
        graph.Output("loss",
            CrossEntropy.Apply(new Tape(graph), values["x"], new FloatWeight(values["head"]), values["labels"], values["weights"], chunks, cut));
        using OnnxRun run = new(graph);
        return run.Run(inputs)["loss"][0];
    }

    private static double Nll(Dictionary<string, Data> inputs, int row)
    {
        double[] logits = [.. Enumerable.Range(0, (int)Vocabulary).Select(v => Enumerable.Range(0, (int)Hidden)
            .Sum(h => (double)inputs["x"].Values[(row * Hidden) + h] * inputs["head"].Values[(v * Hidden) + h]))];
        double highest = logits.Max();
        return highest + Math.Log(logits.Sum(logit => Math.Exp(logit - highest))) - logits[(int)inputs["labels"].Values[row]];
    }
}
