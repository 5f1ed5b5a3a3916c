using System.Diagnostics;

namespace MLNetLora.Checkpoints;

/// <summary>Counts what has come and tells whoever asked, not too often; from many threads.</summary>
internal sealed class HubMeter(string model, IProgress<HubProgress>? progress)
{
    private static readonly TimeSpan s_period = TimeSpan.FromMilliseconds(100);

    private readonly Stopwatch _watch = Stopwatch.StartNew();
    private readonly Lock _lock = new();
    private string _file = model;
    private long _bytes;
    private long _total;
    private long _received; // over the network, also what had to be thrown away
    private TimeSpan? _told;

    /// <summary>Says how much it all is, and how much of that is here.</summary>
    public void Expect(long bytes, long here)
    {
        lock (_lock)
        {
            (_total, _bytes) = (bytes, here);
        }
    }

    /// <summary>Bytes of a file that are here now, or, with a negative number, are not any more.</summary>
    /// <param name="file">The file.</param>
    /// <param name="bytes">How many.</param>
    /// <param name="fromNetwork">Whether they have just come, and were not found on the disk.</param>
    public void Add(string file, long bytes, bool fromNetwork)
    {
        lock (_lock)
        {
            _file = file;
            _bytes += bytes;
            _received += fromNetwork ? Math.Max(bytes, 0) : 0;
            if (progress is not null && (_told is null || _watch.Elapsed - _told >= s_period || _bytes == _total))
            {
                _told = _watch.Elapsed;
                progress.Report(State());
            }
        }
    }

    /// <summary>Tells something in words.</summary>
    public void Tell(string message)
    {
        lock (_lock)
        {
            progress?.Report(State() with { Message = message });
        }
    }

    private HubProgress State() => new(_file, _bytes, _total, _received / Math.Max(_watch.Elapsed.TotalSeconds, 1e-3));
}
