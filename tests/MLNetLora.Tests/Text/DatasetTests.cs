using System.IO.Compression;
using System.Text;
using MLNetLora.Text;

namespace MLNetLora.Tests.Text;

public sealed class DatasetTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(
        "a.json",
        "[{\"instruction\":\"q\",\"input\":\"i\",\"output\":\"a\",\"system\":\"s\",\"history\":[[\"x\",\"y\"]]}]",
        "system:s|user:x|assistant:y|user:q\ni|assistant:a")]
    [InlineData(
        "a.jsonl",
        "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"gpt\",\"value\":\"a\"}],\"system\":\"s\"}",
        "system:s|user:q|assistant:a")]
    [InlineData("a.jsonl", "{\"conversation\":[{\"from\":\"user\",\"value\":\"q\"},{\"from\":\"assistant\",\"value\":\"a\"}]}", "user:q|assistant:a")]
    [InlineData(
        "a.jsonl",
        "{\"messages\":[{\"role\":\"developer\",\"content\":\"s\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"q\"},{\"type\":\"text\","
        + "\"text\":\"!\"}]},{\"role\":\"assistant\",\"content\":\"a\",\"reasoning_content\":\"t\"}]}",
        "system:s|user:q!|assistant:a(t)")]
    [InlineData(
        "a.jsonl",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"x\",\"weight\":0},{\"role\":\"user\",\"content\":\"r\"},"
        + "{\"role\":\"assistant\",\"content\":\"y\",\"weight\":1}]}",
        "user:q|assistant:x-|user:r|assistant:y")]
    [InlineData("a.jsonl", "{\"prompt\":\"q\",\"completion\":\"a\"}", "user:q-|assistant:a")]
    [InlineData("a.jsonl", "{\"prompt\":\"q\",\"response\":\"a\",\"system\":\"s\"}", "system:s|user:q-|assistant:a")]
    [InlineData(
        "a.jsonl",
        "{\"prompt\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"b\"},{\"role\":\"user\",\"content\":\"c\"}],"
        + "\"completion\":[{\"role\":\"assistant\",\"content\":\"a\"}]}",
        "user:q-|assistant:b-|user:c-|assistant:a")]
    [InlineData("a.jsonl", "{\"text\":\"a document\"}", "document:a document")]
    [InlineData("a.csv", "instruction,output\r\n\"q, \"\"x\"\"\nz\",a\r\n", "user:q, \"x\"\nz|assistant:a")]
    [InlineData("a.tsv", "prompt\tcompletion\nq, r\ta\n", "user:q, r-|assistant:a")]
    [InlineData("a.csv", "text\nd", "document:d")]
    [InlineData(
        "a.csv",
        "messages\n\"[{\"\"role\"\":\"\"user\"\",\"\"content\"\":\"\"q\"\"},{\"\"role\"\":\"\"assistant\"\",\"\"content\"\":\"\"a\"\"}]\"",
        "user:q|assistant:a")]
    [InlineData("a.txt", "\n  d 你\n\n", "document:  d 你")]
    public void Every_format_is_recognized(string name, string content, string expected)
    {
        byte[] plain = Encoding.UTF8.GetBytes(content);
        byte[] compressed = Compressed(content);
        (string, byte[])[] files = [(name, plain), (name, [.. Encoding.UTF8.Preamble, .. plain]), (name + ".gz", compressed), (name, compressed)];
        foreach ((string file, byte[] bytes) in files)
        {
            File.WriteAllBytes(_folder.File(file), bytes);
            Assert.Equal(expected, Describe(Assert.Single(Dataset.Read(_folder.File(file)))));
        }
    }

    [Fact]
    public void Tools_and_calls_are_read_in_every_spelling()
    {
        string[] rows =
        [
            "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"function_call\",\"value\":\"{\\\"name\\\": \\\"f\\\", \\\"arguments\\\": "
            + "{\\\"b\\\": 1}}\"},{\"from\":\"observation\",\"value\":\"r\"},{\"from\":\"gpt\",\"value\":\"a\"}],\"tools\":\"[{\\\"name\\\": \\\"f\\\"}]\"}",
            "{\"conversations\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c\","
            + "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"b\\\": 1}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"c\","
            + "\"content\":\"r\"},{\"role\":\"assistant\",\"content\":\"a\"}],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]}",
            "{\"conversations\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"\",\"function_call\":{\"name\":\"f\","
            + "\"arguments\":{\"b\": 1}}},{\"role\":\"function\",\"content\":\"r\"},{\"role\":\"assistant\",\"content\":\"a\"}],"
            + "\"functions\":[{\"name\":\"f\"}]}",
        ];
        File.WriteAllLines(_folder.File("tools.jsonl"), rows);
        foreach (DatasetRow row in Dataset.Read(_folder.File("tools.jsonl")))
        {
            Assert.Equal("f", Assert.Single(row.Conversation!.Tools!).GetProperty("function").GetProperty("name").GetString());
            ToolCall call = Assert.Single(row.Conversation.Messages[1].ToolCalls!);
            Assert.Equal(("f", 1), (call.Name, System.Text.Json.JsonDocument.Parse(call.Arguments).RootElement.GetProperty("b").GetInt32()));
            Assert.Equal("user:q|assistant:|tool:r|assistant:a", Describe(row));
        }
    }

    [Theory]
    [InlineData("a.jsonl", "{\"question\":\"a\"}", "line 1, row 1: the format is not recognized; the row has \"question\"")]
    [InlineData("a.jsonl", "{\"text\":\"a\"}\n\n{\"text\":3}", "line 3, row 2: \"text\" is a number")]
    [InlineData("a.jsonl", "{\"text\":\"a\"}\n{\"messages\":[]}", "line 2, row 2: \"text\" is missing; the row has \"messages\"")]
    [InlineData("a.jsonl", "{\"messages\":[]}", "row 1: the conversation has no messages")]
    [InlineData("a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}", "no message of the assistant is there to be learned")]
    [InlineData("a.jsonl", "{\"messages\":[{\"role\":\"robot\",\"content\":\"q\"}]}", "message 1: the role \"robot\" is not known")]
    [InlineData("a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\"}]}", "message 2: the message is empty")]
    [InlineData("a.jsonl", "{\"messages\":[{\"content\":\"q\"}]}", "message 1: \"role\" (or \"from\") is missing")]
    [InlineData("a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}]}", "message 1: a part of \"content\" is not text")]
    [InlineData("a.jsonl", "{\"messages\":[{\"role\":\"assistant\",\"content\":\"q\",\"weight\":2}]}", "\"weight\" is neither 0 nor 1")]
    [InlineData("a.jsonl", "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{}]}]}", "a call of a tool has no \"name\"")]
    [InlineData("a.jsonl", "{\"conversations\":[{\"from\":\"function_call\",\"value\":\"f(1)\"}]}", "the call of a tool is not JSON")]
    [InlineData("a.jsonl", "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\"}],\"tools\":\"x\"}", "\"tools\" is a text that is not JSON")]
    [InlineData("a.jsonl", "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\"}],\"tools\":[1]}", "\"tools\" is not a list of tools")]
    [InlineData("a.jsonl", "{\"prompt\":\" \",\"completion\":\"a\"}", "\"prompt\" is empty")]
    [InlineData("a.jsonl", "{\"\\ud83d\":1}", "the name of a field is not valid text")]
    [InlineData("a.csv", "text,text\na,b", "line 1: two columns are named \"text\"")]
    [InlineData("a.csv", "instruction,output\na,b\nc,d,e", "line 3, row 2: 3 fields, but the first line names 2 columns")]
    [InlineData("a.csv", "text\n\"a\nb", "the quotation mark that opens a field on line 2 is not closed")]
    [InlineData("a.csv", "", "has no rows")]
    [InlineData("a.csv", "text\n", "has no rows")]
    [InlineData("a.txt", "\n \n", "has no rows")]
    [InlineData("a.arrow", "ARROW1", "columnar format")]
    [InlineData("a.parquet", "PAR1", "Add the package MLNetLora.Parquet and call ParquetData.Register()")]
    public void What_is_wrong_is_said_with_line_and_row(string name, string content, string expected)
    {
        File.WriteAllText(_folder.File(name), content);
        string message = Assert.Throws<DatasetException>(() => Dataset.Read(_folder.File(name)).Count()).Message;
        Assert.Contains(expected, message, StringComparison.Ordinal);
        Assert.Contains(_folder.File(name), message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_named_format_is_not_guessed()
    {
        File.WriteAllText(_folder.File("a.jsonl"), "{\"text\":\"d\",\"messages\":[{\"role\":\"assistant\",\"content\":\"a\"}]}");
        Assert.Equal("assistant:a", Describe(Assert.Single(Dataset.Read(_folder.File("a.jsonl")))));
        Assert.Equal("document:d", Describe(Assert.Single(Dataset.Read(_folder.File("a.jsonl"), DatasetFormat.Text))));
        Assert.Contains(
            "\"instruction\" is missing",
            Assert.Throws<DatasetException>(() => Dataset.Read(_folder.File("a.jsonl"), DatasetFormat.Instruction).Count()).Message,
            StringComparison.Ordinal);
        File.WriteAllText(_folder.File("a.txt"), "d");
        Assert.Contains(
            "plain text",
            Assert.Throws<DatasetException>(() => Dataset.Read(_folder.File("a.txt"), DatasetFormat.Messages).Count()).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void Patterns_find_files_in_order()
    {
        Directory.CreateDirectory(_folder.File("b/c"));
        foreach (string name in (string[])["2.jsonl", "1.jsonl", "x.json", "b/3.jsonl", "b/c/4.jsonl"])
        {
            File.WriteAllText(_folder.File(name), $"{{\"text\":\"{name}\"}}");
        }

        Assert.Equal(["1.jsonl", "2.jsonl"], Texts("*.jsonl"));
        Assert.Equal(["b/3.jsonl"], Texts("b/?.jsonl"));
        Assert.Equal(["1.jsonl", "2.jsonl", "b/3.jsonl", "b/c/4.jsonl"], Texts("**/*.jsonl"));
        Assert.Equal(["b/c/4.jsonl"], Texts("*/c/*"));
        Assert.Equal(["x.json", "b/3.jsonl"], Dataset.Read([_folder.File("x.json"), _folder.File("b/*.jsonl")]).Select(row => row.Document!));
        foreach (string missing in (string[])["*.nothing", "nowhere/*.json", "nowhere.json", "b"])
        {
            Assert.Throws<DatasetException>(() => Dataset.Read(_folder.File(missing)));
        }

        string[] Texts(string pattern) => [.. Dataset.Read(_folder.File(pattern)).Select(row => row.Document!)];
    }

    private static string Describe(DatasetRow row) => row.Document is { } document
        ? $"document:{document}"
        : string.Join('|', row.Conversation!.Messages.Select(Describe));

    private static string Describe(ChatMessage message)
    {
        string thinking = message.Thinking is null ? "" : $"({message.Thinking})";
        return $"{message.Role}:{message.Content}{thinking}{(message.IsLearned ? "" : "-")}";
    }

    private static byte[] Compressed(string content)
    {
        using MemoryStream memory = new();
        using (GZipStream gzip = new(memory, CompressionLevel.Fastest))
        {
            gzip.Write(Encoding.UTF8.GetBytes(content));
        }

        return memory.ToArray();
    }
}
