using System.Text.Json;

namespace MLNetLora.Tools.NanoQwen.Corpus;

/// <summary>Everything that the data folder offers: exchanges in file order, and plain articles.</summary>
/// <remarks>The folder's tool-call conversations stay out: a model of this size has no use for JSON, and tokens that only occur there would be rows
/// of the embedding that never train.</remarks>
/// <param name="Exchanges">Questions and answers.</param>
/// <param name="Articles">Plain texts, one line of wiki_demo.txt each.</param>
internal sealed record SourceFiles(IReadOnlyList<Exchange> Exchanges, IReadOnlyList<string> Articles)
{
    public const string Identity = "identity";
    public const string ConversationSample = "qwen_conversations_sample";
    public const string Wiki = "wiki_demo";

    /// <summary>Reads the folder.</summary>
    /// <param name="folder">Holds the files by the names under which their projects publish them.</param>
    /// <param name="modelName">What {{name}} becomes in the identity rows.</param>
    /// <param name="author">What {{author}} becomes there.</param>
    public static SourceFiles Read(string folder, string modelName, string author)
    {
        List<Exchange> exchanges = [];
        foreach (string source in new[] { "alpaca_zh_demo", "alpaca_en_demo", Identity })
        {
            exchanges.AddRange(ReadRows(folder, source, row => Instruction(source, row, text => Fill(text, modelName, author))));
        }

        exchanges.AddRange(ReadRows(folder, ConversationSample, row => FirstExchange(ConversationSample, row)));
        IReadOnlyList<string> articles = [.. File.ReadLines(Find(folder, Wiki + ".txt")).Select(line => line.Trim()).Where(line => line.Length > 0)];
        return new SourceFiles(exchanges, articles);
    }

    private static string Fill(string text, string modelName, string author) =>
        text.Replace("{{name}}", modelName, StringComparison.Ordinal).Replace("{{author}}", author, StringComparison.Ordinal);

    private static List<Exchange> ReadRows(string folder, string source, Func<JsonElement, Exchange?> convert)
    {
        string path = Find(folder, source + ".json");
        List<Exchange> exchanges = [];
        try
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path));
            foreach (JsonElement row in document.RootElement.EnumerateArray())
            {
                if (convert(row) is { } exchange && exchange.Prompt.Length > 0 && exchange.Answer.Length > 0)
                {
                    exchanges.Add(exchange);
                }
            }
        }
        catch (JsonException error)
        {
            throw new DatasetException($"{path}, line {error.LineNumber + 1}: {error.Message}", error);
        }
        return exchanges;
    }

    private static Exchange Instruction(string source, JsonElement row, Func<string, string> fill)
    {
        string instruction = fill(Text(row, "instruction"));
        string input = fill(Text(row, "input"));
        return new Exchange(source, input.Length == 0 ? instruction : instruction + "\n" + input, fill(Text(row, "output")));
    }

    // Later turns lean on the first; the model learns single questions.
    private static Exchange? FirstExchange(string source, JsonElement row)
    {
        JsonElement[] turns = [.. row.GetProperty("conversations").EnumerateArray().Take(2)];
        if (turns.Length < 2 || Text(turns[0], "from") != "user" || Text(turns[1], "from") != "assistant")
        {
            return null;
        }

        return new Exchange(source, Text(turns[0], "value"), Text(turns[1], "value"));
    }

    private static string Text(JsonElement row, string key) =>
        row.TryGetProperty(key, out JsonElement value) && value.ValueKind == JsonValueKind.String ? value.GetString()!.Trim() : "";

    private static string Find(string folder, string name)
    {
        string path = Path.Combine(folder, name);
        return File.Exists(path)
            ? path
            : throw new DatasetException($"{path} does not exist; the data folder must hold LLaMA-Factory's demo files and Qwen's conversation sample");
    }
}
