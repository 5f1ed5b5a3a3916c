using System.Diagnostics;
using MLNetLora.Artifacts;
using MLNetLora.Onnx;
using MLNetLora.Runtime;

namespace MLNetLora.Bench;

/// <summary>The matrix products of a training step alone in ONNX Runtime, with the same shapes and the same mapped weights: no step can be faster.</summary>
internal static class GemmFloor
{
    /// <summary>Seconds of the fastest of some runs, and the floating-point operations of one.</summary>
    /// <param name="target">What is trained.</param>
    /// <param name="checkpointing">Whether blocks are recomputed.</param>
    /// <param name="plan">How the graph is cut.</param>
    /// <param name="sizes">Sizes of the symbolic dimensions: batch, sequence, tokens, labels, ….</param>
    /// <param name="threads">Threads; 0 takes all cores.</param>
    /// <param name="prepack">Whether frozen weights are laid out for the processor first.</param>
    /// <param name="runs">Runs after one to warm up.</param>
    public static (double Seconds, double Flops) Measure(TrainingTarget target, bool checkpointing, ChunkPlan plan, IReadOnlyDictionary<string, long> sizes,
        int threads, bool prepack, int runs)
    {
        GraphBuilder step = new("training");
        string? folder = TrainingModel.Training(target, checkpointing, plan, step).WeightsFolder;
        GraphBuilder floor = new("floor");
        Dictionary<string, Value> inputs = [];
        Dictionary<string, NativeTensor> values = [];
        List<Value> results = [];
        double flops = 0;
        foreach (MatrixProduct product in step.Products)
        {
            long[] a = Sizes(product.A);
            long[] b = Sizes(product.B);
            Value left = Operand(product.A, a);
            Value right = Operand(product.B, b);
            Value y = a.Length == 2
                ? floor.Gemm(left, right, transA: product.TransA, transB: product.TransB)
                : floor.MatMul(left, right, product.TransA, product.TransB);
            // one number of each, so that none can be left out
            results.Add(floor.ReduceSum(floor.Gather(floor.Reshape(y, [-1, 1], ["n", 1]), floor.Int64s(0)), [0, 1], keepAxes: true));
            long m = a[^(product.TransA ? 1 : 2)];
            long k = a[^(product.TransA ? 2 : 1)];
            flops += 2.0 * a.SkipLast(2).Aggregate(1L, (x, s) => x * s) * m * k * b[^(product.TransB ? 2 : 1)];
        }

        floor.Output("sum", floor.Concat(results, 0, results.Count));
        using OnnxSession session = new(new ModelArtifact("floor.onnx", floor.ToBytes(), folder), prepack ? SessionUse.PrepackedTraining : SessionUse.Training,
            threads);
        double best = double.MaxValue;
        for (int i = 0; i <= runs; i++)
        {
            long begun = Stopwatch.GetTimestamp();
            using NativeTensors outputs = session.Run(values.Keys, values.Values, ["sum"]);
            best = i == 0 ? best : Math.Min(best, Stopwatch.GetElapsedTime(begun).TotalSeconds);
        }

        foreach (NativeTensor value in values.Values)
        {
            value.Dispose();
        }

        return (best, flops);

        long[] Sizes(Value value) => [.. value.Shape.Select(d => d.Symbol is null ? d.Size : Size(d.Symbol))];

        // A symbol of GraphBuilder.Symbol is one of the known ones, with its scope before it and a number behind it.
        long Size(string symbol) =>
            sizes.TryGetValue(symbol, out long size)
                ? size
                : sizes[sizes.Keys.Single(
                    key => symbol[(symbol.LastIndexOf('/') + 1)..] is string name && (name == key || name.StartsWith(key + "_", StringComparison.Ordinal)))];

        Value Operand(Value value, long[] shape)
        {
            if (floor.Import(step, value.Name) is { } weight)
            {
                return weight;
            }

            string key = string.Join('x', shape);
            if (!inputs.TryGetValue(key, out Value? input))
            {
                input = inputs[key] = floor.Input(key, ElementType.Float32, [.. shape.Select(size => (Dimension)size)]);
                float[] data = new float[shape.Aggregate(1L, (x, s) => x * s)];
                Array.Fill(data, 0.01f);
                values[key] = Tensors.Of(data, shape);
            }

            return input;
        }
    }
}
