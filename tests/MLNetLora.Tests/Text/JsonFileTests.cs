using System.Text;
using MLNetLora.Text;

namespace MLNetLora.Tests.Text;

public sealed class JsonFileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("mlnetlora-data-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("[{\"instruction\":\"a\",\"output\":\"b\"},\r\n {\"instruction\":\"c\",\"input\":\"\",\"output\":\"d\"}]\n")]
    [InlineData("\uFEFF  [ {\"instruction\":\"a\",\"output\":\"b\"} , {\"instruction\":\"c\",\"input\":null,\"output\":\"d\"} ] ")]
    [InlineData("{\"instruction\":\"a\",\"output\":\"b\"}\n\n  {\"instruction\":\"c\",\"output\":\"d\", \"other\": [1, {\"x\": \"]}\"}]}  \r\n")]
    [InlineData("{\"instruction\":\"a\",\"output\":\"b\"}\n{\"instruction\":\"c\",\"output\":\"d\"}")]
    public void Arrays_and_lines_are_told_apart_by_the_first_character(string content) =>
        Assert.Equal([new InstructionRow("a", "b"), new InstructionRow("c", "d")], Read(content));

    [Fact]
    public void All_fields_are_read()
    {
        InstructionRow row =
            Assert.Single(Read("[{\"instruction\":\"翻译\",\"input\":\"a\\\"b\\n\",\"output\":\"\\ud83d\\ude00 "
                + "\\ud83d!\",\"system\":\"s\",\"history\":[[\"q\",\"r\"],[\"t\",\"u\"]]}]"));
        Assert.Equal(("翻译", "a\"b\n", "😀 \ud83d!", "s"), (row.Instruction, row.Input, row.Output, row.System));
        Assert.Equal([new InstructionTurn("q", "r"), new InstructionTurn("t", "u")], row.History!);
    }

    [Fact]
    public void Rows_longer_than_the_buffer_and_rows_across_its_border_are_whole()
    {
        Random random = new(5);
        InstructionRow[] rows = [.. Enumerable.Range(0,
            400).Select(i => new InstructionRow($"i{i}", string.Concat(Enumerable.Repeat("你\"}],\\n\n", random.Next(1, i % 100 == 0 ? 40_000 : 300)))))];
        string[] lines = [.. rows.Select(row => System.Text.Json.JsonSerializer.Serialize(new { instruction = row.Instruction, output = row.Output }))];
        Assert.Equal(rows, Read(string.Join('\n', lines)));
        Assert.Equal(rows, Read($"[{string.Join(",\n", lines)}]"));
    }

    [Theory]
    [InlineData("", "has no rows")]
    [InlineData(" \n\n ", "has no rows")]
    [InlineData("[]", "has no rows")]
    [InlineData("[{\"instruction\":\"a\",\"output\":\"b\"},\n{\"instruction\":\"a\"}]", "line 2, row 2: \"output\" is missing; the row has \"instruction\".")]
    [InlineData("{\"instruction\":\"a\",\"output\":\"b\"}\n\n{\"instruction\":\"a\",\"output\":\" \"}", "line 3, row 2: \"output\" is empty")]
    [InlineData("{\"instruction\":\"a\",\"output\":null}", "line 1, row 1: \"output\" is missing")]
    [InlineData("{\"output\":\"a\"}", "row 1: \"instruction\" is missing")]
    [InlineData("{}", "the row is empty")]
    [InlineData("{\"instruction\":\"\",\"output\":\"a\"}", "\"instruction\" and \"input\" are both empty")]
    [InlineData("{\"instruction\":\"a\",\"output\":3}", "row 1: \"output\" is a number, not a text")]
    [InlineData("{\"instruction\":[\"a\"],\"output\":\"b\"}", "\"instruction\" is an array, not a text")]
    [InlineData("{\"instruction\":\"a\",\"output\":\"b\",\"history\":[[\"q\"]]}", "turn 1 of \"history\" is not a pair of texts")]
    [InlineData("{\"instruction\":\"a\",\"output\":\"b\",\"history\":\"q\"}", "\"history\" is a text")]
    [InlineData("{\"\\ud83d\":\"a\"}", "row 1")]
    [InlineData("[1]", "line 1, row 1: the row is a number, not an object")]
    [InlineData("\"x\"", "line 1, row 1: the row is a text, not an object")]
    [InlineData("{\"instruction\":\"a\",\"output\":\"b\"}\n{\"instruction\" \"a\"}", "line 2, row 2: not valid JSON at byte 16 of the line")]
    [InlineData("[{\"instruction\":\"a\",\"output\":\"b\"},\n{\n\"instruction\": a}]", "line 3, row 2: not valid JSON")]
    [InlineData("[{\"instruction\":\"a\",\"output\":\"b\"}\n{}]", "line 2: '{' stands behind row 1 where a comma")]
    [InlineData("[{\"instruction\":\"a\",\"output\":\"b\"},\n]", "line 2: a comma stands behind row 1, the last one")]
    [InlineData("[{\"instruction\":\"a\",\"output\":\"b\"}] x", "'x' stands behind the end of the array")]
    [InlineData("[{\"instruction\":\"a\",\"output\":\"b\"}", "the end of the file stands behind row 1")]
    [InlineData("[{\"instruction\":\"a\",\"output\":\"b\"},\n\n{\"instruction\":\"a", "ends inside row 2, which begins on line 3")]
    [InlineData("[", "ends inside row 1")]
    public void What_is_wrong_is_said_with_line_and_row(string content, string expected) =>
        Assert.Contains(expected, Fails(Encoding.UTF8.GetBytes(content)), StringComparison.Ordinal);

    [Fact]
    public void Bytes_that_are_not_utf8_are_found()
    {
        byte[] bad = [.. "[{\"instruction\":\"a\",\"output\":\"b\"},\n{\"instruction\":\n\""u8, 0xC4, 0xE3, .. "\",\"output\":\"b\"}]"u8];
        Assert.Contains("line 3, row 2: the byte 0xC4 is not valid UTF-8", Fails(bad), StringComparison.Ordinal);
        Assert.Contains("is UTF-16 text", Fails([0xFF, 0xFE, (byte)'[', 0]), StringComparison.Ordinal);
    }

    [Fact]
    public void A_row_without_end_is_refused_before_it_fills_the_memory()
    {
        string path = Path.Combine(_folder, "endless.json");
        using (FileStream stream = File.Create(path))
        {
            stream.Write("[{\"instruction\":\""u8);
            stream.SetLength(JsonRows.RowLimit + 1000L);
        }
        Assert.Contains("a row has more than 64 MiB", Assert.Throws<DatasetException>(() => Rows(path).Count()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_missing_file_is_named() =>
        Assert.Contains("nowhere.json is not a file", Assert.Throws<DatasetException>(() => Rows("nowhere.json")).Message, StringComparison.Ordinal);

    [Fact]
    public void Reading_is_lazy()
    {
        string path = Path.Combine(_folder, "lazy.jsonl");
        File.WriteAllText(path, "{\"instruction\":\"a\",\"output\":\"b\"}\nbroken");
        Assert.Equal("b", Rows(path).First().Output);
    }

    private static IEnumerable<InstructionRow> Rows(string path) => Dataset.Read(path, DatasetFormat.Instruction).Select(row => row.Instruction!);

    private InstructionRow[] Read(string content)
    {
        string path = Path.Combine(_folder, "rows.json");
        File.WriteAllText(path, content);
        return [.. Rows(path)];
    }

    private string Fails(byte[] content)
    {
        string path = Path.Combine(_folder, "bad.json");
        File.WriteAllBytes(path, content);
        string message = Assert.Throws<DatasetException>(() => Rows(path).Count()).Message;
        Assert.StartsWith(path, message, StringComparison.Ordinal);
        return message;
    }
}
