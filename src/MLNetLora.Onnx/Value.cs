namespace MLNetLora.Onnx;

/// <summary>Element types of ONNX tensors that this library uses; the numbers are those of TensorProto.DataType.</summary>
internal enum ElementType
{
    /// <summary>32-bit float.</summary>
    Float32 = 1,

    /// <summary>Unsigned byte.</summary>
    UInt8 = 2,

    /// <summary>Signed byte.</summary>
    Int8 = 3,

    /// <summary>Unsigned 16-bit integer.</summary>
    UInt16 = 4,

    /// <summary>32-bit integer.</summary>
    Int32 = 6,

    /// <summary>64-bit integer.</summary>
    Int64 = 7,

    /// <summary>Boolean, one byte each.</summary>
    Bool = 9,

    /// <summary>IEEE 16-bit float.</summary>
    Float16 = 10,

    /// <summary>64-bit float.</summary>
    Float64 = 11,

    /// <summary>Brain float: the upper half of a 32-bit float.</summary>
    BFloat16 = 16,
}

/// <summary>One axis of a tensor: a number, or a name for a size that is known only when the graph runs.</summary>
/// <param name="Size">The size, or −1 when <paramref name="Symbol"/> names it.</param>
/// <param name="Symbol">Name of a size known at run time; null when <paramref name="Size"/> is known.</param>
internal readonly record struct Dimension(long Size, string? Symbol = null)
{
    /// <summary>A known size.</summary>
    public static implicit operator Dimension(long size) => new(size);

    /// <summary>A size known at run time.</summary>
    public static implicit operator Dimension(string symbol) => new(-1, symbol);

    /// <inheritdoc/>
    public override string ToString() => Symbol ?? Size.ToString(System.Globalization.CultureInfo.InvariantCulture);
}

/// <summary>A tensor in a graph: an input, an initializer or what a node computes. Identity counts, not contents.</summary>
internal sealed class Value
{
    internal Value(string name, ElementType type, Dimension[] shape)
    {
        Name = name;
        Type = type;
        Shape = shape;
    }

    /// <summary>Name in the graph, unique.</summary>
    public string Name { get; }

    /// <summary>Element type.</summary>
    public ElementType Type { get; }

    /// <summary>Sizes of the axes, symbolic where they are known only at run time.</summary>
    public IReadOnlyList<Dimension> Shape { get; }

    /// <inheritdoc/>
    public override string ToString() => $"{Name}: {Type} [{string.Join(", ", Shape)}]";
}
