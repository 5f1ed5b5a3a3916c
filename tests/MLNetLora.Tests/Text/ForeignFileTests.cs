using System.IO.Compression;
using System.Text;
using MLNetLora.Text;

namespace MLNetLora.Tests.Text;

/// <summary>Files that people give as data sets and that are something else.</summary>
public sealed class ForeignFileTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("model.gguf", "GGUF\u0003\0\0\0", "is a GGUF model")]
    [InlineData("data.jsonl", "GGUF\u0003\0\0\0", "is a GGUF model")]
    [InlineData("data.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "is a pointer of git-lfs, not the file itself")]
    [InlineData("data.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "is a pointer of git-lfs, not the file itself")]
    [InlineData("data.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "is a pointer of git-lfs, not the file itself")]
    [InlineData("data.pdf", "%PDF-1.7\n", "is a PDF")]
    [InlineData("data.json", "PK\u0003\u0004\u0014\0\0\0data/a.jsonl", "is a zip archive")]
    [InlineData("data.csv", "PK\u0003\u0004\u0014\0\u0006\0[Content_Types].xml", "is a file of an office program. Save a workbook as \"CSV UTF-8\"")]
    [InlineData("data.docx", "", "is a document of a word processor. Save it as plain text (.txt)")]
    [InlineData("data.csv", "\u00D0\u00CF\u0011\u00E0\u00A1\u00B1\u001A\u00E1", "is a file of an office program")]
    [InlineData("data.jsonl", "Rar!\u001A\u0007\u0001\0", "is compressed in a way that is not read here")]
    [InlineData("data.jsonl", "BZh91AY&SY", "is compressed in a way that is not read here")]
    [InlineData("data.xlsx", "", "is a workbook")]
    [InlineData("data.jsonl", "PAR1\u0015\u0004", "is a Parquet file. Name it .parquet")]
    [InlineData("data.jsonl", "<!doctype HTML><html>", "is a web page")]
    [InlineData("data.csv", "\n<html><body>404", "is a web page")]
    [InlineData("data.json", "\u0010\0\0\0\0\0\0\0{\"__metadata__\":", "is a file of weights (safetensors)")]
    [InlineData("data.jsonl", "{\0\"\0t\0e\0x\0t\0\"\0", "is UTF-16 text. Save it as UTF-8")]
    [InlineData("data.csv", "\0t\0e\0x\0t\0\n\0a", "is UTF-16 text. Save it as UTF-8")]
    public void What_it_is_is_said(string name, string latin, string expected)
    {
        byte[] bytes = Encoding.Latin1.GetBytes(latin);
        File.WriteAllBytes(_folder.File(name), bytes);
        Refused(name);
        using (GZipStream gzip = new(File.Create(_folder.File(name + ".gz")), CompressionLevel.Fastest))
        {
            gzip.Write(bytes);
        }

        Refused(name + ".gz");

        void Refused(string file)
        {
            string message = Assert.Throws<DatasetException>(() => Dataset.Read(_folder.File(file)).Count()).Message;
            Assert.StartsWith($"{_folder.File(file)} {expected}", message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_pointer_is_not_given_to_a_reader_that_was_added()
    {
        DatasetReaders.Register(".pointer", _ => throw new InvalidOperationException("The reader was called."));
        File.WriteAllText(_folder.File("a.pointer"), "version https://git-lfs.github.com/spec/v1\n");
        Assert.Contains(
            "git lfs pull",
            Assert.Throws<DatasetException>(() => Dataset.Read(_folder.File("a.pointer")).Count()).Message,
            StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("<html>")]
    [InlineData("GGUF is the format of llama.cpp.")]
    [InlineData("Rar! shouted the bear.")]
    public void Texts_that_begin_like_other_files_may_be_learned(string text)
    {
        File.WriteAllText(_folder.File("a.txt"), text);
        Assert.Equal(text, Assert.Single(Dataset.Read(_folder.File("a.txt"))).Document);
    }
}
