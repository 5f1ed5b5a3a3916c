using System.Text;
using MLNetLora.Text;

namespace MLNetLora.Tests.Text;

/// <summary>CSV and TSV as people's programs write them.</summary>
public sealed class TableTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("instruction;output\r\nq, r;a\r\n", "q, r=a")]
    [InlineData("\"instruction\";\"output\"\r\n\"q; \"\"r\"\"\nz\";a\r\n", "q; \"r\"\nz=a")]
    [InlineData("sep=;\r\ninstruction;output\r\nq;a\r\n", "q=a")]
    [InlineData("instruction\toutput\nq, r;\ta\n", "q, r;=a")]
    [InlineData("\n\ninstruction,output\n\n\nq;r,a\n\n", "q;r=a")]
    [InlineData("instruction,output\n# q,5\" pipe\n", "# q=5\" pipe")]
    [InlineData("instruction,output\r\"q\rr\",a\r", "q\rr=a")]
    [InlineData("instruction,output,\"a;b;c;d\"\nq,a,x\n", "q=a")]
    public void The_separator_shows_in_the_first_line(string content, string expected)
    {
        foreach (Encoding encoding in (Encoding[])[new UTF8Encoding(false), new UTF8Encoding(true), new UnicodeEncoding(bigEndian: false, byteOrderMark: true)])
        {
            File.WriteAllText(_folder.File("a.csv"), content, encoding);
            InstructionRow row = Assert.Single(Dataset.Read(_folder.File("a.csv"))).Instruction!;
            Assert.Equal(expected, $"{row.Instruction}={row.Output}");
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Rows_with_more_fields_than_any_are_refused_in_time(int line)
    {
        string row = string.Concat(Enumerable.Repeat("a,", 450_000)) + "a\n";
        File.WriteAllText(_folder.File("a.csv"), line == 1 ? row : "instruction,output\nq,a\n" + row);
        Assert.Contains("a row has more than 100000 fields", Assert.Throws<DatasetException>(() => Dataset.Read(_folder.File("a.csv")).Count()).Message);

        // Within a field there may be as many as there are.
        File.WriteAllText(_folder.File("a.csv"), $"instruction,output\n\"{row}\",a\n");
        Assert.Single(Dataset.Read(_folder.File("a.csv")));
    }

    [Fact]
    public void Rows_say_on_which_line_they_begin()
    {
        File.WriteAllText(_folder.File("a.csv"), "text\r\n\r\n\"a\r\nb\n\nc\"\r\nd\n\n\n\"e\"\n");
        Assert.Equal(
            [(3, 1, "a\r\nb\n\nc"), (7, 2, "d"), (10, 3, "e")],
            Dataset.Read(_folder.File("a.csv")).Select(row => (row.Line, row.Number, row.Document!)));
    }

    [Theory]
    [InlineData("instruction,output\nq,a\n\"q\" r,a\n", "a.csv, line 3: a quotation mark stands inside a quoted field, column 1")]
    [InlineData("instruction,output\nq,\"a\nq,a\nq,\"a\nq,a", "a.csv, line 2: a quotation mark stands inside a quoted field, column 2")]
    [InlineData("instruction,output\nq,a\n\"q,a\nq,a\n", "the quotation mark that opens a field on line 3 is not closed")]
    [InlineData("instruction;output\nq;a\nq;a;b\n", "line 3, row 2: 3 fields, but the first line names 2 columns. Put fields with semicolons")]
    [InlineData("frage_text;antwort_text\nq;a\n", "the row has \"frage_text\", \"antwort_text\"")]
    public void What_is_wrong_is_said_with_its_line(string content, string expected)
    {
        File.WriteAllText(_folder.File("a.csv"), content);
        Assert.Contains(expected, Assert.Throws<DatasetException>(() => Dataset.Read(_folder.File("a.csv")).Count()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Bytes_of_another_encoding_are_named()
    {
        File.WriteAllBytes(_folder.File("a.csv"), [.. "text\na\n"u8, .. Encoding.Latin1.GetBytes("für\n")]);
        string message = Assert.Throws<DatasetException>(() => Dataset.Read(_folder.File("a.csv")).Count()).Message;
        Assert.Contains("the byte 0xFC is not valid UTF-8 (in Latin-1 it would be \"ü\")", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("a.csv", "text\nx\n\"")]
    [InlineData("a.csv", "\"text\nx\n")]
    [InlineData("a.txt", "x")]
    public void A_quotation_mark_that_is_never_closed_does_not_fill_the_memory(string name, string begin)
    {
        using (FileStream stream = File.Create(_folder.File(name)))
        {
            stream.Write(Encoding.UTF8.GetBytes(begin));
            stream.SetLength(5L << 30); // A sparse file: nothing is written.
        }

        long before = GC.GetAllocatedBytesForCurrentThread();
        string message = Assert.Throws<DatasetException>(() => Dataset.Read(_folder.File(name)).Count()).Message;
        Assert.Contains("more than 33554432 characters", message, StringComparison.Ordinal);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 256 << 20);
    }

    [Fact]
    public void Long_rows_are_whole_wherever_the_buffer_ends()
    {
        Random random = new(7);
        string[] texts = [.. Enumerable.Range(1, 300).Select(i => string.Concat(Enumerable.Repeat("你,\"\n😀;", random.Next(1, i % 100 == 0 ? 40_000 : 400))))];
        File.WriteAllText(
            _folder.File("a.csv"),
            "text\n" + string.Concat(texts.Select(text => $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"\r\n")));
        Assert.Equal(texts, Dataset.Read(_folder.File("a.csv")).Select(row => row.Document));
    }
}
