using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.Runtime;

/// <summary>
/// Reads a checkpoint's weights once, each file from start to end, while graphs are built and sessions made, so that the first step finds them in the
/// system's cache: page by page, in the order in which layers ask for them, a disk gives far less. What the files hold beside them, such as the original of
/// weights that are used in 4 bits, is left out.
/// </summary>
internal static class ReadAhead
{
    /// <summary>Starts reading in the background; does nothing where the weights would take more than half of the memory.</summary>
    /// <param name="checkpoint">The checkpoint.</param>
    /// <param name="cancellation">Ends it: nobody waits for the weights any more.</param>
    /// <returns>Bytes read, once it is done.</returns>
    public static Task<long> Start(Checkpoint checkpoint, CancellationToken cancellation)
    {
        ILookup<string, TensorEntry> parts = checkpoint.Tensors.Values.SelectMany(tensor => tensor.Parts)
            .ToLookup(part => part.File.Source, part => part.Entry);
        long available = MachineMemory.Available;
        return Task.Factory.StartNew(
            () => Read(parts, available / 2, cancellation), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
    }

    private static long Read(ILookup<string, TensorEntry> parts, long limit, CancellationToken cancellation)
    {
        byte[] block = new byte[1 << 20];
        long total = 0;
        if (parts.Sum(file => file.Sum(part => part.Length)) > limit)
        {
            return 0;
        }

        try
        {
            foreach (IGrouping<string, TensorEntry> file in parts)
            {
                using FileStream stream = new(file.Key, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, 1, FileOptions.SequentialScan);
                foreach (TensorEntry part in file.OrderBy(part => part.Offset))
                {
                    stream.Position = part.Offset;
                    for (long left = part.Length; left > 0 && !cancellation.IsCancellationRequested;)
                    {
                        int read = stream.Read(block, 0, (int)Math.Min(left, block.Length));
                        left = read == 0 ? 0 : left - read;
                        total += read;
                    }
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Only a help: whoever needs the file will say what is wrong with it.
        }

        return total;
    }
}
