using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.Runtime;

/// <summary>
/// Reads a checkpoint's files once from start to end while graphs are built and sessions made, so that the first step finds its mapped weights in the
/// system's cache: page by page, in the order in which layers ask for them, a disk gives far less.
/// </summary>
internal static class ReadAhead
{
    /// <summary>Starts reading in the background; does nothing where the files would take more than half of the memory.</summary>
    /// <param name="checkpoint">The checkpoint.</param>
    /// <param name="cancellation">Ends it: nobody waits for the weights any more.</param>
    /// <returns>Bytes read, once it is done.</returns>
    public static Task<long> Start(Checkpoint checkpoint, CancellationToken cancellation)
    {
        string[] files = [.. checkpoint.Files.Select(file => file.Source)];
        long available = MachineMemory.Available;
        return Task.Factory.StartNew(
            () => Read(files, available / 2, cancellation), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
    }

    private static long Read(string[] files, long limit, CancellationToken cancellation)
    {
        byte[] block = new byte[1 << 20];
        long total = 0;
        try
        {
            if (files.Sum(file => new FileInfo(File.ResolveLinkTarget(file, returnFinalTarget: true)?.FullName ?? file).Length) > limit)
            {
                return 0;
            }

            foreach (string file in files)
            {
                using FileStream stream = new(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, 1, FileOptions.SequentialScan);
                for (int read; !cancellation.IsCancellationRequested && (read = stream.Read(block)) > 0;)
                {
                    total += read;
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
