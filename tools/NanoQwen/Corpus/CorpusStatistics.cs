using System.Globalization;
using System.Text;
using MLNetLora.Text;
using MLNetLora.Tools.NanoQwen.Tokenization;

namespace MLNetLora.Tools.NanoQwen.Corpus;

/// <summary>Counts of a set of rows, by source and language.</summary>
internal sealed class CorpusStatistics
{
    private readonly SortedDictionary<string, (int Rows, long Tokens)> _sources = new(StringComparer.Ordinal);
    private readonly Dictionary<Language, (int Rows, long Tokens, long TextBytes, long TextTokens)> _languages = [];

    public CorpusStatistics(IEnumerable<CorpusRow> rows, ITextCodec codec)
    {
        foreach (CorpusRow row in rows)
        {
            TrainingRow encoded = RowEncoder.Encode(row, codec, labelPrompt: true);
            int tokens = encoded.InputIds.Length;
            (int Rows, long Tokens) source = _sources.GetValueOrDefault(row.Source);
            _sources[row.Source] = (source.Rows + 1, source.Tokens + tokens);
            (int Rows, long Tokens, long TextBytes, long TextTokens) language = _languages.GetValueOrDefault(row.Language);
            _languages[row.Language] = (
                language.Rows + 1,
                language.Tokens + tokens,
                language.TextBytes + Encoding.UTF8.GetByteCount(row.Answer),
                language.TextTokens + codec.Encode(row.Answer).Count);
            Longest = Math.Max(Longest, tokens);
        }
    }

    public int Rows => _languages.Values.Sum(language => language.Rows);

    public long Tokens => _languages.Values.Sum(language => language.Tokens);

    public int Longest { get; }

    /// <summary>Share of all tokens that belongs to rows of the language, 0 to 1.</summary>
    public double Share(Language language) => Tokens == 0 ? 0 : (double)_languages.GetValueOrDefault(language).Tokens / Tokens;

    /// <summary>UTF-8 bytes of the answers per token, in rows of the language.</summary>
    public double BytesPerToken(Language language) =>
        _languages.GetValueOrDefault(language) is { TextTokens: > 0 } counts ? (double)counts.TextBytes / counts.TextTokens : 0;

    public override string ToString()
    {
        StringBuilder text = new();
        text.Append(CultureInfo.InvariantCulture, $"rows {Rows:N0}, tokens {Tokens:N0}, longest row {Longest}\n");
        foreach (Language language in Enum.GetValues<Language>())
        {
            text.Append(CultureInfo.InvariantCulture, $"  {language,-28} {_languages.GetValueOrDefault(language).Rows,7:N0} rows {Share(language),7:P1} of the "
                + $"tokens, {BytesPerToken(language):F2} bytes/token\n");
        }

        foreach ((string source, (int rows, long tokens)) in _sources)
        {
            text.Append(CultureInfo.InvariantCulture, $"  {source,-28} {rows,7:N0} rows {tokens,10:N0} tokens\n");
        }

        return text.ToString();
    }
}
