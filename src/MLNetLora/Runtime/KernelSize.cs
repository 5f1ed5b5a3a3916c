using MLNetLora.Onnx;

namespace MLNetLora.Runtime;

/// <summary>With how many blocks, and threads in each, a fused kernel is started.</summary>
/// <param name="Blocks">Blocks.</param>
/// <param name="Threads">Threads of a block.</param>
internal readonly record struct KernelSize(uint Blocks, uint Threads)
{
    private const int Warp = 32;
    private const int PacketBytes = 16; // what a thread reads at once
    private const int OfElements = 256;
    private const int MostOfRow = 512;
    private const int MostBlocks = 16_384; // threads go on with what is left

    /// <summary>For a kernel that takes each element alone.</summary>
    public static KernelSize ForElements(long count, ElementType type) =>
        new((uint)Math.Clamp(Parts(count, Packet(type) * OfElements), 1, MostBlocks), OfElements);

    /// <summary>For a kernel with a block for each row: a packet to a thread, as far as a block goes.</summary>
    public static KernelSize ForRows(long rows, long columns, ElementType type) =>
        new(checked((uint)rows), (uint)Math.Clamp(Parts(Parts(columns, Packet(type)), Warp) * Warp, Warp, MostOfRow));

    private static int Packet(ElementType type) => PacketBytes / (type == ElementType.Float32 ? sizeof(float) : sizeof(ushort));

    private static long Parts(long count, int size) => (count + size - 1) / size;
}
