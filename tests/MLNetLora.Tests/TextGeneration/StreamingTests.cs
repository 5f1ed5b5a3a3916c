using Microsoft.ML;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>Long files pass through in bounded memory; the memory is that of the process, so no other test may run meanwhile.</summary>
[Collection(Alone.Name)]
public sealed class StreamingTests : IDisposable
{
    private readonly Workbench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Theory]
    [InlineData("big.jsonl", "")]
    [InlineData("big.json", "[]")]
    [InlineData("big.csv", "")]
    public void Long_files_are_not_held_in_memory(string name, string brackets)
    {
        string text = new('x', 10_000);
        using (StreamWriter writer = new(_bench.PathOf(name)))
        {
            writer.Write(brackets.Length > 0 ? "[" : name.EndsWith("csv", StringComparison.Ordinal) ? "text\n" : "");
            for (int i = 0; i < 5000; i++)
            {
                writer.Write(name.EndsWith(
                    "csv",
                    StringComparison.Ordinal) ? text + "\n" : (brackets.Length > 0 && i > 0 ? "," : "") + "{\"text\":\"" + text + "\"}\n");
            }

            writer.Write(brackets.Length > 0 ? "]" : "");
        }
        long before = GC.GetTotalMemory(forceFullCollection: true);
        long most = 0;
        int rows = 0;
        foreach (DatasetRow row in Dataset.Read(_bench.PathOf(name)))
        {
            if (rows++ % 1000 == 0)
            {
                most = Math.Max(most, GC.GetTotalMemory(forceFullCollection: true) - before);
            }
        }
        Assert.Equal(5000, rows);
        Assert.True(most < 8 << 20, $"{most >> 20} MiB are held while 50 MB are read.");
    }

    [Fact]
    public void A_file_is_read_anew_in_every_pass_and_never_held()
    {
        string text = new('x', 10_000);
        File.WriteAllLines(
            _bench.PathOf("big.jsonl"),
            Enumerable.Range(0, 3000).Select(i => $$"""{"messages":[{"role":"user","content":"{{i}}"},{"role":"assistant","content":"{{text}}"}]}"""));
        long before = GC.GetTotalMemory(forceFullCollection: true);
        IDataView view = _bench.Context.Data.LoadFromInstructionFile(_bench.PathOf("big.jsonl"));
        for (int pass = 0; pass < 2; pass++)
        {
            long most = 0;
            int rows = 0;
            foreach (TextRow row in TrainingRows.Read(view, _bench.TrainerOptions().Columns, "training", default))
            {
                if (rows++ % 500 == 0)
                {
                    most = Math.Max(most, GC.GetTotalMemory(forceFullCollection: true) - before);
                }
            }

            Assert.Equal(3000, rows);
            Assert.True(most < 8 << 20, $"{most >> 20} MiB are held while 30 MB are read.");
        }

        // The file changes under the view: said, not guessed.
        File.WriteAllText(_bench.PathOf("big.jsonl"), """{"text":"d"}""");
        Assert.Contains(
            "row 1 has changed since the file was loaded: it now has Text",
            Assert.Throws<DatasetException>(() => _bench.Trainer().Fit(view)).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void A_preflight_counts_rows_without_keeping_them()
    {
        const int Count = 6000;
        string text = string.Concat(Enumerable.Repeat("the heron stands there ", 100));
        long before = 0;
        long most = 0;
        Preflight preflight = _bench.Trainer().Preflight(_bench.Context.Data.LoadFromEnumerable(Rows()));
        Assert.Equal(Count, preflight.Rows);
        Assert.True(preflight.Tokens > Count * 300L, $"{preflight.Tokens} tokens");
        Assert.True(most < 8 << 20, $"{most >> 20} MiB are held.");

        IEnumerable<Row> Rows()
        {
            for (int i = 0; i < Count; i++)
            {
                yield return new Row("What?", "", text);
                if (i == 1000)
                {
                    before = GC.GetTotalMemory(forceFullCollection: true);
                }
                else if (i > 1000 && i % 1000 == 999)
                {
                    most = Math.Max(most, GC.GetTotalMemory(forceFullCollection: true) - before);
                }
            }
        }
    }
}
