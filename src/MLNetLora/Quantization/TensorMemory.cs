namespace MLNetLora.Quantization;

/// <summary>Where a quantized tensor is written: memory of the caller's that may be longer than a span. The default is none, for a tensor that nobody
/// reads.</summary>
/// <param name="address">Where it begins; the caller keeps it while this is used.</param>
/// <param name="bytes">How long it is.</param>
internal readonly unsafe struct TensorMemory(nint address, long bytes)
{
    /// <summary>There is nothing to write to.</summary>
    public bool IsEmpty => bytes == 0;

    /// <summary>Some of the numbers.</summary>
    /// <param name="first">The first, in elements.</param>
    /// <param name="count">How many.</param>
    public Span<T> Slice<T>(long first, int count)
        where T : unmanaged
    {
        ArgumentOutOfRangeException.ThrowIfNegative(first);
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((first + count) * sizeof(T), bytes);
        return new Span<T>((T*)address + first, count);
    }
}
