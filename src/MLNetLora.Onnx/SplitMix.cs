namespace MLNetLora.Onnx;

/// <summary>splitmix64 (Steele, Lea and Flood 2014): random numbers from a counter, to seed other generators.</summary>
internal static class SplitMix
{
    /// <summary>The next number.</summary>
    /// <param name="state">Any number at first.</param>
    public static ulong Next(ref ulong state)
    {
        ulong z = state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
