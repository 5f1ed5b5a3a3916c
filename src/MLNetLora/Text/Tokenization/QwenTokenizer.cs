using System.Buffers;
using System.Collections.Frozen;
using System.Text;
using Microsoft.ML.Tokenizers;

namespace MLNetLora.Text;

/// <summary>
/// A checkpoint's tokenizer: byte-level byte-pair encoding with Qwen's way of splitting text, ids equal to those of Hugging Face tokenizers (Qwen1.5
/// and later) and tiktoken (Qwen1).
/// What the base class gives (EncodeToIds, EncodeToTokens, CountTokens, GetIndexByTokenCount) recognizes added tokens such as &lt;|im_end|&gt; in the text,
/// as Hugging Face tokenizers and the package's own do: right for a rendered template, wrong for text from outside, which <see cref="Encode(string)"/> takes.
/// Immutable: one instance serves any number of threads.
/// </summary>
public sealed partial class QwenTokenizer : Tokenizer
{
    private readonly TokenTable _tokens;
    private readonly ByteLevelBpe _bpe;
    private readonly PreTokenizer _preTokenizer;
    private readonly AddedTokens _added;
    private readonly bool _normalize;
    private readonly bool _normalizeFirst;

    private QwenTokenizer(TokenizerData data)
    {
        _tokens = data.Tokens;
        _bpe = new ByteLevelBpe(data.Tokens, data.Merges, data.WholeWordsFirst);
        _preTokenizer = data.PreTokenizer;
        _added = new AddedTokens(data.AddedTokens);
        _normalize = data.Normalize;
        _normalizeFirst = data.NormalizeBeforeAddedTokens;
        SpecialTokens = _added.All.ToFrozenDictionary(token => token.Content, token => token.Id, StringComparer.Ordinal);
        VocabularySize = Math.Max(_tokens.Size, _added.All.Select(token => token.Id + 1).DefaultIfEmpty().Max());
        ImStartId = Id("<|im_start|>");
        ImEndId = Id("<|im_end|>");
        EndOfTextId = Id("<|endoftext|>");

        int? Id(string content) => _added.TryGetId(content, out int id) ? id : null;
    }

    /// <summary>How added tokens in a text are treated.</summary>
    internal enum Recognition
    {
        /// <summary>Their characters are text like any other.</summary>
        None,

        /// <summary>Those that are not control tokens are recognized: &lt;think&gt;, &lt;tool_call&gt;, which models write in their answers.</summary>
        TextTokens,

        /// <summary>All are recognized.</summary>
        All,
    }

    /// <summary>One above the highest id of the tokenizer. A checkpoint's embedding often has more rows; those ids decode to nothing.</summary>
    public int VocabularySize { get; }

    /// <summary>The added tokens and their ids: the control tokens (&lt;|im_start|&gt;, …) and those that models write (&lt;think&gt;, …).</summary>
    public IReadOnlyDictionary<string, int> SpecialTokens { get; }

    /// <summary>Id of &lt;|im_start|&gt;, which begins a message; null where the tokenizer has none.</summary>
    public int? ImStartId { get; }

    /// <summary>Id of &lt;|im_end|&gt;, which ends a message; null where the tokenizer has none.</summary>
    public int? ImEndId { get; }

    /// <summary>Id of &lt;|endoftext|&gt;, which ends a document; null where the tokenizer has none.</summary>
    public int? EndOfTextId { get; }

    /// <summary>
    /// Reads the tokenizer of a checkpoint folder: vocab.json and merges.txt, else tokenizer.json, else qwen.tiktoken.
    /// Added tokens come from tokenizer_config.json, tokenizer.json or, for qwen.tiktoken, from the list in Qwen's own code.
    /// </summary>
    /// <param name="folder">The checkpoint folder.</param>
    /// <exception cref="TokenizerException">Files are missing, damaged or not Qwen's, or the process runs in globalization-invariant mode.</exception>
    public static QwenTokenizer Load(string folder)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        UnicodeText.RequireNormalization();
        return new QwenTokenizer(TokenizerFiles.Read(folder));
    }

    /// <summary>
    /// Encodes plain text. Control tokens spelled in it are text: what a user types can never end a message or begin one.
    /// Unpaired surrogates become U+FFFD; text is normalized to NFC.
    /// </summary>
    /// <param name="text">Any text.</param>
    /// <returns>Ids, [tokens]; empty for an empty text.</returns>
    public int[] Encode(string text) => Encode(text, Recognition.None);

    /// <summary>Encodes many texts on several threads, each as <see cref="Encode(string)"/> does.</summary>
    /// <param name="texts">Any texts.</param>
    /// <param name="threads">How many threads; 0 takes all cores.</param>
    /// <returns>The ids of every text in the order of the texts.</returns>
    public int[][] EncodeMany(IReadOnlyList<string> texts, int threads = 0) => EncodeMany(texts, Recognition.None, threads);

    /// <summary>The text of tokens. Invalid UTF-8 becomes U+FFFD, as in Hugging Face tokenizers; ids that the tokenizer does not have are left out.</summary>
    /// <param name="ids">Ids, [tokens].</param>
    /// <param name="skipSpecialTokens">Whether control tokens are left out; &lt;think&gt; and its like stay.</param>
    public string Decode(ReadOnlySpan<int> ids, bool skipSpecialTokens)
    {
        ArrayBufferWriter<byte> bytes = new(Math.Max(16, ids.Length * 4));
        foreach (int id in ids)
        {
            bytes.Write(Bytes(id, skipSpecialTokens));
        }

        return Encoding.UTF8.GetString(bytes.WrittenSpan);
    }

    /// <summary>A decoder that takes ids one by one and gives out text as soon as whole characters are known.</summary>
    /// <param name="skipSpecialTokens">Whether control tokens are left out.</param>
    internal StreamingDecoder CreateStreamingDecoder(bool skipSpecialTokens = false) => new(this, skipSpecialTokens);

    /// <summary>The id of one token.</summary>
    /// <param name="token">An added token as it is written (&lt;|im_end|&gt;), or a token of the vocabulary in vocab.json's spelling (Ġhello).</param>
    /// <param name="id">Its id.</param>
    /// <returns>Whether the tokenizer has it.</returns>
    public bool TryGetId(string token, out int id)
    {
        ArgumentNullException.ThrowIfNull(token);
        if (_added.TryGetId(token, out id))
        {
            return true;
        }

        byte[] bytes = new byte[token.Length];
        return token.Length > 0 && ByteAlphabet.TryGetBytes(token, bytes) && _tokens.TryGetId(bytes, out id);
    }

    /// <summary>The bytes that an id stands for; none for an id that the tokenizer does not have.</summary>
    internal ReadOnlySpan<byte> Bytes(int id, bool skipSpecialTokens) =>
        !_added.TryGet(id, out AddedToken token, out byte[] utf8) ? _tokens[id] : skipSpecialTokens && token.Special ? [] : utf8;

    /// <summary>Finds the first added token in a text, whatever it is; null where the text has none.</summary>
    internal AddedToken? NextAddedToken(ReadOnlySpan<char> text, out int start) => _added.Everything.Next(text, out start);

    /// <summary>Encodes text with a choice of the added tokens that are recognized in it.</summary>
    internal int[] Encode(string text, Recognition recognition)
    {
        ArgumentNullException.ThrowIfNull(text);
        if (text.Length == 0)
        {
            return [];
        }

        IdBuffer output = new(text.Length);
        Encode(text, recognition, ref output);
        int[] ids = output.ToArray();
        output.Dispose();
        return ids;
    }

    /// <summary>Encodes many texts on several threads with a choice of the added tokens that are recognized in them.</summary>
    internal int[][] EncodeMany(IReadOnlyList<string> texts, Recognition recognition, int threads)
    {
        ArgumentNullException.ThrowIfNull(texts);
        ArgumentOutOfRangeException.ThrowIfNegative(threads);
        for (int i = 0; i < texts.Count; i++)
        {
            _ = texts[i] ?? throw new ArgumentException($"The text at index {i} is null.", nameof(texts));
        }

        int[][] ids = new int[texts.Count][];
        ParallelOptions parallel = new() { MaxDegreeOfParallelism = threads == 0 ? Environment.ProcessorCount : threads };
        Parallel.For(0, ids.Length, parallel, i => ids[i] = Encode(texts[i], recognition));
        return ids;
    }

    /// <summary>Appends the ids of a text.</summary>
    internal void Encode(string text, Recognition recognition, ref IdBuffer output) => Encode(text, new Pass(recognition), ref output);

    private void Encode(string text, in Pass pass, ref IdBuffer output)
    {
        text = UnicodeText.ReplaceUnpairedSurrogates(text, out _);
        bool normalize = _normalize && pass.Normalize;
        if (normalize && _normalizeFirst)
        {
            text = UnicodeText.ToFormC(text);
        }

        bool normalizePieces = normalize && !_normalizeFirst;
        (AddedTokens.Matcher raw, AddedTokens.Matcher normalized) =
            pass.Recognition == Recognition.All ? (_added.Raw, _added.AfterNormalization) : (_added.RawText, _added.TextAfterNormalization);
        if (pass.Recognition == Recognition.None || (raw.IsEmpty && normalized.IsEmpty))
        {
            EncodeWords(normalizePieces ? UnicodeText.ToFormC(text) : text, pass, ref output);
            return;
        }
        // As in Hugging Face tokenizers: first the tokens that stand in the text as given, then, in the normalized pieces between them, the others.
        ReadOnlySpan<char> rest = text;
        while (!rest.IsEmpty)
        {
            AddedToken? token = raw.Next(rest, out int start);
            ReadOnlySpan<char> before = token is null ? rest : rest[..start];
            if (!before.IsEmpty)
            {
                EncodePiece(normalizePieces ? UnicodeText.ToFormC(before.ToString()) : before, normalized, pass, ref output);
            }

            if (token is null)
            {
                return;
            }

            Add(token, pass, ref output);
            rest = rest[(start + token.Content.Length)..];
        }
    }

    private void EncodePiece(ReadOnlySpan<char> rest, AddedTokens.Matcher normalized, in Pass pass, ref IdBuffer output)
    {
        while (normalized.Next(rest, out int start) is { } token)
        {
            EncodeWords(rest[..start], pass, ref output);
            Add(token, pass, ref output);
            rest = rest[(start + token.Content.Length)..];
        }
        EncodeWords(rest, pass, ref output);
    }

    private static void Add(AddedToken token, in Pass pass, ref IdBuffer output)
    {
        pass.Text?.Append(token.Content);
        if (output.Count < pass.Enough)
        {
            output.Add(token.Id);
        }
    }

    private void EncodeWords(ReadOnlySpan<char> text, in Pass pass, ref IdBuffer output)
    {
        const int StackBytes = 768;
        Span<byte> stack = stackalloc byte[StackBytes];
        pass.Text?.Append(text);
        for (int start = 0; start < text.Length && output.Count < pass.Enough;)
        {
            int end = pass.Split ? _preTokenizer.WordEnd(text, start) : text.Length;
            ReadOnlySpan<char> word = text[start..end];
            start = end;
            if (word.Length * 3 <= StackBytes)
            {
                _bpe.Encode(stack[..Encoding.UTF8.GetBytes(word, stack)], ref output);
                continue;
            }
            byte[] rented = ArrayPool<byte>.Shared.Rent(Encoding.UTF8.GetByteCount(word));
            _bpe.Encode(rented.AsSpan(0, Encoding.UTF8.GetBytes(word, rented)), ref output);
            ArrayPool<byte>.Shared.Return(rented);
        }
    }

    /// <summary>How one text is encoded.</summary>
    /// <param name="Recognition">The added tokens that are recognized in it.</param>
    /// <param name="Normalize">Whether it is normalized to NFC, where the tokenizer does so.</param>
    /// <param name="Split">Whether it is split into words, which no merge crosses.</param>
    /// <param name="Enough">No word is begun once there are so many ids.</param>
    /// <param name="Text">Receives the text that the ids stand for: repaired, and normalized where asked.</param>
    private readonly record struct Pass(
        Recognition Recognition, bool Normalize = true, bool Split = true, int Enough = int.MaxValue, StringBuilder? Text = null);
}
