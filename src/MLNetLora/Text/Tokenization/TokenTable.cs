using System.Numerics;
using System.Runtime.InteropServices;

namespace MLNetLora.Text;

/// <summary>The vocabulary: the bytes of every id in one block, and the id of a byte sequence by open addressing. Filled once, read by many threads.</summary>
internal sealed class TokenTable
{
    /// <summary>Ids from here on are refused: every Qwen has fewer than 300,000, and an id is an index into a table.</summary>
    public const int IdLimit = 1 << 22;

    private byte[] _bytes;
    private int _used;
    private int[] _starts = [];
    private int[] _lengths = [];
    private int[] _slots;
    private int _inSlots;

    /// <summary>An empty table.</summary>
    /// <param name="expected">About how many tokens will come.</param>
    public TokenTable(int expected)
    {
        _bytes = new byte[Math.Max(16, expected) * 8];
        _slots = NewSlots(expected);
    }

    /// <summary>One above the highest id.</summary>
    public int Size { get; private set; }

    /// <summary>Number of tokens.</summary>
    public int Count { get; private set; }

    /// <summary>The bytes of a token; empty for an id that is not in the table.</summary>
    public ReadOnlySpan<byte> this[int id] => (uint)id < (uint)Size && _lengths[id] > 0 ? _bytes.AsSpan(_starts[id], _lengths[id]) : [];

    /// <summary>Whether an id is in the table.</summary>
    public bool Contains(int id) => (uint)id < (uint)Size && _lengths[id] > 0;

    /// <summary>Adds a token.</summary>
    /// <param name="id">Its id, 0 to <see cref="IdLimit"/> − 1, not used before.</param>
    /// <param name="token">At least one byte.</param>
    /// <param name="searchable">Whether <see cref="TryGetId"/> finds it; its bytes must then be new.</param>
    /// <returns>Null, or what is wrong with the token.</returns>
    public string? TryAdd(int id, ReadOnlySpan<byte> token, bool searchable = true)
    {
        if (id is < 0 or >= IdLimit)
        {
            return $"has id {id}, which is outside 0 to {IdLimit - 1}";
        }

        if (token.IsEmpty)
        {
            return $"with id {id} is empty";
        }

        if (Contains(id))
        {
            return $"has id {id}, which another token has too";
        }

        if (searchable && TryGetId(token, out int other))
        {
            return $"with id {id} is there already, with id {other}";
        }

        Reserve(id, token.Length);
        token.CopyTo(_bytes.AsSpan(_used));
        _starts[id] = _used;
        _lengths[id] = token.Length;
        _used += token.Length;
        Size = Math.Max(Size, id + 1);
        Count++;
        if (searchable)
        {
            Insert(id);
        }

        return null;
    }

    /// <summary>The id of a byte sequence.</summary>
    public bool TryGetId(ReadOnlySpan<byte> token, out int id)
    {
        for (uint slot = Hash(token); ; slot++)
        {
            id = _slots[slot & (uint)(_slots.Length - 1)] - 1;
            if (id < 0)
            {
                return false;
            }

            if (_lengths[id] == token.Length && token.SequenceEqual(_bytes.AsSpan(_starts[id], token.Length)))
            {
                return true;
            }
        }
    }

    private static int[] NewSlots(int tokens) => new int[(int)BitOperations.RoundUpToPowerOf2((uint)Math.Max(16, tokens) * 2)];

    private void Reserve(int id, int length)
    {
        if (id >= _lengths.Length)
        {
            int size = Math.Max(id + 1, _lengths.Length * 2);
            Array.Resize(ref _starts, size);
            Array.Resize(ref _lengths, size);
        }
        if (_used + length > _bytes.Length)
        {
            Array.Resize(ref _bytes, checked(Math.Max(_used + length, _bytes.Length * 2)));
        }
    }

    private void Insert(int id)
    {
        if (++_inSlots * 2 > _slots.Length)
        {
            int[] old = _slots;
            _slots = NewSlots(_inSlots * 2);
            foreach (int entry in old.Where(entry => entry != 0))
            {
                Place(entry - 1);
            }
        }
        Place(id);
    }

    private void Place(int id)
    {
        uint slot = Hash(this[id]);
        while (_slots[slot & (uint)(_slots.Length - 1)] != 0)
        {
            slot++;
        }

        _slots[slot & (uint)(_slots.Length - 1)] = id + 1;
    }

    private static uint Hash(ReadOnlySpan<byte> token)
    {
        const ulong Multiplier = 0x9E3779B97F4A7C15;
        ulong hash = (ulong)token.Length * Multiplier;
        while (token.Length >= 8)
        {
            hash = (BitOperations.RotateLeft(hash, 29) ^ MemoryMarshal.Read<ulong>(token)) * Multiplier;
            token = token[8..];
        }
        ulong rest = 0;
        for (int i = 0; i < token.Length; i++)
        {
            rest |= (ulong)token[i] << (8 * i);
        }

        hash = (BitOperations.RotateLeft(hash, 29) ^ rest) * Multiplier;
        return (uint)(hash >> 32);
    }
}
