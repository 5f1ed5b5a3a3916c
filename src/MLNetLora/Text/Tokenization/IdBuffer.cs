using System.Buffers;

namespace MLNetLora.Text;

/// <summary>A growing list of ids in rented storage: dispose it once.</summary>
/// <param name="capacity">About how many ids will come.</param>
internal struct IdBuffer(int capacity)
{
    private int[] _ids = ArrayPool<int>.Shared.Rent(Math.Max(16, capacity));

    /// <summary>Number of ids.</summary>
    public int Count { get; private set; }

    /// <summary>The id at an index below <see cref="Count"/>.</summary>
    public readonly int this[int index] => _ids[index];

    /// <summary>Appends one id.</summary>
    public void Add(int id)
    {
        if (Count == _ids.Length)
        {
            Grow(1);
        }

        _ids[Count++] = id;
    }

    /// <summary>Appends ids.</summary>
    public void Add(ReadOnlySpan<int> ids)
    {
        if (Count + ids.Length > _ids.Length)
        {
            Grow(ids.Length);
        }

        ids.CopyTo(_ids.AsSpan(Count));
        Count += ids.Length;
    }

    /// <summary>A copy of the ids.</summary>
    public readonly int[] ToArray() => _ids.AsSpan(0, Count).ToArray();

    /// <summary>Gives the storage back.</summary>
    public readonly void Dispose() => ArrayPool<int>.Shared.Return(_ids);

    private void Grow(int more)
    {
        int[] larger = ArrayPool<int>.Shared.Rent(Math.Max(_ids.Length * 2, Count + more));
        _ids.AsSpan(0, Count).CopyTo(larger);
        ArrayPool<int>.Shared.Return(_ids);
        _ids = larger;
    }
}
