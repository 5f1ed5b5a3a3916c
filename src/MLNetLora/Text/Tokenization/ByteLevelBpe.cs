using System.Buffers;

namespace MLNetLora.Text;

/// <summary>
/// Byte-pair encoding of one word: begin with its bytes, merge the pair of neighbours with the lowest rank (the leftmost of equals) until none merges.
/// Short words scan for the lowest rank; long ones keep a heap, so that a megabyte without white space costs n log n.
/// </summary>
/// <param name="tokens">The vocabulary; holds all 256 single bytes.</param>
/// <param name="merges">The merges.</param>
/// <param name="wholeWordsFirst">Whether a word that is in the vocabulary is that token even where merging would not arrive at it (tiktoken;
/// "ignore_merges" in tokenizer.json).</param>
internal sealed class ByteLevelBpe(TokenTable tokens, MergeTable merges, bool wholeWordsFirst)
{
    /// <summary>Longest word, in bytes, that is merged by scanning: up to here the quadratic scan is faster than the heap.</summary>
    private const int ScanLimit = 128;

    private readonly int[] _byteIds = ByteIds(tokens);

    /// <summary>Whether merging the bytes of a token gives the token: unknown (0), yes (1), no (2); found out when first needed. Racing threads write
    /// the same value.</summary>
    private readonly byte[] _mergesToItself = new byte[tokens.Size];

    /// <summary>Appends the ids of a word.</summary>
    /// <param name="word">UTF-8, at least one byte.</param>
    /// <param name="output">Receives the ids.</param>
    public void Encode(ReadOnlySpan<byte> word, ref IdBuffer output)
    {
        if (word.Length == 1)
        {
            output.Add(_byteIds[word[0]]);
            return;
        }
        if (!tokens.TryGetId(word, out int whole))
        {
            Merge(word, ref output);
            return;
        }
        // Most words of common languages are one token: one look-up instead of one per merge.
        if (wholeWordsFirst || _mergesToItself[whole] == 1)
        {
            output.Add(whole);
            return;
        }
        int before = output.Count;
        Merge(word, ref output);
        if (_mergesToItself[whole] == 0)
        {
            _mergesToItself[whole] = output.Count == before + 1 && output[before] == whole ? (byte)1 : (byte)2;
        }
    }

    private static int[] ByteIds(TokenTable tokens)
    {
        int[] ids = new int[256];
        for (int value = 0; value < 256; value++)
        {
            if (!tokens.TryGetId([(byte)value], out ids[value]))
            {
                throw new TokenizerException($"The vocabulary has no token for the single byte 0x{value:X2}: a byte-level tokenizer needs all 256. Restore the "
                    + "original tokenizer files.");
            }
        }
        return ids;
    }

    private void Merge(ReadOnlySpan<byte> word, ref IdBuffer output)
    {
        if (word.Length <= ScanLimit)
        {
            MergeByScanning(word, ref output);
        }
        else
        {
            MergeByHeap(word, ref output);
        }
    }

    private void MergeByScanning(ReadOnlySpan<byte> word, ref IdBuffer output)
    {
        int count = word.Length;
        // ids[i] is a token, ranks[i] and merged[i] belong to the pair (i, i + 1).
        Span<int> ids = stackalloc int[ScanLimit];
        Span<int> ranks = stackalloc int[ScanLimit];
        Span<int> merged = stackalloc int[ScanLimit];
        for (int i = 0; i < count; i++)
        {
            ids[i] = _byteIds[word[i]];
        }

        for (int i = 0; i + 1 < count; i++)
        {
            ranks[i] = merges.Rank(ids[i], ids[i + 1], out merged[i]);
        }

        while (count > 1)
        {
            int best = 0;
            for (int i = 1; i < count - 1; i++)
            {
                if (ranks[i] < ranks[best])
                {
                    best = i;
                }
            }
            if (ranks[best] == MergeTable.None)
            {
                break;
            }

            ids[best] = merged[best];
            // The right partner leaves: its id, and the pair that it made with the merged token's left part.
            ids[(best + 2)..count].CopyTo(ids[(best + 1)..]);
            ranks[(best + 1)..(count - 1)].CopyTo(ranks[best..]);
            merged[(best + 1)..(count - 1)].CopyTo(merged[best..]);
            count--;
            if (best + 1 < count)
            {
                ranks[best] = merges.Rank(ids[best], ids[best + 1], out merged[best]);
            }

            if (best > 0)
            {
                ranks[best - 1] = merges.Rank(ids[best - 1], ids[best], out merged[best - 1]);
            }
        }
        output.Add(ids[..count]);
    }

    private void MergeByHeap(ReadOnlySpan<byte> word, ref IdBuffer output)
    {
        int count = word.Length;
        int[] rented = ArrayPool<int>.Shared.Rent(count * 5);
        Span<int> ids = rented.AsSpan(0, count);
        Span<int> ranks = rented.AsSpan(count, count);
        Span<int> merged = rented.AsSpan(count * 2, count);
        Span<int> previous = rented.AsSpan(count * 3, count);
        Span<int> following = rented.AsSpan(count * 4, count);
        // An entry is (rank, position of the left partner); it is stale where the pair at that position has another rank by now.
        PairHeap heap = new(count);
        for (int i = 0; i < count; i++)
        {
            ids[i] = _byteIds[word[i]];
            previous[i] = i - 1;
            following[i] = i + 1;
        }
        for (int i = 0; i < count; i++)
        {
            ranks[i] = i + 1 < count ? merges.Rank(ids[i], ids[i + 1], out merged[i]) : MergeTable.None;
            heap.Push(ranks[i], i);
        }
        while (heap.TryPop(out int rank, out int left))
        {
            if (ranks[left] != rank)
            {
                continue;
            }

            int right = following[left];
            ids[left] = merged[left];
            ranks[right] = MergeTable.None;
            following[left] = following[right];
            if (following[right] < count)
            {
                previous[following[right]] = left;
                ranks[left] = merges.Rank(ids[left], ids[following[left]], out merged[left]);
            }
            else
            {
                ranks[left] = MergeTable.None;
            }
            heap.Push(ranks[left], left);
            int before = previous[left];
            if (before >= 0)
            {
                ranks[before] = merges.Rank(ids[before], ids[left], out merged[before]);
                heap.Push(ranks[before], before);
            }
        }
        for (int i = 0; i < count; i = following[i])
        {
            output.Add(ids[i]);
        }

        heap.Dispose();
        ArrayPool<int>.Shared.Return(rented);
    }
}
