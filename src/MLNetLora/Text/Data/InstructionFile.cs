using System.Text.Json;

namespace MLNetLora.Text;

/// <summary>
/// Reads instruction data: <c>{"instruction": …, "input": …, "output": …, "system": …, "history": [[question, answer], …]}</c>, of which instruction and output must be there.
/// A file is one JSON array of such rows, or one row on every line (JSONL); the first character shows which.
/// </summary>
public static class InstructionFile
{
    /// <summary>Reads a file row by row; however long the file, one row is in memory at a time.</summary>
    /// <param name="path">A .json or .jsonl file in UTF-8.</param>
    /// <returns>The rows in file order, read while they are enumerated; the first is row 1 of the messages.</returns>
    /// <exception cref="DatasetException">The file is missing, has no rows, or a row is wrong; the message names file, line and row. Raised while enumerating where the cause lies in a row.</exception>
    public static IEnumerable<InstructionRow> Read(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (!File.Exists(path))
            throw new DatasetException($"{path} is not a file. Name a .json file with an array of rows, or a .jsonl file with a row on every line.");
        return ReadRows(path);
    }

    /// <summary>Reads one row's object.</summary>
    /// <exception cref="DatasetException">A field is missing or has the wrong type.</exception>
    internal static InstructionRow ReadRow(JsonElement row, string where)
    {
        if (row.ValueKind != JsonValueKind.Object)
            throw new DatasetException($"{where}: the row is {JsonFields.Name(row.ValueKind)}, not an object such as {{\"instruction\": \"…\", \"output\": \"…\"}}.");
        string? instruction = JsonFields.Text(row, "instruction", where);
        string? input = JsonFields.Text(row, "input", where);
        string? output = JsonFields.Text(row, "output", where);
        if (instruction is null)
            throw new DatasetException($"{where}: \"instruction\" is missing{JsonFields.Hint(row)}.");
        if (string.IsNullOrWhiteSpace(instruction) && string.IsNullOrWhiteSpace(input))
            throw new DatasetException($"{where}: \"instruction\" and \"input\" are both empty. Write what is asked, or remove the row.");
        if (output is null)
            throw new DatasetException($"{where}: \"output\" is missing{JsonFields.Hint(row)}. Write the answer to learn, or remove the row.");
        if (string.IsNullOrWhiteSpace(output))
            throw new DatasetException($"{where}: \"output\" is empty. Write the answer to learn, or remove the row.");
        return new InstructionRow(instruction, output, string.IsNullOrEmpty(input) ? null : input, JsonFields.Text(row, "system", where) is { Length: > 0 } system ? system : null, History(row, where));
    }

    private static IEnumerable<InstructionRow> ReadRows(string path)
    {
        using Stream stream = DatasetFiles.Open(path);
        bool any = false;
        foreach (JsonRow row in new JsonRows(path, stream).Read())
        {
            any = true;
            yield return ReadRow(path, row);
        }
        if (!any)
            throw new DatasetException($"{path} has no rows. Write at least one row with an instruction and an output.");
    }

    private static InstructionRow ReadRow(string path, JsonRow row)
    {
        using JsonDocument document = JsonText.Parse(path, row);
        string where = $"{path}, line {row.Line}, row {row.Row}";
        try
        {
            return ReadRow(document.RootElement, where);
        }
        catch (InvalidOperationException error)
        {
            // The name of a field can hold an escaped surrogate without its partner, which System.Text.Json refuses.
            throw new DatasetException($"{where}: the name of a field is not valid text. Correct it.", error);
        }
    }

    private static List<InstructionTurn>? History(JsonElement row, string where)
    {
        return row.TryGetProperty("history", out JsonElement history) ? ReadHistory(history, where) : null;
    }

    /// <summary>Earlier turns, [[question, answer], …]; null where there are none.</summary>
    /// <exception cref="DatasetException">It is something else.</exception>
    internal static List<InstructionTurn>? ReadHistory(JsonElement history, string where)
    {
        if (history.ValueKind == JsonValueKind.Null)
            return null;
        if (history.ValueKind != JsonValueKind.Array)
            throw new DatasetException($"{where}: \"history\" is {JsonFields.Name(history.ValueKind)}, not an array of [question, answer] pairs.");
        List<InstructionTurn> turns = [];
        foreach (JsonElement turn in history.EnumerateArray())
        {
            if (turn.ValueKind != JsonValueKind.Array || turn.GetArrayLength() != 2 || turn.EnumerateArray().Any(text => text.ValueKind != JsonValueKind.String))
                throw new DatasetException($"{where}: turn {turns.Count + 1} of \"history\" is not a pair of texts, [question, answer].");
            turns.Add(new InstructionTurn(JsonText.String(turn[0]), JsonText.String(turn[1])));
        }
        return turns.Count == 0 ? null : turns;
    }
}
