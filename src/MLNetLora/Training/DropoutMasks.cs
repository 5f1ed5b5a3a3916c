using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using MLNetLora.Adapters;
using MLNetLora.Onnx;
using MLNetLora.Onnx.Differentiable;

namespace MLNetLora.Training;

/// <summary>
/// The dropout masks of one micro-batch, which depend on the seed, the micro-batch's number and the layer alone: they are the same in the recomputed forward
/// pass, and after a resume. For processors they are drawn here, which is faster than a graph would be; for a device, to which gigabytes of them would have to
/// be copied, what a graph makes them from (<see cref="DropoutColumns"/>). The two are not the same.
/// </summary>
internal sealed class DropoutMasks(IReadOnlyList<LoraModule> modules, double dropout, int seed)
{
    private const int Width = 32; // 16-bit numbers of a vector

    private readonly Dictionary<int, byte[]> _reuse = [];

    /// <summary>The mask of a module: a bit is set (kept) with probability 1−p, resolved to 1/65536.</summary>
    /// <param name="module">Index into the modules.</param>
    /// <param name="microBatch">Number of the micro-batch since the run began.</param>
    /// <param name="tokens">Rows of the mask.</param>
    /// <returns>[tokens, ⌈in / 8⌉] as <see cref="DropoutMask"/> has it; reused by the next call for this module.</returns>
    public Memory<byte> Draw(int module, long microBatch, int tokens)
    {
        int columns = modules[module].Module.In;
        int rowBytes = DropoutMask.RowBytes(columns);
        int bytes = checked(tokens * rowBytes);
        long count = (long)tokens * columns;
        if (!_reuse.TryGetValue(module, out byte[]? memory) || memory.Length < bytes)
        {
            memory = _reuse[module] = new byte[(bytes + sizeof(uint) - 1) / sizeof(uint) * sizeof(uint)]; // whole vectors
        }

        // Rows of whole bytes are the bits as they are drawn, one after the other; others begin at their next byte.
        bool whole = columns % 8 == 0;
        Span<byte> drawn = whole ? memory : new byte[(count + Width - 1) / Width * sizeof(uint)];
        Draw(module, microBatch, count, MemoryMarshal.Cast<byte, uint>(drawn));
        if (!whole)
        {
            memory.AsSpan(0, bytes).Clear();
            for (long i = 0; i < count; i++)
            {
                int bit = (drawn[(int)(i / 8)] >> (int)(i % 8)) & 1;
                memory[(i / columns * rowBytes) + (i % columns / 8)] |= (byte)(bit << (int)(i % columns % 8));
            }
        }

        return memory.AsMemory(0, bytes);
    }

    /// <summary>What a graph makes all masks of a micro-batch from.</summary>
    /// <param name="microBatch">Number of the micro-batch since the run began.</param>
    /// <param name="tokens">Rows of the masks.</param>
    /// <returns>dropout_rows [tokens, 1], dropout_columns [1, ⌈widest in / 8⌉].</returns>
    public (long[] Rows, long[] Columns) Counters(long microBatch, int tokens)
    {
        ulong state = (ulong)(uint)seed ^ ((ulong)microBatch << 32);
        state = SplitMix.Next(ref state); // of two micro-batches none goes on where the other began
        return (Numbers(tokens), Numbers(modules.Max(module => DropoutMask.RowBytes(module.Module.In))));

        long[] Numbers(int count)
        {
            long[] numbers = new long[count];
            foreach (ref long number in numbers.AsSpan())
            {
                number = (long)SplitMix.Next(ref state);
            }

            return numbers;
        }
    }

    // Eight generators side by side, xoshiro256** seeded by splitmix64 (Blackman and Vigna 2018), 16 bits per element. A vector of this size is computed in
    // parts where the processor has none, with the same result.
    private void Draw(int module, long microBatch, long count, Span<uint> bits)
    {
        int threshold = (int)Math.Round(dropout * 65536);
        if (threshold == 0)
        {
            bits.Fill(uint.MaxValue);
            return;
        }

        ulong state = (ulong)(uint)seed ^ ((ulong)microBatch << 32) ^ ((ulong)module * 0xD1342543DE82EF95);
        Vector512<ulong> s0 = Split(ref state), s1 = Split(ref state), s2 = Split(ref state), s3 = Split(ref state);
        Vector512<ushort> highestDropped = Vector512.Create((ushort)(threshold - 1));
        for (int i = 0; (long)i * Width < count; i++)
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
            bits[i] = (uint)Vector512.GreaterThan(numbers, highestDropped).ExtractMostSignificantBits(); // set where the element is kept
        }
    }

    private static Vector512<ulong> Split(ref ulong state)
    {
        Vector512<ulong> lanes = default;
        for (int i = 0; i < Vector512<ulong>.Count; i++)
        {
            lanes = lanes.WithElement(i, SplitMix.Next(ref state));
        }

        return lanes;
    }
}
