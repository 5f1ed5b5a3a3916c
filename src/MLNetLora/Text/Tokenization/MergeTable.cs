using System.Numerics;
using System.Runtime.CompilerServices;

namespace MLNetLora.Text;

/// <summary>Which two neighbouring tokens merge, into what, and how early: open addressing over (left id, right id). Filled once, read by many
/// threads.</summary>
internal sealed class MergeTable
{
    /// <summary>The rank of a pair that never merges.</summary>
    public const int None = int.MaxValue;

    private const ulong Empty = ulong.MaxValue;
    private const ulong Multiplier = 0x9E3779B97F4A7C15;

    private Entry[] _entries;
    private int _shift;
    private int _count;

    /// <summary>An empty table.</summary>
    /// <param name="expected">About how many merges will come.</param>
    public MergeTable(int expected) => _entries = NewEntries(Math.Max(16, expected) * 2);

    /// <summary>Sets the merge of a pair; a later one for the same pair replaces it, as in Hugging Face tokenizers.</summary>
    /// <param name="left">Id of the left token.</param>
    /// <param name="right">Id of the right token.</param>
    /// <param name="rank">Lower ranks merge first.</param>
    /// <param name="merged">Id of the token that the two become.</param>
    public void Set(int left, int right, int rank, int merged)
    {
        ref Entry entry = ref Find(Key(left, right));
        if (entry.Key == Empty)
        {
            if (++_count * 2 > _entries.Length)
            {
                Grow();
                entry = ref Find(Key(left, right));
            }
            entry.Key = Key(left, right);
        }
        entry.Rank = rank;
        entry.Merged = merged;
    }

    /// <summary>The rank of a pair, <see cref="None"/> where it never merges.</summary>
    /// <param name="left">Id of the left token.</param>
    /// <param name="right">Id of the right token.</param>
    /// <param name="merged">Id of the token that the two become; 0 where they never merge.</param>
    public int Rank(int left, int right, out int merged)
    {
        ref Entry entry = ref Find(Key(left, right));
        merged = entry.Merged;
        return entry.Rank;
    }

    /// <summary>All merges, in no order.</summary>
    public IEnumerable<(int Left, int Right, int Rank, int Merged)> All() =>
        _entries.Where(entry => entry.Key != Empty).Select(entry => ((int)(entry.Key >> 32), (int)(uint)entry.Key, entry.Rank, entry.Merged));

    private static ulong Key(int left, int right) => ((ulong)(uint)left << 32) | (uint)right;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private ref Entry Find(ulong key)
    {
        Entry[] entries = _entries;
        int mask = entries.Length - 1;
        for (int slot = (int)((key * Multiplier) >> _shift); ; slot++)
        {
            ref Entry entry = ref entries[slot & mask];
            if (entry.Key == key || entry.Key == Empty)
            {
                return ref entry;
            }
        }
    }

    private Entry[] NewEntries(int size)
    {
        Entry[] entries = new Entry[(int)BitOperations.RoundUpToPowerOf2((uint)size)];
        Array.Fill(entries, new Entry { Key = Empty, Rank = None });
        _shift = 64 - BitOperations.Log2((uint)entries.Length);
        return entries;
    }

    private void Grow()
    {
        Entry[] old = _entries;
        _entries = NewEntries(old.Length * 2);
        foreach (Entry entry in old)
        {
            if (entry.Key != Empty)
            {
                Find(entry.Key) = entry;
            }
        }
    }

    private struct Entry
    {
        public ulong Key;
        public int Rank;
        public int Merged;
    }
}
