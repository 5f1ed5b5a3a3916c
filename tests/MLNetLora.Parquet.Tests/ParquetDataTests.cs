using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Tests;
using MLNetLora.Text;
using ParquetSharp;

namespace MLNetLora.Parquet.Tests;

public sealed class ParquetDataTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public ParquetDataTests() => ParquetData.Register();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string[]> Formats => new(
        ["""{"instruction":"q 你好","input":"i","output":"a","id":1}""", """{"instruction":"r","input":null,"output":"b \"😀\"\n","id":2}"""],
        [
            """{"instruction":"q","output":"a","system":"s","history":[["x","y"],["z","w"]]}""",
            """{"instruction":"r","output":"b","history":[]}""",
            """{"instruction":"t","output":"c","system":""}""",
        ],
        [
            """{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}],"system":"s"}""",
            """{"conversations":[{"from":"user","value":"r"},{"from":"assistant","value":"b"},{"from":"human","value":"u"},{"from":"gpt","value":"c"}]"""
            + ""","system":null}""",
        ],
        ["""{"conversations":[{"from":"human","value":"q"},{"from":"function_call","value":"{\"name\": \"f\", \"arguments\": {\"b\": 1}}"},"""
            + """{"from":"observation","value":"r"},{"from":"gpt","value":"a"}],"tools":"[{\"name\": \"f\"}]"}"""],
        [
            """{"messages":[{"role":"system","content":"s"},{"role":"user","content":"q"},{"role":"assistant","content":"a","reasoning_content":"t"}]}""",
            """{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"x","weight":0},{"role":"user","content":"r"},"""
            + """{"role":"assistant","content":"y","weight":1}]}""",
        ],
        ["""{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":"""
            + """{"name":"f","arguments":{"b":1}}},{"id":"d","type":"function","function":{"name":"g","arguments":{"x":2.5,"y":true}}}]},"""
            + """{"role":"tool","tool_call_id":"c","content":"r"},{"role":"assistant","content":"a"}],"tools":[{"type":"function","function":{"name":"f"}}"""
            + """]}"""],
        ["""{"prompt":"q","completion":"a"}""", """{"prompt":"r","completion":"b"}"""],
        ["""{"prompt":[{"role":"user","content":"q"}],"completion":[{"role":"assistant","content":"a"}]}"""],
        ["""{"text":"a document","url":"u"}""", """{"text":"另一篇"}"""]);

    [Theory]
    [MemberData(nameof(Formats))]
    public void Every_format_reads_as_its_JSONL_does(string[] rows)
    {
        File.WriteAllLines(_folder.File("a.jsonl"), rows);
        string[] expected = View(_folder.File("a.jsonl"));
        foreach ((Compression compression, bool dictionary, bool large) in ((Compression, bool, bool)[])
        [
            (Compression.Uncompressed, false, false),
            (Compression.Gzip, true, false),
            (Compression.Zstd, true, true),
            (Compression.Snappy, false, true),
        ])
        {
            ArrowRows.Write(_folder.File("a.parquet"), rows, rowsPerGroup: 2, compression, dictionary, large, schema: large);
            Assert.Equal(expected, View(_folder.File("a.parquet")));
        }
    }

    [Fact]
    public void Rows_come_in_order_over_batches_and_row_groups_and_are_read_anew()
    {
        string[] rows = [.. Enumerable.Range(0, 1000).Select(Conversation)];
        File.WriteAllLines(_folder.File("a.jsonl"), rows);
        ArrowRows.Write(_folder.File("a.PARQUET"), rows, rowsPerGroup: 150);
        Assert.Equal(View(_folder.File("a.jsonl")), View(_folder.File("a.PARQUET")));
        IEnumerable<DatasetRow> read = Dataset.Read([_folder.File("a.PARQUET"), _folder.File("a.jsonl")]);
        Assert.Equal(2000, read.Count());
        Assert.Equal((_folder.File("a.PARQUET") + ", row 151", 0L), (read.ElementAt(150).Where, read.ElementAt(150).Line));
    }

    [Fact]
    public void A_row_group_is_read_when_its_rows_are_asked_for()
    {
        string[] rows = [.. Enumerable.Range(0, 300).Select(i => $"{{\"text\":\"document {i}\"}}")];
        ArrowRows.Write(_folder.File("a.parquet"), rows, rowsPerGroup: 100, Compression.Gzip, dictionary: false);
        byte[] bytes = File.ReadAllBytes(_folder.File("a.parquet"));
        int footer = BitConverter.ToInt32(bytes, bytes.Length - 8);
        bytes.AsSpan((bytes.Length - footer) * 4 / 5, 20).Clear();
        File.WriteAllBytes(_folder.File("a.parquet"), bytes);
        List<string> read = [];
        DatasetException error = Assert.Throws<DatasetException>(() =>
        {
            foreach (DatasetRow row in Dataset.Read(_folder.File("a.parquet")))
            {
                read.Add(row.Document!);
            }
        });
        Assert.Equal(Enumerable.Range(0, 200).Select(i => $"document {i}"), read);
        Assert.StartsWith($"{_folder.File("a.parquet")}, row group 3 cannot be read as Parquet: ", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_wrong_is_said()
    {
        byte[] good = HandmadeFile.Make();
        File.WriteAllBytes(_folder.File("a.parquet"), good);
        Assert.Equal("hello", Assert.Single(Dataset.Read(_folder.File("a.parquet"))).Document);
        Fails([], "is not a Parquet file");
        Fails("{\"text\":\"a\"}\n{\"text\":\"b\"}"u8.ToArray(), "is not a Parquet file");
        Fails(good[..^1], "was cut off");
        Fails([.. good[..30], .. good[^8..]], "cannot be read as Parquet");
        Fails([.. "PAR1"u8, .. BitConverter.GetBytes(int.MaxValue), .. "PAR1"u8], "cannot be read as Parquet");
        Fails(HandmadeFile.Make(declaredBytes: ParquetRows.ColumnLimit + 1), "row group 1, column \"text\": 1073741825 bytes");
        Fails(HandmadeFile.Make(value: [0xC4, 0xE3]), "row 1, column \"text\": a text is not valid UTF-8");
        Fails(HandmadeFile.Make(value: new byte[ParquetRows.RowLimit + 1]), "row 1, column \"text\": the row has more than 64 MiB");
        Fails(Rows("""{"q1":"a","a1":"b"}"""), "has no column of a data set, only \"q1\", \"a1\"");
        Fails(Rows("""{"instruction":"a","a1":"b"}"""), "row 1: \"output\" is missing; the row has \"instruction\", \"a1\"");
        Fails(Rows("""{"messages":[{"role":"user","content":"a"}]}"""), "row 1: no message of the assistant");
        Fails(Rows("""{"text":5}"""), "row 1: \"text\" is a number");
        Fails(HandmadeFile.Make(groups: 0), "has no rows");
        Assert.Contains(
            "none.parquet cannot be read",
            Assert.Throws<DatasetException>(() => ParquetRows.Read(_folder.File("none.parquet")).Count()).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void Columns_under_other_names_are_read()
    {
        File.WriteAllBytes(_folder.File("a.parquet"), Rows("""{"Question":"q","answer":"a","id":1}"""));
        InstructionRow row = Assert.Single(Dataset.Read(_folder.File("a.parquet"))).Instruction!;
        Assert.Equal(("q", "a"), (row.Instruction, row.Output));
    }

    /// <summary>A dictionary keeps a long text once, however many rows have it; reading makes it as many texts.</summary>
    [Fact]
    public void Few_rows_are_held_where_they_may_be_long()
    {
        string text = new('x', 16 << 20);
        ArrowRows.Write(_folder.File("a.parquet"), [.. Enumerable.Repeat($"{{\"text\":\"{text}\"}}", 24)], compression: Compression.Zstd);
        Assert.InRange(new FileInfo(_folder.File("a.parquet")).Length, 1, 1 << 20);
        long most = 0;
        int rows = 0;
        ParquetSharp.MemoryPool pool = ParquetSharp.MemoryPool.GetDefaultMemoryPool();
        foreach (DatasetRow row in Dataset.Read(_folder.File("a.parquet")))
        {
            Assert.Equal(text.Length, row.Document!.Length);
            most = Math.Max(most, pool.BytesAllocated);
            rows++;
        }
        Assert.Equal(24, rows);
        Assert.True(most < 320 << 20, $"Arrow holds {most >> 20} MiB.");
    }

    [Theory]
    [InlineData(30, "\"text\" is an object")]
    [InlineData(50, "the column \"text\" has 50 levels")]
    [InlineData(1900, "the column \"text\" has 1900 levels")]
    [InlineData(100_000, "the footer lists more than 2000 row groups or columns")]
    public void A_deep_schema_does_not_overflow_the_stack(int depth, string expected)
    {
        // The stack that .NET gives threads on systems where it is smallest.
        Exception? failure = null;
        Thread thread = new(() => failure = Record.Exception(() => Fails(HandmadeFile.Make(depth: depth), expected)), 1536 << 10);
        thread.Start();
        thread.Join();
        Assert.Null(failure);
    }

    [Fact]
    public void More_row_groups_than_a_footer_may_have_are_refused()
    {
        File.WriteAllBytes(_folder.File("a.parquet"), HandmadeFile.Make(groups: 2000));
        Assert.Equal(2000, Dataset.Read(_folder.File("a.parquet")).Count());
        Fails(HandmadeFile.Make(groups: 2001), "the footer lists more than 2000 row groups or columns");
    }

    [Theory]
    [InlineData("parquet")]
    [InlineData(".gz")]
    [InlineData(".Parquet")]
    [InlineData(".")]
    public void An_extension_that_no_file_has_is_refused(string extension) =>
        Assert.Throws<ArgumentException>(() => DatasetReaders.Register(extension, ParquetRows.Read));

    private static string Conversation(int i)
    {
        string questions = string.Concat(Enumerable.Repeat($"{{\"role\":\"user\",\"content\":\"{i}\"}},", i % 5));
        return $"{{\"messages\":[{questions}{{\"role\":\"assistant\",\"content\":\"{i % 7}\"}}]}}";
    }

    private byte[] Rows(params string[] rows)
    {
        ArrowRows.Write(_folder.File("rows"), rows);
        return File.ReadAllBytes(_folder.File("rows"));
    }

    private void Fails(byte[] file, string expected)
    {
        string path = _folder.File("a.parquet");
        File.WriteAllBytes(path, file);
        string message = Assert.Throws<DatasetException>(() => Dataset.Read(path).Count()).Message;
        Assert.Contains(expected, message, StringComparison.Ordinal);
        Assert.Contains(path, message, StringComparison.Ordinal);
    }

    /// <summary>The view's columns and values, a line for each.</summary>
    private static string[] View(string path)
    {
        DataDebuggerPreview preview = new MLContext().Data.LoadFromInstructionFile(path).Preview(int.MaxValue);
        return [.. preview.RowView.SelectMany(row => row.Values.Select(value => $"{value.Key}: {value.Value}"))];
    }
}
