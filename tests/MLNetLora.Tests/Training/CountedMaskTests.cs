using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Onnx.Differentiable;
using MLNetLora.Runtime;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>Dropout masks that a graph makes itself: they must be as good as drawn ones.</summary>
public sealed class CountedMaskTests
{
    private const int Tokens = 500;
    private const int In = 804; // not whole bytes
    private const double Sigmas = 5;

    [Theory]
    [InlineData(0.05)]
    [InlineData(0.5)]
    [InlineData(0.9)]
    public void Zeros_are_as_many_as_asked_for_and_know_nothing_of_each_other(double p)
    {
        float[][] masks = Masks(p, seed: 1, microBatch: 7);
        double deviation = Math.Sqrt(p * (1 - p) / (Tokens * In));
        foreach (float[] mask in masks)
        {
            Assert.All(mask, kept => Assert.True(kept is 0 or 1));
            Assert.InRange(mask.Average(kept => 1 - kept), p - (Sigmas * deviation), p + (Sigmas * deviation));
            (double ofColumn, double ofRow) = (Sigmas * deviation * Math.Sqrt(In), Sigmas * deviation * Math.Sqrt(Tokens));
            Assert.All(Columns(mask), share => Assert.InRange(share, p - ofColumn, p + ofColumn));
            Assert.All(mask.Chunk(In), row => Assert.InRange(row.Average(kept => 1 - kept), p - ofRow, p + ofRow));
        }

        // Neighbours in a row, in a column, eight further, the same place of another layer and of another micro-batch; and the corners of rectangles, since
        // rows and columns have one number each.
        float[] first = masks[0];
        RequireUncorrelated(p, first, Shifted(first, 0, 1));
        RequireUncorrelated(p, first, Shifted(first, 0, 8));
        RequireUncorrelated(p, first, Shifted(first, 1, 0));
        RequireUncorrelated(p, first, Shifted(first, 1, 8));
        RequireUncorrelated(p, first, masks[1]);
        RequireUncorrelated(p, masks[1], masks[2]);
        RequireUncorrelated(p, first, Masks(p, seed: 1, microBatch: 8)[0]);
        RequireUncorrelated(p, first, Masks(p, seed: 2, microBatch: 7)[0]);
        RequireUncorrelated(p, first, Shifted(first, 3, 0), Shifted(first, 0, 16), Shifted(first, 3, 16));
    }

    [Fact]
    public void The_same_run_has_the_same_masks() => Assert.Equal(Masks(0.1, seed: 1, microBatch: 7), Masks(0.1, seed: 1, microBatch: 7));

    [Theory]
    [InlineData(1e-9, 1)]
    [InlineData(1 - 1e-9, 0)]
    public void Nothing_or_everything_is_dropped_at_the_ends(double p, float expected) =>
        Assert.All(Masks(p, seed: 1, microBatch: 0)[0], kept => Assert.Equal(expected, kept));

    private static float[][] Masks(double p, int seed, long microBatch)
    {
        LoraModule[] modules = [.. Enumerable.Range(0, 3).Select(i => new LoraModule(new LinearModule($"m{i}", In, 8), 1, 1, 1))];
        (long[] rows, long[] columns) = new DropoutMasks(modules, p, seed).Counters(microBatch, Tokens);
        GraphBuilder graph = new("masks") { ForCuda = true };
        Value rowNumbers = graph.Input("rows", ElementType.Int64, "tokens", 1);
        Value columnNumbers = graph.Input("columns", ElementType.Int64, 1, columns.Length);
        for (int i = 0; i < modules.Length; i++)
        {
            graph.Output($"mask.{i}", new DropoutMask(rowNumbers, new DropoutColumns(columnNumbers, i, p)).Numbers(graph, In));
        }

        using OnnxSession session = new(new ModelArtifact("masks.onnx", graph.ToBytes(), null), SessionUse.Training, 1);
        using NativeTensor rowTensor = Tensors.Of(rows, Tokens, 1);
        using NativeTensor columnTensor = Tensors.Of(columns, 1, columns.Length);
        using NativeTensors masks = session.Run(["rows", "columns"], [rowTensor, columnTensor], ["mask.0", "mask.1", "mask.2"]);
        return [.. Enumerable.Range(0, 3).Select(i => masks[i].Span<float>().ToArray())];
    }

    private static IEnumerable<double> Columns(float[] mask) =>
        Enumerable.Range(0, In).Select(column => Enumerable.Range(0, Tokens).Average(row => 1.0 - mask[(row * In) + column]));

    private static float[] Shifted(float[] mask, int rows, int columns) => [.. Enumerable.Range(0, Tokens * In)
        .Select(i => mask[((((i / In) + rows) % Tokens) * In) + ((i + columns) % In)])];

    private static void RequireUncorrelated(double p, params float[][] masks)
    {
        double sum = 0;
        for (int i = 0; i < masks[0].Length; i++)
        {
            sum += masks.Aggregate(1.0, (product, mask) => product * ((mask[i] - (1 - p)) / Math.Sqrt(p * (1 - p))));
        }

        Assert.InRange(sum / Math.Sqrt(masks[0].Length), -Sigmas, Sigmas);
    }
}
