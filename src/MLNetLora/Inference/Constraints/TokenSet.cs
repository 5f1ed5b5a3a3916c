using System.Numerics;

namespace MLNetLora.Inference.Constraints;

/// <summary>A set of token ids: a list where they are few, else a bit for each.</summary>
internal sealed class TokenSet
{
    private const int Few = 512;

    private readonly int[]? _ids;
    private readonly ulong[]? _bits;

    /// <summary>Keeps what is set.</summary>
    /// <param name="bits">A bit for each token.</param>
    public TokenSet(ReadOnlySpan<ulong> bits)
    {
        Count = 0;
        foreach (ulong word in bits)
        {
            Count += BitOperations.PopCount(word);
        }

        if (Count > Few)
        {
            _bits = bits.ToArray();
            return;
        }

        _ids = new int[Count];
        int next = 0;
        for (int i = 0; i < bits.Length; i++)
        {
            for (ulong word = bits[i]; word != 0; word &= word - 1)
            {
                _ids[next++] = (i * 64) + BitOperations.TrailingZeroCount(word);
            }
        }
    }

    /// <summary>How many there are.</summary>
    public int Count { get; }

    /// <summary>About how many bytes it takes.</summary>
    public int Size => 64 + ((_ids?.Length ?? 0) * sizeof(int)) + ((_bits?.Length ?? 0) * sizeof(ulong));

    /// <summary>Adds its tokens to others.</summary>
    public void AddTo(Span<ulong> bits)
    {
        if (_bits is not null)
        {
            System.Numerics.Tensors.TensorPrimitives.BitwiseOr(bits, _bits, bits);
            return;
        }

        foreach (int id in _ids!)
        {
            bits[id >> 6] |= 1UL << (id & 63);
        }
    }
}
