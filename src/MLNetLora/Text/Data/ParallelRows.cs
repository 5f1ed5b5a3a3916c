using System.Runtime.ExceptionServices;

namespace MLNetLora.Text;

/// <summary>Converts a stream of rows on several threads, a chunk at a time, so that order and memory are those of one thread.</summary>
internal static class ParallelRows
{
    private const int ChunkRows = 256;

    /// <summary>The converted rows in order. What a conversion throws is thrown when the enumeration comes to its row, after the rows before it.</summary>
    /// <param name="rows">The rows, read on the caller's thread.</param>
    /// <param name="convert">Called on any thread.</param>
    /// <param name="threads">How many threads; 0 takes all cores.</param>
    public static IEnumerable<TResult> Convert<TRow, TResult>(IEnumerable<TRow> rows, Func<TRow, TResult> convert, int threads)
    {
        ParallelOptions options = new() { MaxDegreeOfParallelism = threads == 0 ? Environment.ProcessorCount : threads };
        foreach ((TRow[] chunk, ExceptionDispatchInfo? failed) in Chunks(rows))
        {
            TResult[] results = new TResult[chunk.Length];
            ExceptionDispatchInfo?[] errors = new ExceptionDispatchInfo?[chunk.Length];
            Parallel.For(0, chunk.Length, options, i =>
            {
                try
                {
                    results[i] = convert(chunk[i]);
                }
                catch (Exception error)
                {
                    errors[i] = ExceptionDispatchInfo.Capture(error);
                }
            });
            for (int i = 0; i < chunk.Length; i++)
            {
                errors[i]?.Throw();
                yield return results[i];
            }

            failed?.Throw();
        }
    }

    /// <summary>Chunks of the rows; where reading fails, the rows before the failure come first, with it.</summary>
    private static IEnumerable<(TRow[] Rows, ExceptionDispatchInfo? Failed)> Chunks<TRow>(IEnumerable<TRow> rows)
    {
        using IEnumerator<TRow> enumerator = rows.GetEnumerator();
        List<TRow> chunk = new(ChunkRows);
        ExceptionDispatchInfo? failed = null;
        bool more = true;
        while (more)
        {
            chunk.Clear();
            while (chunk.Count < ChunkRows && (more = Next()))
            {
                chunk.Add(enumerator.Current);
            }

            yield return ([.. chunk], failed);
        }

        bool Next()
        {
            try
            {
                return enumerator.MoveNext();
            }
            catch (Exception error)
            {
                failed = ExceptionDispatchInfo.Capture(error);
                return false;
            }
        }
    }
}
