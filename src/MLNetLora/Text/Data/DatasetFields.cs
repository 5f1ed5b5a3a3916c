using System.Text.Json;

namespace MLNetLora.Text;

/// <summary>
/// The names that the fields of rows have. Data sets call the same thing by many names: those that can mean only one thing are taken for it, in any case;
/// where two fields of a row could be the same part of it, nobody guesses.
/// </summary>
internal static class DatasetFields
{
    /// <summary>What is asked.</summary>
    public static readonly string[] Instruction = ["instruction", "question", "query", "problem", "user", "human", "问题", "提问", "问", "指令", "frage"];

    /// <summary>What it is asked about.</summary>
    public static readonly string[] Input = ["input", "context", "输入"];

    /// <summary>The answer to learn.</summary>
    public static readonly string[] Output =
        ["output", "answer", "response", "completion", "reply", "solution", "assistant", "回答", "答案", "答", "输出", "antwort"];

    /// <summary>The row's own system message.</summary>
    public static readonly string[] System = ["system", "system_prompt"];

    /// <summary>Earlier turns.</summary>
    public static readonly string[] History = ["history"];

    /// <summary>What a completion follows.</summary>
    public static readonly string[] Prompt = ["prompt"];

    /// <summary>What follows a prompt.</summary>
    public static readonly string[] Completion = ["completion", "response", "answer", "output"];

    /// <summary>A conversation in OpenAI's form.</summary>
    public static readonly string[] Messages = ["messages"];

    /// <summary>A conversation in ShareGPT's form.</summary>
    public static readonly string[] Conversations = ["conversations", "conversation"];

    /// <summary>A document.</summary>
    public static readonly string[] Text = ["text"];

    /// <summary>All of them, in any case.</summary>
    public static readonly HashSet<string> All = new(
        [.. Instruction, .. Input, .. Output, .. System, .. History, .. Prompt, .. Completion, .. Messages, .. Conversations, .. Text, "tools", "functions"],
        StringComparer.OrdinalIgnoreCase);

    /// <summary>The format of a row by its fields.</summary>
    /// <exception cref="DatasetException">It is none that is known, or two fields could be the same part of the row.</exception>
    public static DatasetFormat Recognize(JsonElement row, string where, bool asks = false)
    {
        if (Has(row, Messages))
        {
            return DatasetFormat.Messages;
        }

        if (Has(row, Conversations))
        {
            return DatasetFormat.ShareGpt;
        }

        // An instruction without its output is one that lacks it, rather than something else.
        if (row.TryGetProperty(Instruction[0], out _))
        {
            Find(row, Output, where);
            return DatasetFormat.Instruction;
        }

        if (Has(row, Prompt) && Has(row, Completion))
        {
            Find(row, Completion, where);
            return DatasetFormat.PromptCompletion;
        }

        if (Has(row, Output) && (Has(row, Instruction) || Has(row, Input)))
        {
            Find(row, Instruction, where);
            Find(row, Output, where);
            return DatasetFormat.Instruction;
        }

        if (asks && (Has(row, Instruction) || Has(row, Prompt)))
        {
            return Has(row, Instruction) ? DatasetFormat.Instruction : DatasetFormat.PromptCompletion;
        }

        if (Has(row, Text))
        {
            return DatasetFormat.Text;
        }

        throw new DatasetException(
            $"{where}: the format is not recognized{JsonFields.Hint(row)}.{Wrapped(row)} Known are instruction and output, question and answer, "
            + "query and response; messages; conversations; prompt and completion; text. Rename the fields, or name the format; or load the rows as a view of "
            + "your own, a table with ml.Data.LoadFromTextFile, and set the trainer's options InstructionColumnName and OutputColumnName to its columns.");
    }

    /// <summary>
    /// The field that is one part of a row: the one with the part's own name, which stands first, or the only one with another name for it; null where there is
    /// none.
    /// </summary>
    /// <exception cref="DatasetException">Several could be meant.</exception>
    public static string? Find(JsonElement row, string[] names, string where)
    {
        if (row.TryGetProperty(names[0], out _))
        {
            return names[0];
        }

        string[] found = [.. Present(row, names)];
        return found.Length <= 1 ? found.FirstOrDefault()
            : throw new DatasetException(
                $"{where}: {string.Join(" and ", found.Select(name => $"\"{name}\""))} could both be what is called \"{names[0]}\" here. "
                + $"Rename the one that is meant to \"{names[0]}\".");
    }

    /// <summary>Rows are often found one level deeper, as in {"version": 1, "data": [{…}, …]}.</summary>
    private static string Wrapped(JsonElement row)
    {
        JsonProperty list = row.EnumerateObject().FirstOrDefault(field => field.Value.ValueKind == JsonValueKind.Array
            && field.Value.EnumerateArray().Any(item => item.ValueKind == JsonValueKind.Object));
        return list.Value.ValueKind == JsonValueKind.Undefined ? ""
            : $" If \"{list.Name}\" is the list of the rows, let the file begin with its bracket and end with it.";
    }

    private static bool Has(JsonElement row, string[] names) => row.TryGetProperty(names[0], out _) || Present(row, names).Any();

    private static IEnumerable<string> Present(JsonElement row, string[] names) =>
        row.EnumerateObject().Select(field => field.Name).Where(name => names.Contains(name, StringComparer.OrdinalIgnoreCase)).Distinct();
}
