using System.Numerics;

namespace MLNetLora.Text;

/// <summary>
/// What is to be trained on, looked at before the first step: how much it is, what is cut off, whether the model will learn to stop, and two rows as the model
/// will see them. Rows are added one by one, so that a data set of any length can be looked at while it is tokenized.
/// </summary>
/// <param name="tokenizer">The checkpoint's tokenizer.</param>
/// <param name="samples">How many of the first rows are shown.</param>
/// <param name="context">
/// Positions that the model knows (max_position_embeddings of config.json); null (default) where rows need not be compared with them.
/// </param>
public sealed class Preflight(QwenTokenizer tokenizer, int samples = 2, int? context = null)
{
    private const int BarLength = 40;

    private readonly QwenTokenizer _tokenizer = tokenizer ?? throw new ArgumentNullException(nameof(tokenizer));
    private readonly List<TrainingRow> _samples = [];
    private readonly RowNumbers _truncated = new();
    private readonly RowNumbers _unlearned = new();
    private readonly RowNumbers _beyondContext = new();
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
    public long TruncatedCount => _truncated.Count;

    /// <summary>The numbers of the first of them.</summary>
    public IReadOnlyList<long> TruncatedRows => _truncated.First;

    /// <summary>Tokens that were cut off, of all rows.</summary>
    public long TruncatedTokens { get; private set; }

    /// <summary>How many rows have nothing to learn, or become several of which one has nothing to learn.</summary>
    public long UnlearnedCount => _unlearned.Count;

    /// <summary>The numbers of the first of them.</summary>
    public IReadOnlyList<long> UnlearnedRows => _unlearned.First;

    /// <summary>How many rows are longer than the model's context, after truncation.</summary>
    public long BeyondContextCount => _beyondContext.Count;

    /// <summary>The numbers of the first of them.</summary>
    public IReadOnlyList<long> BeyondContextRows => _beyondContext.First;

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
    public IReadOnlyList<string> Samples => [.. _samples.Select(row => RowDisplay.Show(_tokenizer, row, green: false))];

    /// <summary>Looks at a row that becomes one training row.</summary>
    /// <param name="row">The training row.</param>
    /// <param name="number">The row's number, for messages.</param>
    internal void Add(TokenizedRow row, long number) => Add([row], number);

    /// <summary>Looks at a row of the data and all training rows that it becomes.</summary>
    /// <param name="parts">The training rows.</param>
    /// <param name="number">The row's number, for messages.</param>
    internal void Add(IReadOnlyList<TokenizedRow> parts, long number)
    {
        ArgumentNullException.ThrowIfNull(parts);
        Rows++;
        int lost = parts.Sum(part => part.Report.Tokens - part.Report.KeptTokens);
        if (lost > 0)
        {
            _truncated.Add(number);
            TruncatedTokens += lost;
            _worst = lost > _worst.Lost ? (number, lost, parts.Sum(part => part.Report.Tokens)) : _worst;
        }

        if (parts.Count == 0 || parts.Any(part => part.Row.LabelTokens == 0))
        {
            _unlearned.Add(number);
        }

        if (parts.Any(part => part.Row.InputIds.Length > context))
        {
            _beyondContext.Add(number);
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
    internal IEnumerable<TrainingRow> Watch(IEnumerable<TokenizedRow> rows)
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
    /// <param name="what">What messages call the rows: "training" or "validation"; empty (default) for just rows.</param>
    /// <exception cref="DatasetException">There are no rows, or none has a token to learn.</exception>
    public void Check(string what = "")
    {
        if (Rows == 0)
        {
            throw new DatasetException($"There are no {Called(what)}.");
        }

        if (LabelTokens == 0)
        {
            string cause = TruncatedCount > 0
                ? $": {_truncated} were cut off before the answer begins. Raise the maximum length (option MaximumSequenceLength), up to {LongestRow} for the "
                    + "longest row, or shorten the questions."
                : ". Look at the data set's answers.";
            throw new DatasetException($"None of the {Rows} {Called(what)} has a token to learn{cause}");
        }
    }

    /// <summary>What is lost of the data, or will not be learned, and should be looked at before training; none where all is well.</summary>
    /// <param name="what">What messages call the rows: "training" or "validation"; empty (default) for just rows.</param>
    public IReadOnlyList<string> Warnings(string what = "")
    {
        string rows = Called(what);
        List<string> warnings = [];
        if (TruncatedCount > 0)
        {
            warnings.Add(
                $"{TruncatedCount} of {Rows} {rows} were cut off at the maximum length (option MaximumSequenceLength) and lose their end, "
                + $"{TruncatedTokens} tokens together: {_truncated}. "
                + $"The longest has {LongestRow} tokens; row {_worst.Row} loses most, {_worst.Lost} of its {_worst.Tokens} tokens.");
        }

        if (UnlearnedCount > 0)
        {
            warnings.Add(
                $"{UnlearnedCount} of {Rows} {rows} are left out, all or a part of them, because nothing is left of them to learn: {_unlearned}.");
        }

        if (BeyondContextCount > 0)
        {
            warnings.Add(_beyondContext.BeyondContext(Rows, rows, context!.Value));
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
    /// terminal, NO_COLOR is not set and TERM is not dumb.
    /// </param>
    public void Write(TextWriter writer, bool? color = null)
    {
        ArgumentNullException.ThrowIfNull(writer);
        writer.Write(ToString());
        bool green = color ?? TerminalColor.Supports(writer);
        for (int i = 0; i < _samples.Count; i++)
        {
            writer.WriteLine($"--- training row {i + 1}, learned: {(green ? "green" : "between ❮ and ❯")}");
            writer.WriteLine(RowDisplay.Show(_tokenizer, _samples[i], green));
        }
    }

    /// <summary>The statistics and warnings, without the rows themselves: they may be private, and texts of this kind go into logs.</summary>
    public override string ToString() =>
        Statistics + Environment.NewLine + string.Concat(Warnings().Select(warning => $"warning: {warning}{Environment.NewLine}"));

    /// <summary>How many rows and tokens, how long they are, and how many teach the end of an answer.</summary>
    internal string Statistics
    {
        get
        {
            double share = Tokens == 0 ? 0 : 100.0 * LabelTokens / Tokens;
            string sequences = Sequences == Rows ? "" : $" as {Sequences} training rows";
            string longest = TruncatedCount == 0 ? $"{LongestRow} tokens" : $"{LongestRow} tokens, {TruncatedCount} rows are cut off";
            List<string> lines =
            [
                FormattableString.Invariant(
                    $"{Rows} rows{sequences}, {Tokens} tokens, {LabelTokens} of them learned ({share:0.0}%); the longest has {longest}"),
            ];
            long most = _lengths.Count == 0 ? 1 : _lengths.Values.Max();
            foreach ((int length, long count) in _lengths)
            {
                string bar = new('#', (int)(((count * BarLength) + most - 1) / most));
                lines.Add(FormattableString.Invariant($"{(length / 2) + 1,8} to {length,-8}{count,10}  {bar}"));
            }

            lines.Add($"the end of the answer (<|im_end|>, <|endoftext|>) is learned in {EndLearnedCount} of {Rows} rows");
            return string.Join(Environment.NewLine, lines);
        }
    }

    private static string Called(string what) => what.Length == 0 ? "rows" : $"{what} rows";

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
}
