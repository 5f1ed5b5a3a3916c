using System.Text;

namespace MLNetLora.Text;

/// <summary>A training row as people read it: its text, with what is learned in green or between ❮ and ❯.</summary>
internal static class RowDisplay
{
    /// <summary>Longer rows are cut off.</summary>
    private const int CharacterLimit = 4000;

    /// <summary>The text of a row.</summary>
    public static string Show(QwenTokenizer tokenizer, TrainingRow row, bool green)
    {
        (string open, string close) = green ? ("\e[32m", "\e[0m") : ("❮", "❯");
        StringBuilder text = new();
        for (int start = 0, end; start < row.InputIds.Length && text.Length < CharacterLimit; start = end)
        {
            bool learned = row.Labels[start] != TrainingRow.Ignore;
            end = start + 1;
            while (end < row.InputIds.Length && (row.Labels[end] != TrainingRow.Ignore) == learned)
            {
                end++;
            }

            string part = tokenizer.Decode(row.InputIds.AsSpan(start, end - start), skipSpecialTokens: false);
            text.Append(learned ? open : "").Append(part).Append(learned ? close : "");
        }

        return text.Length <= CharacterLimit ? text.ToString() : text.ToString(0, CharacterLimit) + "…" + (green ? close : "");
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
