using System.IO.Compression;
using System.Text;
using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>Our own saving replaces a zip in one step, and our own loading trusts none.</summary>
public sealed class SavingTests : IDisposable
{
    private readonly Workbench _bench = new();

    private string Zip => _bench.PathOf("model.zip");

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void What_it_saves_both_ways_load()
    {
        using QwenLoraTransformer model = _bench.Model();
        model.Save(Zip, _bench.Rows.Schema);
        using QwenLoraTransformer theirs = (QwenLoraTransformer)_bench.Context.Model.Load(Zip, out DataViewSchema schema);
        using QwenLoraTransformer ours = _bench.Context.TextGeneration.Load(Zip);
        Assert.Equal(["Instruction", "Input", "Output"], schema.Select(column => column.Name));
        Assert.Equal(_bench.Answer("what"), theirs.Generate("what"));
        Assert.Equal(_bench.Answer("what"), ours.Generate("what"));
        Assert.Equal(["base", "model.zip"], Names());
    }

    [Fact]
    public void A_disk_that_fills_up_leaves_the_old_one()
    {
        using QwenLoraTransformer model = _bench.Model();
        model.Save(Zip);
        byte[] before = File.ReadAllBytes(Zip);

        // The first part is written when the second fails, as on a full disk.
        using TransformerChain<ITransformer> chain = new(model.With(CancellationToken.None), new FullDisk());
        Assert.Contains("No space left", Assert.Throws<IOException>(() => _bench.Context.TextGeneration.Save(chain, model.InputSchema, Zip)).Message);
        Assert.Equal(before, File.ReadAllBytes(Zip));
        Assert.Equal(["base", "model.zip"], Names());

        using QwenLoraTransformer other = model.With(options => options.AnswerColumnName = "Reply");
        other.Save(Zip);
        using QwenLoraTransformer loaded = _bench.Context.TextGeneration.Load(Zip);
        Assert.Equal("Reply", loaded.Transform(_bench.Rows).Schema[^1].Name);
    }

    [Fact]
    public void A_base_elsewhere_is_said_at_loading_for_this_model_alone()
    {
        using QwenLoraTransformer model = _bench.Model();
        model.Save(Zip);
        Directory.Move(_bench.BaseFolder, _bench.PathOf("moved"));
        TextGenerationCatalog catalog = _bench.Context.TextGeneration;

        // As it is, and not wrapped.
        Assert.Contains("there is no such folder", Assert.Throws<CheckpointException>(() => catalog.Load(Zip)).Message);
        using QwenLoraTransformer loaded = catalog.Load(Zip, _bench.PathOf("moved"));
        Assert.Equal(_bench.PathOf("moved"), loaded.BaseFolder);
        Assert.Throws<CheckpointException>(() => catalog.Load(Zip));
        catalog.UseBaseModel(_bench.PathOf("moved"));
        using QwenLoraTransformer again = catalog.Load(Zip);
        Assert.Equal(_bench.PathOf("moved"), again.BaseFolder);
    }

    [Fact]
    public void What_is_no_model_of_ours_is_told()
    {
        TextGenerationCatalog catalog = _bench.Context.TextGeneration;
        Assert.Throws<FileNotFoundException>(() => catalog.Load(Zip));
        File.WriteAllText(Zip, "not a zip");
        Assert.Contains("is not a model zip", Assert.Throws<AdapterException>(() => catalog.Load(Zip)).Message);
        using QwenLoraTransformer model = _bench.Model();
        ITransformer copy = _bench.Context.Transforms.CopyColumns("Kept", "Instruction").Fit(_bench.Rows);
        _bench.Save(copy);
        Assert.Contains("holds no model of this library", Assert.Throws<AdapterException>(() => catalog.Load(Zip)).Message);
        _bench.Save(new TransformerChain<ITransformer>(copy, model));
        Assert.Contains("holds a chain of transformers", Assert.Throws<AdapterException>(() => catalog.Load(Zip)).Message);
    }

    [Fact]
    public void A_bomb_is_refused_before_it_is_unpacked()
    {
        using QwenLoraTransformer model = _bench.Model();
        model.Save(Zip);

        // 1 GB of zeros in a megabyte, where configuration and base allow 100 MB and the factors.
        Replace("adapter_model.safetensors", stream =>
        {
            byte[] zeros = new byte[1 << 20];
            for (int i = 0; i < 1024; i++)
            {
                stream.Write(zeros);
            }
        });
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Contains("more than the", Assert.Throws<AdapterException>(() => _bench.Context.TextGeneration.Load(Zip)).Message);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 64 << 20);
        Assert.Contains("more than the", Assert.ThrowsAny<Exception>(() => _bench.Context.Model.Load(Zip, out _)).GetBaseException().Message);
    }

    [Fact]
    public void Damage_is_told_as_such()
    {
        using QwenLoraTransformer model = _bench.Model();
        model.Save(Zip);
        byte[] whole = File.ReadAllBytes(Zip);
        TextGenerationCatalog catalog = _bench.Context.TextGeneration;

        Add("TransformerChain/adapter_config.json", "{}");
        Assert.Contains("2 entries", Assert.Throws<AdapterException>(() => catalog.Load(Zip)).Message);
        File.WriteAllBytes(Zip, whole);
        Replace("adapter_model.safetensors", stream => stream.Write("short"u8));
        Assert.ThrowsAny<MLNetLoraException>(() => catalog.Load(Zip));
        File.WriteAllBytes(Zip, whole);
        AddMany(10_001);
        Assert.Contains("entries, more than the 10000", Assert.Throws<AdapterException>(() => catalog.Load(Zip)).Message);

        // Every prefix of a zip is an error of ours.
        foreach (int length in (int[])[0, 1, 100, whole.Length / 2, whole.Length - 1])
        {
            File.WriteAllBytes(Zip, whole[..length]);
            Assert.Throws<AdapterException>(() => catalog.Load(Zip));
        }
    }

    private string[] Names() => [.. Directory.EnumerateFileSystemEntries(_bench.Folder).Select(path => Path.GetFileName(path)!).Order(StringComparer.Ordinal)];

    private void Add(string name, string text)
    {
        using ZipArchive zip = ZipFile.Open(Zip, ZipArchiveMode.Update);
        using Stream stream = zip.CreateEntry(name).Open();
        stream.Write(Encoding.UTF8.GetBytes(text));
    }

    private void AddMany(int count)
    {
        using ZipArchive zip = ZipFile.Open(Zip, ZipArchiveMode.Update);
        for (int i = 0; i < count; i++)
        {
            zip.CreateEntry($"TransformerChain/{i}");
        }
    }

    private void Replace(string name, Action<Stream> write)
    {
        using ZipArchive zip = ZipFile.Open(Zip, ZipArchiveMode.Update);
        ZipArchiveEntry entry = zip.Entries.Single(entry => entry.Name == name);
        string fullName = entry.FullName;
        entry.Delete();
        using Stream stream = zip.CreateEntry(fullName).Open();
        write(stream);
    }

    private sealed class FullDisk : ITransformer
    {
        public bool IsRowToRowMapper => false;

        public DataViewSchema GetOutputSchema(DataViewSchema inputSchema) => inputSchema;

        public IRowToRowMapper GetRowToRowMapper(DataViewSchema inputSchema) => throw new NotSupportedException();

        public IDataView Transform(IDataView input) => input;

        public void Save(ModelSaveContext ctx) => throw new IOException("No space left on device");
    }
}
