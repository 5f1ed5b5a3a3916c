using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Options;

namespace MLNetLora.AspNetCore;

/// <summary>
/// How many bytes the bodies of all requests take, those on their way and those that are here until their answers end. Where there would be more than may be,
/// the body ends that has been on its way for the longest: who sends slowly, over however many connections, takes nobody's place. Thread-safe.
/// </summary>
internal sealed class BodyMemory(IOptions<ServingOptions> options, RequestGate gate)
{
    /// <summary>Counted of each body at least: what its request takes besides.</summary>
    public const int LeastBytes = 16 << 10;

    private readonly Lock _lock = new();
    private readonly LinkedList<BodyPlace> _arriving = []; // the oldest first
    private long _bytes;

    /// <summary>Bodies that are on their way.</summary>
    public int Arriving
    {
        get
        {
            lock (_lock)
            {
                return _arriving.Count;
            }
        }
    }

    /// <summary>A place for a body that comes; to be disposed when its request has ended.</summary>
    public BodyPlace Begin()
    {
        BodyPlace place = new(this);
        lock (_lock)
        {
            place.Node = _arriving.AddLast(place);
        }

        return place;
    }

    /// <summary>Counts bytes of a body.</summary>
    /// <param name="place">Its place.</param>
    /// <param name="length">How many it has now.</param>
    /// <returns>Null, or why there is no room for them.</returns>
    internal ServingError? Grow(BodyPlace place, long length)
    {
        List<BodyPlace> ended = [];
        ServingError? refusal = null;
        lock (_lock)
        {
            if (place.Node is null)
            {
                return null; // others have its place, and it hears of it in a moment
            }

            long more = Math.Max(length, LeastBytes) - place.Bytes;
            while (refusal is null && _bytes + more > options.Value.MaximumBodyBytes)
            {
                BodyPlace oldest = _arriving.First!.Value;
                if (oldest != place)
                {
                    Free(oldest);
                    ended.Add(oldest);
                }
                else
                {
                    refusal = _arriving.Count > 1 ? TooSlow() : gate.Full();
                }
            }

            if (refusal is null)
            {
                _bytes += more;
                place.Bytes += more;
            }
        }

        ended.ForEach(other => other.End());
        return refusal;
    }

    /// <summary>A body is whole.</summary>
    internal void Complete(BodyPlace place)
    {
        lock (_lock)
        {
            Leave(place);
        }
    }

    /// <summary>A request has ended.</summary>
    internal void End(BodyPlace place)
    {
        lock (_lock)
        {
            Free(place);
        }
    }

    /// <summary>What is told whose body came slowly while there was no room.</summary>
    public static ServingError TooSlow() => new(
        StatusCodes.Status408RequestTimeout,
        "The request's body came slowly, and its place was needed for others. Send it again.",
        "invalid_request_error",
        "body_timeout");

    private void Free(BodyPlace place)
    {
        Leave(place);
        _bytes -= place.Bytes;
        place.Bytes = 0;
    }

    private void Leave(BodyPlace place)
    {
        if (place.Node is not null)
        {
            _arriving.Remove(place.Node);
            place.Node = null;
        }
    }
}

/// <summary>The place of one body.</summary>
internal sealed class BodyPlace(BodyMemory memory) : IDisposable
{
    private readonly CancellationTokenSource _ended = new(); // has no timer, so there is nothing to dispose

    /// <summary>Says that others need the place.</summary>
    public CancellationToken Ended => _ended.Token;

    /// <summary>Among those on their way; null where it is whole, or has ended. Of the memory's lock.</summary>
    internal LinkedListNode<BodyPlace>? Node { get; set; }

    /// <summary>Bytes that are counted. Of the memory's lock.</summary>
    internal long Bytes { get; set; }

    /// <summary>Counts what has come.</summary>
    /// <param name="length">Bytes so far.</param>
    /// <returns>Null, or why there is no room for them.</returns>
    public ServingError? Grow(long length) => memory.Grow(this, length);

    /// <summary>The body is whole.</summary>
    public void Complete() => memory.Complete(this);

    /// <inheritdoc/>
    public void Dispose() => memory.End(this);

    /// <summary>Ends the reading; not on this thread, which is another request's.</summary>
    internal void End() => _ = _ended.CancelAsync();
}
