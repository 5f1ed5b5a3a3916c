using System.Globalization;
using System.Numerics;
using System.Text;

namespace MLNetLora.Text;

/// <summary>
/// What is to be trained on, looked at before the first step: how much it is, what is cut off, whether the model will learn to stop, and two rows as the model
/// will see them.
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
    private (long Row, int Lost, int Tokens) _worst;

    /// <summary>Number of rows of the data.</summary>
    public long Rows { get; private set; }

    /// <summary>
    /// Number of training rows that they become: a long document, or a conversation of which every answer is learned in a row of its own, becomes several.
    /// </summary>
    public long Sequences { get; private set; }

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

    /// <summary>Tokens that were cut off, of all rows.</summary>
    public long TruncatedTokens { get; private set; }

    /// <summary>How many rows have nothing to learn, or become several of which one has nothing to learn.</summary>
    public long UnlearnedCount { get; private set; }

    /// <summary>The numbers of the first of them.</summary>
    public IReadOnlyList<long> UnlearnedRows => _unlearned;

    /// <summary>In how many rows a token that ends an answer (&lt;|im_end|&gt;) or a document (&lt;|endoftext|&gt;) is learned.</summary>
    public long EndLearnedCount { get; private set; }

    /// <summary>Whether such a token is learned anywhere; without one the model never learns to stop.</summary>
    public bool IsEndLearned => EndLearnedCount > 0;

    /// <summary>How many invalid characters (surrogates without their partner) the rows' texts have; each became U+FFFD.</summary>
    public long ReplacedCharacters { get; private set; }

    /// <summary>How many training rows have a length (after truncation) above half of the key and up to it; keys are powers of two.</summary>
    public IReadOnlyDictionary<int, long> LengthHistogram => _lengths;

    /// <summary>
    /// The first training rows as the model sees them, what is learned between ❮ and ❯. They are the data itself: not for a log that others read.
    /// </summary>
    public IReadOnlyList<string> Samples => [.. _samples.Select(row => Show(row, "❮", "❯"))];

    /// <summary>Looks at a row that becomes one training row.</summary>
    /// <param name="row">The training row.</param>
    /// <param name="number">The row's number, for messages.</param>
    public void Add(TokenizedRow row, long number) => Add([row], number);

    /// <summary>Looks at a row of the data and all training rows that it becomes.</summary>
    /// <param name="parts">The training rows.</param>
    /// <param name="number">The row's number, for messages.</param>
    public void Add(IReadOnlyList<TokenizedRow> parts, long number)
    {
        ArgumentNullException.ThrowIfNull(parts);
        Rows++;
        int lost = parts.Sum(part => part.Report.Tokens - part.Report.KeptTokens);
        if (lost > 0)
        {
            Note(_truncated, number, ++TruncatedCount);
            TruncatedTokens += lost;
            _worst = lost > _worst.Lost ? (number, lost, parts.Sum(part => part.Report.Tokens)) : _worst;
        }

        if (parts.Count == 0 || parts.Any(part => part.Row.LabelTokens == 0))
        {
            Note(_unlearned, number, ++UnlearnedCount);
        }

        if (parts.Any(TeachesEnd))
        {
            EndLearnedCount++;
        }

        foreach (TokenizedRow part in parts)
        {
            Count(part);
        }
    }

    /// <summary>Looks at rows, each of which becomes one training row, and gives them on, so that they can be looked at on their way.</summary>
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

    /// <summary>Adds a warning about something else than the rows' lengths, such as the checkpoint.</summary>
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
        {
            throw new DatasetException("There are no rows to train on.");
        }

        if (LabelTokens == 0)
        {
            string cause = TruncatedCount > 0
                ? $": {TruncatedCount} were cut off before their answer begins. Raise the maximum length."
                : ". Look at the data set's answers.";
            throw new DatasetException($"None of the {Rows} rows has a token to learn{cause}");
        }
    }

    /// <summary>What is lost of the data, or will not be learned, and should be looked at before training; none where all is well.</summary>
    /// <param name="what">What messages call the rows: "training" or "validation"; empty (default) for just rows.</param>
    public IReadOnlyList<string> Warnings(string what = "")
    {
        string rows = what.Length == 0 ? "rows" : $"{what} rows";
        List<string> warnings = [];
        if (TruncatedCount > 0)
        {
            warnings.Add(
                $"{TruncatedCount} of {Rows} {rows} were cut off at the maximum length (option MaximumSequenceLength) and lose their end, {TruncatedTokens} "
                    + $"tokens together: "
                + $"{Numbers(_truncated, TruncatedCount)}. The longest has {LongestRow} tokens; row {_worst.Row} loses most, {_worst.Lost} of its "
                + $"{_worst.Tokens} tokens.");
        }

        if (UnlearnedCount > 0)
        {
            warnings.Add(
                $"{UnlearnedCount} of {Rows} {rows} are left out, all or a part of them, because nothing is left of them to learn: "
                    + $"{Numbers(_unlearned, UnlearnedCount)}.");
        }

        if (Rows > 0 && !IsEndLearned)
        {
            warnings.Add(
                $"None of the {rows} teaches the token that ends an answer; the model would not learn to stop. Raise the maximum length, or look at the rows.");
        }

        if (ReplacedCharacters > 0)
        {
            warnings.Add(
                $"{ReplacedCharacters} invalid characters (surrogates without their partner) were replaced with U+FFFD. "
                + "They come from text that was cut in the middle of a character.");
        }

        return [.. warnings, .. _further];
    }

    /// <summary>Writes all of it, also the first rows.</summary>
    /// <param name="writer">Where to.</param>
    /// <param name="color">
    /// Whether what is learned is shown in green rather than between ❮ and ❯. Null (default): in green where the writer is the console, its output goes to a
    /// terminal,
    /// NO_COLOR is not set and TERM is not dumb.
    /// </param>
    public void Write(TextWriter writer, bool? color = null)
    {
        ArgumentNullException.ThrowIfNull(writer);
        WriteStatistics(writer);
        foreach (string warning in Warnings())
        {
            writer.WriteLine($"warning: {warning}");
        }

        WriteSamples(writer, color ?? TerminalColor.Supports(writer));
    }

    /// <summary>The statistics and warnings, without the rows themselves: they may be private, and texts of this kind go into logs.</summary>
    public override string ToString()
    {
        using StringWriter writer = new(CultureInfo.InvariantCulture);
        WriteStatistics(writer);
        foreach (string warning in Warnings())
        {
            writer.WriteLine($"warning: {warning}");
        }

        return writer.ToString();
    }

    /// <summary>How many rows and tokens, and how long they are.</summary>
    internal void WriteStatistics(TextWriter writer)
    {
        double share = Tokens == 0 ? 0 : 100.0 * LabelTokens / Tokens;
        string sequences = Sequences == Rows ? "" : $" as {Sequences} training rows";
        writer.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{Rows} rows{sequences}, {Tokens} tokens, {LabelTokens} of them learned ({share:0.0}%)"));
        long most = _lengths.Count == 0 ? 1 : _lengths.Values.Max();
        foreach ((int length, long count) in _lengths)
        {
            string bar = new('#', (int)(((count * 40) + most - 1) / most));
            writer.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{(length / 2) + 1,8} to {length,-8}{count,10}  {bar}"));
        }

        writer.WriteLine($"the end of the answer (<|im_end|>, <|endoftext|>) is learned in {EndLearnedCount} of {Rows} rows");
    }

    /// <summary>The first rows, what is learned in green or between ❮ and ❯.</summary>
    internal void WriteSamples(TextWriter writer, bool green)
    {
        (string open, string close) = green ? ("\e[32m", "\e[0m") : ("❮", "❯");
        for (int i = 0; i < _samples.Count; i++)
        {
            writer.WriteLine($"--- row {i + 1}, learned: {(green ? "green" : "between ❮ and ❯")}");
            writer.WriteLine(Show(_samples[i], open, close));
        }
    }

    /// <summary>"row 3", or "rows 1, 2, …".</summary>
    internal static string Numbers(IReadOnlyList<long> numbers, long count) =>
        (count == 1 ? "row " : "rows ") + string.Join(", ", numbers.Take(20)) + (count > 20 ? ", …" : "");

    private static void Note(List<long> numbers, long number, long count)
    {
        if (count <= NumbersKept)
        {
            numbers.Add(number);
        }
    }

    private void Count(TokenizedRow part)
    {
        int length = part.Row.InputIds.Length;
        Sequences++;
        Tokens += length;
        LabelTokens += part.Row.LabelTokens;
        LongestRow = Math.Max(LongestRow, part.Report.Tokens);
        ReplacedCharacters += part.Report.ReplacedCharacters;
        int bin = (int)BitOperations.RoundUpToPowerOf2((uint)Math.Max(1, length));
        _lengths[bin] = _lengths.GetValueOrDefault(bin) + 1;
        if (_samples.Count < samples)
        {
            _samples.Add(part.Row);
        }
    }

    private bool TeachesEnd(TokenizedRow part)
    {
        ReadOnlySpan<int> predicted = part.Row.Labels.AsSpan(Math.Min(1, part.Row.Labels.Length));
        return (_tokenizer.ImEndId is { } end && predicted.Contains(end)) || (_tokenizer.EndOfTextId is { } endOfText && predicted.Contains(endOfText));
    }

    private string Show(TrainingRow row, string open, string close)
    {
        StringBuilder text = new();
        for (int start = 0, end; start < row.InputIds.Length && text.Length < SampleCharacters; start = end)
        {
            bool learned = row.Labels[start] != TrainingRow.Ignore;
            end = start + 1;
            while (end < row.InputIds.Length && (row.Labels[end] != TrainingRow.Ignore) == learned)
            {
                end++;
            }

            string part = _tokenizer.Decode(row.InputIds.AsSpan(start, end - start));
            text.Append(learned ? open : "").Append(part).Append(learned ? close : "");
        }

        return text.Length <= SampleCharacters ? text.ToString() : text.ToString(0, SampleCharacters) + "…" + (close.Length > 1 ? close : "");
    }
}

/// <summary>Whether colours may be written: into a terminal that knows them, and whose user has not refused them (no-color.org).</summary>
internal static class TerminalColor
{
    /// <summary>Whether a writer is the terminal, and takes colours.</summary>
    public static bool Supports(TextWriter writer) =>
        (ReferenceEquals(writer, Console.Out) && Supports(Console.IsOutputRedirected, Environment.GetEnvironmentVariable))
        || (ReferenceEquals(writer, Console.Error) && Supports(Console.IsErrorRedirected, Environment.GetEnvironmentVariable));

    /// <summary>The same for given circumstances: NO_COLOR with any value but an empty one refuses, TERM=dumb cannot.</summary>
    public static bool Supports(bool redirected, Func<string, string?> environment) =>
        !redirected && string.IsNullOrEmpty(environment("NO_COLOR")) && environment("TERM") != "dumb";
}
