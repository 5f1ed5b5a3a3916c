using Microsoft.ML.OnnxRuntime;

namespace MLNetLora.Onnx.Tests;

/// <summary>A tensor of a test: integers are exact in float, so one type serves.</summary>
internal sealed record Data(float[] Values, long[] Shape, ElementType Type = ElementType.Float32)
{
    public static Data Random(Random random, params long[] shape) =>
        new([.. Enumerable.Range(0, (int)shape.Aggregate(1L, (a, b) => a * b)).Select(_ => (random.NextSingle() * 2) - 1)], shape);

    public OrtValue ToOrt() => Type switch
    {
        ElementType.Int64 => OrtValue.CreateTensorValueFromMemory(Values.Select(value => (long)value).ToArray(), Shape),
        ElementType.Int8 => OrtValue.CreateTensorValueFromMemory(Values.Select(value => (sbyte)value).ToArray(), Shape),
        ElementType.UInt8 => OrtValue.CreateTensorValueFromMemory(Values.Select(value => (byte)value).ToArray(), Shape),
        _ => OrtValue.CreateTensorValueFromMemory((float[])Values.Clone(), Shape),
    };
}

/// <summary>Runs a built graph on stock ONNX Runtime.</summary>
internal sealed class OnnxRun : IDisposable
{
    private readonly InferenceSession _session;

    public OnnxRun(GraphBuilder graph, GraphOptimizationLevel level = GraphOptimizationLevel.ORT_DISABLE_ALL, int threads = 1)
    {
        using SessionOptions options = new() { IntraOpNumThreads = threads, GraphOptimizationLevel = level };
        _session = new InferenceSession(graph.ToBytes(), options);
    }

    public Dictionary<string, float[]> Run(IReadOnlyDictionary<string, Data> inputs)
    {
        using RunOptions run = new();
        string[] names = [.. _session.InputNames];
        inputs = AttentionBounds.Add(inputs, names);
        OrtValue[] values = [.. names.Select(name => inputs[name].ToOrt())];
        using IDisposableReadOnlyCollection<OrtValue> results = _session.Run(run, names, values, _session.OutputNames);
        Array.ForEach(values, value => value.Dispose());
        return _session.OutputNames.Zip(results).ToDictionary(pair => pair.First, pair => pair.Second.GetTensorDataAsSpan<float>().ToArray());
    }

    public void Dispose() => _session.Dispose();
}
