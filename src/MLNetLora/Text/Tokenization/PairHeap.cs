using System.Buffers;

namespace MLNetLora.Text;

/// <summary>A binary heap of (rank, position), lowest rank first, leftmost position among equals. Its storage is rented: dispose it once.</summary>
/// <param name="capacity">About how many entries it will hold.</param>
internal struct PairHeap(int capacity)
{
    private long[] _entries = ArrayPool<long>.Shared.Rent(capacity);
    private int _count;

    /// <summary>Adds an entry; a pair that never merges is not kept.</summary>
    public void Push(int rank, int position)
    {
        if (rank == MergeTable.None)
        {
            return;
        }

        if (_count == _entries.Length)
        {
            long[] larger = ArrayPool<long>.Shared.Rent(_count * 2);
            _entries.AsSpan(0, _count).CopyTo(larger);
            ArrayPool<long>.Shared.Return(_entries);
            _entries = larger;
        }
        long entry = ((long)rank << 32) | (uint)position;
        int at = _count++;
        while (at > 0)
        {
            int parent = (at - 1) / 2;
            if (_entries[parent] <= entry)
            {
                break;
            }

            _entries[at] = _entries[parent];
            at = parent;
        }
        _entries[at] = entry;
    }

    /// <summary>Takes the lowest entry; false where none is left.</summary>
    public bool TryPop(out int rank, out int position)
    {
        if (_count == 0)
        {
            rank = position = 0;
            return false;
        }
        long lowest = _entries[0];
        rank = (int)(lowest >> 32);
        position = (int)(lowest & 0xFFFFFFFF);
        long last = _entries[--_count];
        int at = 0;
        while (true)
        {
            int child = at * 2 + 1;
            if (child >= _count)
            {
                break;
            }

            if (child + 1 < _count && _entries[child + 1] < _entries[child])
            {
                child++;
            }

            if (last <= _entries[child])
            {
                break;
            }

            _entries[at] = _entries[child];
            at = child;
        }
        _entries[at] = last;
        return true;
    }

    /// <summary>Gives the storage back.</summary>
    public readonly void Dispose() => ArrayPool<long>.Shared.Return(_entries);
}
