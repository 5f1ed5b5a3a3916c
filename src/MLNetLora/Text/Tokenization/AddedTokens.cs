using System.Buffers;
using System.Text;

namespace MLNetLora.Text;

/// <summary>A token that is recognized as a whole instead of being merged from bytes.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Content">Its text, such as &lt;|im_start|&gt;.</param>
/// <param name="Special">Whether it is a control token that decoding may skip; &lt;think&gt; and &lt;tool_call&gt; are not.</param>
/// <param name="Normalized">Whether it is looked for in the normalized text rather than in the text as given.</param>
internal sealed record AddedToken(int Id, string Content, bool Special, bool Normalized = false);

/// <summary>The added tokens of a tokenizer: finds them in text (leftmost, then longest) and by id.</summary>
internal sealed class AddedTokens
{
    private readonly Dictionary<string, AddedToken> _byContent = new(StringComparer.Ordinal);
    private readonly Dictionary<int, (AddedToken Token, byte[] Utf8)> _byId = [];

    /// <summary>Indexes the tokens.</summary>
    /// <param name="tokens">Contents not empty; a later token with the same content replaces an earlier one.</param>
    public AddedTokens(IEnumerable<AddedToken> tokens)
    {
        foreach (AddedToken token in tokens)
        {
            _byContent[token.Content] = token;
        }

        foreach (AddedToken token in _byContent.Values)
        {
            _byId[token.Id] = (token, Encoding.UTF8.GetBytes(token.Content));
        }

        All = [.. _byContent.Values.OrderBy(token => token.Id)];
        Raw = new Matcher(All.Where(token => !token.Normalized));
        AfterNormalization = new Matcher(All.Where(token => token.Normalized));
        Everything = new Matcher(All);
        RawText = new Matcher(All.Where(token => !token.Normalized && !token.Special));
        TextAfterNormalization = new Matcher(All.Where(token => token.Normalized && !token.Special));
    }

    /// <summary>Every added token, by id.</summary>
    public IReadOnlyList<AddedToken> All { get; }

    /// <summary>Those looked for in the text as given.</summary>
    public Matcher Raw { get; }

    /// <summary>Those looked for in the normalized text.</summary>
    public Matcher AfterNormalization { get; }

    /// <summary>All of them.</summary>
    public Matcher Everything { get; }

    /// <summary>Those of <see cref="Raw"/> that are not control tokens.</summary>
    public Matcher RawText { get; }

    /// <summary>Those of <see cref="AfterNormalization"/> that are not control tokens.</summary>
    public Matcher TextAfterNormalization { get; }

    /// <summary>The id of a token's content.</summary>
    public bool TryGetId(string content, out int id)
    {
        bool found = _byContent.TryGetValue(content, out AddedToken? token);
        id = token?.Id ?? 0;
        return found;
    }

    /// <summary>The token with an id, and its text as UTF-8.</summary>
    public bool TryGet(int id, out AddedToken token, out byte[] utf8)
    {
        bool found = _byId.TryGetValue(id, out (AddedToken Token, byte[] Utf8) entry);
        (token, utf8) = entry;
        return found;
    }

    /// <summary>Finds some of the added tokens in text.</summary>
    internal sealed class Matcher
    {
        private readonly SearchValues<string> _contents;
        private readonly Dictionary<char, AddedToken[]> _byFirst;

        /// <summary>Indexes the tokens.</summary>
        public Matcher(IEnumerable<AddedToken> tokens)
        {
            AddedToken[] all = [.. tokens];
            IsEmpty = all.Length == 0;
            _contents = SearchValues.Create([.. all.Select(token => token.Content)], StringComparison.Ordinal);
            _byFirst = all.GroupBy(token => token.Content[0]).ToDictionary(group => group.Key,
                group => group.OrderByDescending(token => token.Content.Length).ToArray());
        }

        /// <summary>Whether there is nothing to find.</summary>
        public bool IsEmpty { get; }

        /// <summary>The first token in a text, the longest of those that begin there.</summary>
        /// <param name="text">Where to look.</param>
        /// <param name="start">Index of its first character.</param>
        /// <returns>Null where the text has none.</returns>
        public AddedToken? Next(ReadOnlySpan<char> text, out int start)
        {
            start = IsEmpty ? -1 : text.IndexOfAny(_contents);
            if (start < 0)
            {
                return null;
            }

            foreach (AddedToken token in _byFirst[text[start]])
            {
                if (text[start..].StartsWith(token.Content, StringComparison.Ordinal))
                {
                    return token;
                }
            }
            throw new InvalidOperationException("The search and the comparison of added tokens disagree.");
        }
    }
}
