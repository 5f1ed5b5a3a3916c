namespace MLNetLora.Onnx;

/// <summary>The factors of a norm that are stored less one: where zero stands in the file, one is multiplied with. The gradient is that of what is
/// stored.</summary>
/// <param name="stored">[n].</param>
internal sealed class OnePlusWeight(Weight stored) : Weight(stored.Source)
{
    /// <inheritdoc/>
    public override bool IsTrainable => stored.IsTrainable;

    /// <inheritdoc/>
    public override Value Read(GraphBuilder graph)
    {
        using IDisposable head = graph.AtHead();
        using IDisposable precise = graph.InFloat32();
        return graph.Add(stored.Read(graph), graph.Float(1f)); // [n]
    }

    /// <inheritdoc/>
    public override Value Product(GraphBuilder graph, Value x, Weight? bias = null) => throw new NotSupportedException($"{Source.Name} is no matrix.");

    /// <inheritdoc/>
    public override Value InputGradient(GraphBuilder graph, Value dy, Value? sum) => throw new NotSupportedException($"{Source.Name} is no matrix.");
}
