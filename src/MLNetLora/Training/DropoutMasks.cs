using System.Runtime.InteropServices;
using MLNetLora.Adapters;

namespace MLNetLora.Training;

/// <summary>
/// The dropout masks of one micro-batch. They are drawn here and not in the graph: a mask then depends on the seed, the micro-batch's number and the layer alone,
/// is the same in the recomputed forward pass, on every device, and after a resume.
/// </summary>
internal sealed class DropoutMasks(IReadOnlyList<LoraModule> modules, double dropout, int seed)
{
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
            memory = _reuse[module] = new bool[count];
        }

        Span<bool> mask = memory.AsSpan(0, count);

        // xoshiro256** seeded by splitmix64 (Blackman and Vigna 2018), 16 bits per element.
        ulong state = (ulong)(uint)seed ^ ((ulong)microBatch << 32) ^ ((ulong)module * 0xD1342543DE82EF95);
        Span<ulong> s = [Split(ref state), Split(ref state), Split(ref state), Split(ref state)];
        int threshold = (int)Math.Round(dropout * 65536);
        Span<ulong> word = stackalloc ulong[1];
        ReadOnlySpan<ushort> parts = MemoryMarshal.Cast<ulong, ushort>(word);
        for (int i = 0; i < count; i += 4)
        {
            word[0] = ulong.RotateLeft(s[1] * 5, 7) * 9;
            ulong t = s[1] << 17;
            s[2] ^= s[0];
            s[3] ^= s[1];
            s[1] ^= s[2];
            s[0] ^= s[3];
            s[2] ^= t;
            s[3] = ulong.RotateLeft(s[3], 45);
            for (int j = 0; j < 4 && i + j < count; j++)
            {
                mask[i + j] = parts[j] >= threshold;
            }
        }

        return memory.AsMemory(0, count);
    }

    private static ulong Split(ref ulong state)
    {
        ulong z = state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
