using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using MLNetLora.Adapters;

namespace MLNetLora.Training;

/// <summary>
/// The dropout masks of one micro-batch. They are drawn here and not in the graph: a mask then depends on the seed, the micro-batch's number and the layer alone,
/// is the same in the recomputed forward pass, on every device, and after a resume.
/// </summary>
internal sealed class DropoutMasks(IReadOnlyList<LoraModule> modules, double dropout, int seed)
{
    private const int Width = 32; // 16-bit numbers of a vector

    private readonly Dictionary<int, bool[]> _reuse = [];

    /// <summary>The mask of a module: true (kept) with probability 1−p, resolved to 1/65536.</summary>
    /// <param name="module">Index into the modules.</param>
    /// <param name="microBatch">Number of the micro-batch since the run began.</param>
    /// <param name="tokens">Rows of the mask.</param>
    /// <returns>[tokens, in], reused by the next call for this module.</returns>
    public Memory<bool> Draw(int module, long microBatch, int tokens)
    {
        int count = checked(tokens * modules[module].Module.In);
        if (!_reuse.TryGetValue(module, out bool[]? memory) || memory.Length < count)
        {
            memory = _reuse[module] = new bool[(count + Width - 1) / Width * Width]; // whole vectors
        }

        // Eight generators side by side, xoshiro256** seeded by splitmix64 (Blackman and Vigna 2018), 16 bits per element. A vector of this size is computed
        // in parts where the processor has none, with the same result.
        ulong state = (ulong)(uint)seed ^ ((ulong)microBatch << 32) ^ ((ulong)module * 0xD1342543DE82EF95);
        Vector512<ulong> s0 = Split(ref state), s1 = Split(ref state), s2 = Split(ref state), s3 = Split(ref state);
        int threshold = (int)Math.Round(dropout * 65536);
        Vector512<ushort> highestDropped = Vector512.Create((ushort)Math.Max(0, threshold - 1));
        Vector256<byte> one = Vector256.Create((byte)1);
        Span<byte> mask = MemoryMarshal.AsBytes(memory.AsSpan());
        for (int i = 0; i < count; i += Width)
        {
            Vector512<ulong> times5 = s1 + (s1 << 2);
            Vector512<ulong> turned = (times5 << 7) | (times5 >>> 57);
            Vector512<ushort> numbers = (turned + (turned << 3)).AsUInt16(); // times 9
            Vector512<ulong> t = s1 << 17;
            s2 ^= s0;
            s3 ^= s1;
            s1 ^= s2;
            s0 ^= s3;
            s2 ^= t;
            s3 = (s3 << 45) | (s3 >>> 19);
            Vector512<ushort> kept = Vector512.GreaterThan(numbers, highestDropped); // all bits set where the element is kept
            (Vector512.Narrow(kept, kept).GetLower() & one).CopyTo(mask[i..]);
        }

        if (threshold == 0)
        {
            mask[..count].Fill(1);
        }

        return memory.AsMemory(0, count);
    }

    private static Vector512<ulong> Split(ref ulong state)
    {
        Vector512<ulong> lanes = default;
        for (int i = 0; i < Vector512<ulong>.Count; i++)
        {
            lanes = lanes.WithElement(i, Next(ref state));
        }

        return lanes;
    }

    private static ulong Next(ref ulong state)
    {
        ulong z = state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
