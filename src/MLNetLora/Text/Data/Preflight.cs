using System.Globalization;
using System.Text;

namespace MLNetLora.Text;

/// <summary>
/// What is to be trained on, looked at before the first step: how much it is, what is cut off, whether the model will learn to stop, and two rows as the model will see them.
/// Rows are added one by one, so that a data set of any length can be looked at while it is tokenised.
/// </summary>
/// <param name="tokenizer">The checkpoint's tokenizer.</param>
/// <param name="samples">How many of the first rows are shown.</param>
public sealed class Preflight(QwenTokenizer tokenizer, int samples = 2)
{
    /// <summary>At most so many row numbers are kept of each kind.</summary>
    private const int NumbersKept = 1000;

    private const int SampleCharacters = 4000;

    private readonly QwenTokenizer _tokenizer = tokenizer ?? throw new ArgumentNullException(nameof(tokenizer));
    private readonly List<TrainingRow> _samples = [];
    private readonly List<long> _truncated = [];
    private readonly List<long> _unlearned = [];
    private readonly SortedDictionary<int, long> _lengths = [];
    private readonly List<string> _further = [];

    /// <summary>Number of rows.</summary>
    public long Rows { get; private set; }

    /// <summary>Tokens of all rows, after truncation.</summary>
    public long Tokens { get; private set; }

    /// <summary>Tokens of all rows that count in the loss.</summary>
    public long LabelTokens { get; private set; }

    /// <summary>Length of the longest row before truncation.</summary>
    public int LongestRow { get; private set; }

    /// <summary>How many rows were cut off at the maximum length.</summary>
    public long TruncatedCount { get; private set; }

    /// <summary>The numbers of the first of them.</summary>
    public IReadOnlyList<long> TruncatedRows => _truncated;

    /// <summary>How many rows have nothing to learn.</summary>
    public long UnlearnedCount { get; private set; }

    /// <summary>The numbers of the first of them.</summary>
    public IReadOnlyList<long> UnlearnedRows => _unlearned;

    /// <summary>In how many rows a token that ends an answer (&lt;|im_end|&gt;) or a document (&lt;|endoftext|&gt;) is learned.</summary>
    public long EndLearnedCount { get; private set; }

    /// <summary>Whether such a token is learned anywhere; without one the model never learns to stop.</summary>
    public bool IsEndLearned => EndLearnedCount > 0;

    /// <summary>How many invalid characters (surrogates without their partner) the rows' texts have; each became U+FFFD.</summary>
    public long ReplacedCharacters { get; private set; }

    /// <summary>How many rows have a length (after truncation) above half of the key and up to it; keys are powers of two.</summary>
    public IReadOnlyDictionary<int, long> LengthHistogram => _lengths;

    /// <summary>The first rows as the model sees them, what is learned between ❮ and ❯.</summary>
    public IReadOnlyList<string> Samples => [.. _samples.Select(row => Show(row, "❮", "❯"))];

    /// <summary>Looks at a row.</summary>
    /// <param name="row">The row.</param>
    /// <param name="number">Its number, for messages.</param>
    public void Add(TokenizedRow row, long number)
    {
        Rows++;
        Tokens += row.Row.InputIds.Length;
        int labels = row.Row.LabelTokens;
        LabelTokens += labels;
        LongestRow = Math.Max(LongestRow, row.Report.Tokens);
        if (row.Report.IsTruncated && ++TruncatedCount <= NumbersKept)
            _truncated.Add(number);
        if (labels == 0 && ++UnlearnedCount <= NumbersKept)
            _unlearned.Add(number);
        ReplacedCharacters += row.Report.ReplacedCharacters;
        ReadOnlySpan<int> predicted = row.Row.Labels.AsSpan(Math.Min(1, row.Row.Labels.Length));
        if (Learned(predicted, _tokenizer.ImEndId) || Learned(predicted, _tokenizer.EndOfTextId))
            EndLearnedCount++;
        int bin = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Math.Max(1, row.Row.InputIds.Length));
        _lengths[bin] = _lengths.GetValueOrDefault(bin) + 1;
        if (_samples.Count < samples)
            _samples.Add(row.Row);

        static bool Learned(ReadOnlySpan<int> labels, int? id) => id is { } token && labels.Contains(token);
    }

    /// <summary>Looks at a row and gives it on, so that rows can be looked at on their way.</summary>
    /// <param name="rows">The rows, in order.</param>
    public IEnumerable<TrainingRow> Watch(IEnumerable<TokenizedRow> rows)
    {
        ArgumentNullException.ThrowIfNull(rows);
        return rows.Select(row =>
        {
            Add(row, Rows + 1);
            return row.Row;
        });
    }

    /// <summary>Adds a warning about something else than the rows, such as the checkpoint.</summary>
    /// <param name="warning">One sentence or more.</param>
    public void Warn(string warning)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(warning);
        _further.Add(warning);
    }

    /// <summary>Fails where nothing could be learned.</summary>
    /// <exception cref="DatasetException">There are no rows, or none has a token to learn.</exception>
    public void Check()
    {
        if (Rows == 0)
            throw new DatasetException("There are no rows to train on.");
        if (LabelTokens == 0)
            throw new DatasetException($"None of the {Rows} rows has a token to learn{(TruncatedCount > 0 ? $": {TruncatedCount} were cut off before their answer begins. Raise the maximum length." : ". Look at the data set's answers.")}");
    }

    /// <summary>What should be looked at before training; none where all is well.</summary>
    public IReadOnlyList<string> Warnings()
    {
        List<string> warnings = [];
        if (TruncatedCount > 0)
            warnings.Add($"{TruncatedCount} of {Rows} rows were cut off at the maximum length; the longest has {LongestRow} tokens: {Numbers(_truncated, TruncatedCount)}.");
        if (UnlearnedCount > 0)
            warnings.Add($"{UnlearnedCount} of {Rows} rows have nothing to learn: {Numbers(_unlearned, UnlearnedCount)}.");
        if (Rows > 0 && !IsEndLearned)
            warnings.Add("No row teaches the token that ends an answer; the model would not learn to stop. Raise the maximum length, or look at the rows below.");
        if (ReplacedCharacters > 0)
            warnings.Add(string.Create(CultureInfo.InvariantCulture, $"{ReplacedCharacters} invalid characters (surrogates without their partner) were replaced with U+FFFD. They come from text that was cut in the middle of a character."));
        return [.. warnings, .. _further];
    }

    /// <summary>Writes all of it.</summary>
    /// <param name="writer">Where to.</param>
    /// <param name="color">
    /// Whether what is learned is shown in green rather than between ❮ and ❯. Null (default): in green where the writer is the console, its output goes to a terminal, NO_COLOR is not set and TERM is not dumb.
    /// </param>
    public void Write(TextWriter writer, bool? color = null)
    {
        ArgumentNullException.ThrowIfNull(writer);
        bool green = color ?? TerminalColor.Supports(writer);
        writer.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{Rows} rows, {Tokens} tokens, {LabelTokens} of them learned ({(Tokens == 0 ? 0 : 100.0 * LabelTokens / Tokens):0.0}%)"));
        long most = _lengths.Count == 0 ? 1 : _lengths.Values.Max();
        foreach ((int length, long count) in _lengths)
            writer.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{(length / 2) + 1,8} to {length,-8}{count,10}  {new string('#', (int)(((count * 40) + most - 1) / most))}"));
        writer.WriteLine(string.Create(CultureInfo.InvariantCulture, $"the end of the answer (<|im_end|>, <|endoftext|>) is learned in {EndLearnedCount} of {Rows} rows"));
        foreach (string warning in Warnings())
            writer.WriteLine($"warning: {warning}");
        for (int i = 0; i < _samples.Count; i++)
        {
            writer.WriteLine(string.Create(CultureInfo.InvariantCulture, $"--- row {i + 1}, learned: {(green ? "green" : "between ❮ and ❯")}"));
            writer.WriteLine(green ? Show(_samples[i], "\e[32m", "\e[0m") : Show(_samples[i], "❮", "❯"));
        }
    }

    /// <inheritdoc/>
    public override string ToString()
    {
        using StringWriter writer = new(CultureInfo.InvariantCulture);
        Write(writer);
        return writer.ToString();
    }

    private string Show(TrainingRow row, string open, string close)
    {
        StringBuilder text = new();
        for (int start = 0, end; start < row.InputIds.Length && text.Length < SampleCharacters; start = end)
        {
            bool learned = row.Labels[start] != TrainingRow.Ignore;
            for (end = start + 1; end < row.InputIds.Length && (row.Labels[end] != TrainingRow.Ignore) == learned; end++)
            {
            }
            string part = _tokenizer.Decode(row.InputIds.AsSpan(start, end - start));
            text.Append(learned ? open : "").Append(part).Append(learned ? close : "");
        }
        return text.Length <= SampleCharacters ? text.ToString() : text.ToString(0, SampleCharacters) + "…" + (close.Length > 1 ? close : "");
    }

    /// <summary>"row 3", or "rows 1, 2, …".</summary>
    internal static string Numbers(IReadOnlyList<long> numbers, long count) =>
        (count == 1 ? "row " : "rows ") + string.Join(", ", numbers.Take(20)) + (count > 20 ? ", …" : "");
}
