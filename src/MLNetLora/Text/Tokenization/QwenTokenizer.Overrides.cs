using System.Buffers;
using System.Text;
using System.Text.Unicode;
using Microsoft.ML.Tokenizers;

namespace MLNetLora.Text;

/// <summary>
/// What Microsoft.ML.Tokenizers asks of a tokenizer. As in the package's own:
/// offsets and indices count characters (UTF-16) of the normalized text where one is returned, else of the text as given;
/// several tokens of one character each have the whole character as their offset, and no cut goes through it;
/// without pre-tokenization text is one word, and added tokens in it are text.
/// </summary>
public sealed partial class QwenTokenizer
{
    /// <summary>Longest unfinished UTF-8 sequence, in bytes.</summary>
    private const int PendingBytes = 3;

    /// <summary>The text of tokens, control tokens included. Invalid UTF-8 becomes U+FFFD; ids that the tokenizer does not have are left out.</summary>
    /// <param name="ids">Ids, [tokens].</param>
    public override string Decode(IEnumerable<int> ids)
    {
        ArgumentNullException.ThrowIfNull(ids);
        return Decode(ids as int[] ?? [.. ids], skipSpecialTokens: false);
    }

    /// <summary>Writes the text of tokens, the same as <see cref="Decode(IEnumerable{int})"/> gives.</summary>
    /// <param name="ids">Ids, [tokens].</param>
    /// <param name="destination">Where the characters go.</param>
    /// <param name="idsConsumed">How many ids are written; the next call takes those behind them. Never ends inside a character.</param>
    /// <param name="charsWritten">How many characters of <paramref name="destination"/> are those ids' text.</param>
    /// <returns>Done, or DestinationTooSmall where ids are left.</returns>
    public override OperationStatus Decode(IEnumerable<int> ids, Span<char> destination, out int idsConsumed, out int charsWritten)
    {
        ArgumentNullException.ThrowIfNull(ids);
        (idsConsumed, charsWritten) = (0, 0);
        (int read, int written, int pending) = (0, 0, 0);
        byte[] bytes = new byte[256];
        foreach (int id in ids)
        {
            ReadOnlySpan<byte> token = Bytes(id, skipSpecialTokens: false);
            if (pending + token.Length > bytes.Length)
            {
                Array.Resize(ref bytes, PendingBytes + token.Length);
            }

            token.CopyTo(bytes.AsSpan(pending));
            Span<byte> known = bytes.AsSpan(0, pending + token.Length);
            if (Utf8.ToUtf16(known, destination[written..], out int used, out int added, isFinalBlock: false) == OperationStatus.DestinationTooSmall)
            {
                return OperationStatus.DestinationTooSmall;
            }

            known[used..].CopyTo(bytes);
            pending = known.Length - used;
            written += added;
            read++;
            if (pending == 0)
            {
                (idsConsumed, charsWritten) = (read, written);
            }
        }
        if (Utf8.ToUtf16(bytes.AsSpan(0, pending), destination[written..], out _, out int last) == OperationStatus.DestinationTooSmall)
        {
            return OperationStatus.DestinationTooSmall;
        }

        (idsConsumed, charsWritten) = (read, written + last);
        return OperationStatus.Done;
    }

    /// <inheritdoc/>
    /// <remarks>A token's value is its spelling in vocab.json (Ġhello), which <see cref="TryGetId"/> takes; its characters are those at its offset.</remarks>
    /// <exception cref="ArgumentOutOfRangeException">The settings ask for fewer than one token.</exception>
    protected override EncodeResults<EncodedToken> EncodeToTokens(string? text, ReadOnlySpan<char> textSpan, EncodeSettings settings)
    {
        EncodedText encoded = Encode(text, textSpan, settings);
        EncodedToken[] tokens = new EncodedToken[encoded.Fit(settings.MaxTokenCount)];
        for (int i = 0; i < tokens.Length; i++)
        {
            tokens[i] = new EncodedToken(encoded.Ids[i], Spelling(encoded.Ids[i]), encoded.Offsets[i]);
        }

        return new EncodeResults<EncodedToken> { Tokens = tokens, NormalizedText = encoded.NormalizedText, CharsConsumed = encoded.End(tokens.Length) };
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentOutOfRangeException">The settings ask for fewer than one token.</exception>
    protected override EncodeResults<int> EncodeToIds(string? text, ReadOnlySpan<char> textSpan, EncodeSettings settings)
    {
        EncodedText encoded = Encode(text, textSpan, settings);
        int count = encoded.Fit(settings.MaxTokenCount);
        int[] ids = count == encoded.Ids.Length ? encoded.Ids : encoded.Ids[..count];
        return new EncodeResults<int> { Tokens = ids, NormalizedText = encoded.NormalizedText, CharsConsumed = encoded.End(count) };
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentOutOfRangeException">The settings ask for fewer than one token.</exception>
    protected override int CountTokens(string? text, ReadOnlySpan<char> textSpan, EncodeSettings settings) =>
        Encode(text, textSpan, settings).Fit(settings.MaxTokenCount);

    /// <inheritdoc/>
    /// <exception cref="ArgumentOutOfRangeException">The settings ask for fewer than one token.</exception>
    protected override int GetIndexByTokenCount(
        string? text, ReadOnlySpan<char> textSpan, EncodeSettings settings, bool fromEnd, out string? normalizedText, out int tokenCount)
    {
        int most = settings.MaxTokenCount;
        // Words are split from the start: the last ones are known when all are.
        if (fromEnd && most > 0)
        {
            settings.MaxTokenCount = int.MaxValue;
        }

        EncodedText encoded = Encode(text, textSpan, settings);
        normalizedText = encoded.NormalizedText;
        if (!fromEnd)
        {
            tokenCount = encoded.Fit(most);
            return encoded.End(tokenCount);
        }
        tokenCount = encoded.FitFromEnd(most);
        return encoded.End(encoded.Ids.Length - tokenCount);
    }

    private EncodedText Encode(string? text, ReadOnlySpan<char> textSpan, EncodeSettings settings)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(settings.MaxTokenCount, 1, "maxTokenCount");
        text ??= textSpan.ToString();
        StringBuilder read = new(text.Length);
        Recognition recognition = settings.ConsiderPreTokenization ? Recognition.All : Recognition.None;
        IdBuffer output = new(text.Length);
        Encode(text, new Pass(recognition, settings.ConsiderNormalization, settings.ConsiderPreTokenization, settings.MaxTokenCount, read), ref output);
        int[] ids = output.ToArray();
        output.Dispose();
        return new EncodedText(this, ids, read.ToString(), _normalize && settings.ConsiderNormalization, isWhole: ids.Length < settings.MaxTokenCount);
    }

    private string Spelling(int id)
    {
        if (_added.TryGet(id, out AddedToken token, out _))
        {
            return token.Content;
        }

        ReadOnlySpan<byte> bytes = _tokens[id];
        return string.Create(bytes.Length, bytes, static (characters, bytes) =>
        {
            for (int i = 0; i < characters.Length; i++)
            {
                characters[i] = ByteAlphabet.Character(bytes[i]);
            }
        });
    }

    /// <summary>A text as ids, and where each of them stands in it.</summary>
    private sealed class EncodedText(QwenTokenizer tokenizer, int[] ids, string text, bool isNormalized, bool isWhole)
    {
        private Range[]? _offsets;

        /// <summary>The ids, up to the end of the word in which there were enough.</summary>
        public int[] Ids => ids;

        /// <summary>The text that the offsets point into, where that is not the text as given.</summary>
        public string? NormalizedText => isNormalized ? text : null;

        /// <summary>Where each id stands: from the first character that it has a byte of to behind the last.</summary>
        public Range[] Offsets => _offsets ??= Find();

        /// <summary>How many ids, at the most so many, end where a character ends.</summary>
        public int Fit(int most)
        {
            int count = Math.Min(most, ids.Length);
            while (Splits(count))
            {
                count--;
            }

            return count;
        }

        /// <summary>How many of the last ids, at the most so many, begin where a character begins.</summary>
        public int FitFromEnd(int most)
        {
            int first = Math.Max(0, ids.Length - most);
            while (Splits(first))
            {
                first++;
            }

            return ids.Length - first;
        }

        /// <summary>Index of the character behind the first ids.</summary>
        public int End(int count)
        {
            if (isWhole && count == ids.Length)
            {
                return text.Length;
            }

            return count == 0 ? 0 : Offsets[count - 1].End.Value;
        }

        /// <summary>Whether a character's tokens are parted by a cut before an id.</summary>
        private bool Splits(int id) => id > 0 && id < ids.Length && Offsets[id].Start.Value < Offsets[id - 1].End.Value;

        private Range[] Find()
        {
            Range[] offsets = new Range[ids.Length];
            // Byte-level: the bytes of the ids, one after the other, are those of the text. A character begins at `at`; `rest` of its bytes are still to come.
            (int at, int width, int rest) = (0, 0, 0);
            for (int i = 0; i < ids.Length; i++)
            {
                int start = at;
                for (int bytes = tokenizer.Bytes(ids[i], skipSpecialTokens: false).Length; bytes > 0; bytes--)
                {
                    if (rest == 0)
                    {
                        (width, rest) = (char.IsHighSurrogate(text[at]) ? 2 : 1, Rune.GetRuneAt(text, at).Utf8SequenceLength);
                    }

                    if (--rest == 0)
                    {
                        at += width;
                    }
                }
                offsets[i] = start..(rest == 0 ? at : at + width);
            }
            return offsets;
        }
    }
}
