using System.IO.Compression;
using System.Reflection;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.ML;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>Everything in the base folder that decides an answer is verified, and nothing else.</summary>
public sealed class BaseModelRecordTests : IDisposable
{
    private readonly Workbench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void A_config_that_is_only_written_otherwise_is_the_same()
    {
        BaseModelRecord record = Record();
        Change("config.json", config => config["architectures"] = new JsonArray("Other"));
        string path = PathOf("config.json");
        File.WriteAllText(path, JsonNode.Parse(File.ReadAllText(path))!.ToJsonString(new JsonSerializerOptions { WriteIndented = true }) + "\n\n");
        File.AppendAllText(PathOf("generation_config.json"), "\n");

        Assert.Null(record.Difference(_bench.BaseFolder));
    }

    [Fact]
    public void A_token_ends_the_comparison()
    {
        BaseModelRecord record = Record();
        Assert.Throws<OperationCanceledException>(() => record.Difference(_bench.BaseFolder, new CancellationToken(canceled: true)));
    }

    [Theory]
    [InlineData("rope_theta", 20000.0, "config.json differs: Rope ")]
    [InlineData("rms_norm_eps", 1e-5, "config.json differs: RmsNormEps 1E-06 was expected, it is 1E-05")]
    [InlineData("max_position_embeddings", 128, "config.json differs: MaxPositionEmbeddings 256 was expected, it is 128")]
    public void Another_value_in_config_is_named(string field, double value, string message)
    {
        BaseModelRecord record = Record();
        Change("config.json", config => config[field] = value == Math.Floor(value) ? (int)value : value);

        Assert.StartsWith(message, record.Difference(_bench.BaseFolder), StringComparison.Ordinal);
    }

    [Fact]
    public void Another_end_of_text_in_generation_config_is_named()
    {
        BaseModelRecord record = Record();
        Change("generation_config.json", config => config["eos_token_id"] = new JsonArray(5629));

        Assert.StartsWith("generation_config.json differs: EosTokenIds [5631,5629] was expected, it is [5629]", record.Difference(_bench.BaseFolder),
            StringComparison.Ordinal);
    }

    [Fact]
    public void Two_tokens_that_changed_their_ids_are_noticed()
    {
        BaseModelRecord record = Record();
        Change("tokenizer.json", tokenizer =>
        {
            JsonObject vocabulary = tokenizer["model"]!["vocab"]!.AsObject();
            string[] names = [.. vocabulary.Where(token => token.Value!.GetValue<int>() is 5000 or 5001).Select(token => token.Key)];
            (vocabulary[names[0]], vocabulary[names[1]]) = (vocabulary[names[1]]!.GetValue<int>(), vocabulary[names[0]]!.GetValue<int>());
        });

        Assert.StartsWith("the tokenizer differs: the vocabulary ", record.Difference(_bench.BaseFolder), StringComparison.Ordinal);
    }

    [Fact]
    public void Merges_in_another_order_are_noticed()
    {
        BaseModelRecord record = Record();
        Change("tokenizer.json", tokenizer =>
        {
            JsonArray merges = tokenizer["model"]!["merges"]!.AsArray();
            JsonNode first = merges[0]!;
            merges.RemoveAt(0);
            merges.Add(first);
        });

        Assert.StartsWith("the tokenizer differs: the merges ", record.Difference(_bench.BaseFolder), StringComparison.Ordinal);
    }

    [Fact]
    public void Another_chat_template_is_noticed()
    {
        BaseModelRecord record = Record();
        File.WriteAllText(PathOf("chat_template.jinja"), "{% for m in messages %}{{ m.content }}{% endfor %}");

        Assert.Equal("chat_template.jinja differs: it has another chat template", record.Difference(_bench.BaseFolder));
    }

    [Fact]
    public void One_value_in_any_tensor_of_a_small_file_is_noticed()
    {
        BaseModelRecord record = Record();
        string path = PathOf("model.safetensors");
        byte[] original = File.ReadAllBytes(path);
        Random random = new(1);
        foreach (TensorEntry tensor in SafetensorsFile.Open(path).Tensors.Values)
        {
            byte[] changed = [.. original];
            changed[tensor.Offset + random.NextInt64(tensor.Length)] ^= 1;
            File.WriteAllBytes(path, changed);
            Assert.Equal($"model.safetensors differs: the same tensors, but other weights in '{tensor.Name}'", record.Difference(_bench.BaseFolder));
        }
    }

    [Fact]
    public void A_tensor_that_was_trained_on_is_noticed_in_a_large_file()
    {
        // 40 tensors of 4 MB in a file that is too large to be hashed whole.
        using TemporaryFolder folder = new();
        const int size = 4 << 20;
        SafetensorsFile file = Sparse(folder, 40, size);
        BaseModelFile record = BaseModelFile.Create(folder.Path, "model.safetensors", WeightSample.Blocks([file]));
        Assert.Equal(64, record.Blocks);
        Random random = new(1);
        float[] values = new float[size / 4];
        foreach (int layer in (int[])[0, 17, 39])
        {
            Write(layer, [.. values.Select(_ => random.NextDouble() < 0.5 ? 0 : 1e-6f)]);
            Assert.Equal($"model.safetensors differs: the same tensors, but other weights in 'layer.{layer}'", record.ContentDifference(folder.Path));
            Write(layer, values);
            Assert.Null(record.ContentDifference(folder.Path));
        }

        void Write(int layer, float[] content)
        {
            using FileStream stream = File.OpenWrite(file.Source);
            stream.Position = file.Tensors[$"layer.{layer}"].Offset;
            stream.Write(System.Runtime.InteropServices.MemoryMarshal.AsBytes(content.AsSpan()));
        }
    }

    [Fact]
    public void Of_a_checkpoint_of_tens_of_thousands_of_tensors_fewer_blocks_are_read_and_each_tensor_is_seen_yet()
    {
        using TemporaryFolder folder = new();
        const int size = 20 << 10;
        SafetensorsFile file = Sparse(folder, 10_000, size);
        Assert.Equal(6, WeightSample.Blocks([file]));
        Assert.Equal(2, WeightSample.Blocks(Enumerable.Repeat(file, 10)));
        foreach (int blocks in (int[])[2, 6])
        {
            BaseModelFile record = BaseModelFile.Create(folder.Path, "model.safetensors", blocks);
            Assert.Equal((blocks, 10_000), (record.Blocks, record.Tensors!.Count));
            Write(1);
            Assert.Equal("model.safetensors differs: the same tensors, but other weights in 'layer.7777'", record.ContentDifference(folder.Path));
            Write(0);
            Assert.Null(record.ContentDifference(folder.Path));
        }

        using CancellationTokenSource cancelled = new();
        cancelled.Cancel();
        Assert.Throws<OperationCanceledException>(() => BaseModelFile.Create(folder.Path, "model.safetensors", 6, cancelled.Token));

        void Write(byte value)
        {
            using FileStream stream = File.OpenWrite(file.Source);
            stream.Position = file.Tensors["layer.7777"].Offset;
            stream.Write([.. Enumerable.Repeat(value, size)]);
        }
    }

    [Fact]
    public void A_zip_that_does_not_say_how_many_blocks_it_has_of_a_tensor_has_64()
    {
        using QwenLoraTransformer model = _bench.Model();
        string zip = _bench.Save(model);
        Rewrite(zip, record => Assert.True(record["base"]!["files"]![0]!.AsObject().Remove("blocks")));
        using QwenLoraTransformer loaded = (QwenLoraTransformer)new MLContext().Model.Load(zip, out _);
        Assert.Equal(64, loaded.Model.BaseModel.Files[0].Blocks);
        foreach (int wrong in (int[])[0, 1, 65, int.MaxValue])
        {
            Rewrite(zip, record => record["base"]!["files"]![0]!["blocks"] = wrong);
            TargetInvocationException refused = Assert.Throws<TargetInvocationException>(() => new MLContext().Model.Load(zip, out _));
            Assert.Contains("contradicts itself", Assert.IsType<AdapterException>(refused.InnerException).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_zip_of_format_1_is_read_with_its_own_checks_says_so_and_is_saved_anew()
    {
        using QwenLoraTransformer model = _bench.Model();
        string zip = _bench.Save(model);
        SafetensorsFile weights = SafetensorsFile.Open(PathOf("model.safetensors"));
        Rewrite(zip, record =>
        {
            JsonObject of = record["base"]!.AsObject();
            record["format"] = 1;
            Assert.True(of.Remove("fingerprint"));
            of["config_sha256"] = Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(PathOf("config.json"))));
            JsonObject file = of["files"]![0]!.AsObject();
            Assert.True(file.Remove("tensors"));
            file["sample_sha256"] = OldChecks.SampleSha256(weights);
        });

        MLContext context = new();
        List<string> log = [];
        context.Log += (_, message) => log.Add(message.RawMessage);
        using QwenLoraTransformer loaded = (QwenLoraTransformer)context.Model.Load(zip, out _);
        Assert.Equal(_bench.Answer("what"), loaded.Generate("what"));
        Assert.Contains(log, line => line.StartsWith("The model zip has format 1", StringComparison.Ordinal) && line.EndsWith("Save the model again.",
            StringComparison.Ordinal));

        File.AppendAllText(PathOf("config.json"), "\n");
        TargetInvocationException refused = Assert.Throws<TargetInvocationException>(() => new MLContext().Model.Load(zip, out _));
        Assert.Contains("config.json differs: SHA-256 ", Assert.IsType<CheckpointException>(refused.InnerException).Message, StringComparison.Ordinal);
        using QwenLoraTransformer again = (QwenLoraTransformer)new MLContext().Model.Load(_bench.Save(loaded, "again.zip"), out _);
        Assert.NotNull(again.Model.BaseModel.Fingerprint);
    }

    private BaseModelRecord Record()
    {
        BaseModelRecord record = BaseModelRecord.Create(_bench.BaseFolder, Checkpoint.Open(_bench.BaseFolder));
        Assert.Null(record.Difference(_bench.BaseFolder));
        return record;
    }

    private string PathOf(string name) => Path.Combine(_bench.BaseFolder, name);

    private void Change(string name, Action<JsonNode> change)
    {
        JsonNode node = JsonNode.Parse(File.ReadAllText(PathOf(name)))!;
        change(node);
        File.WriteAllText(PathOf(name), node.ToJsonString());
    }

    /// <summary>A file of tensors layer.0, layer.1, … that takes no room on the disk.</summary>
    private static SafetensorsFile Sparse(TemporaryFolder folder, int count, int size)
    {
        string path = folder.File("model.safetensors");
        string header = JsonSerializer.Serialize(Enumerable.Range(0, count).ToDictionary(
            i => $"layer.{i}",
            i => new { dtype = "F32", shape = new[] { size / 4 }, data_offsets = new[] { (long)i * size, (i + 1L) * size } }));
        using (FileStream stream = File.Create(path))
        {
            stream.Write(BitConverter.GetBytes((long)header.Length));
            stream.Write(Encoding.UTF8.GetBytes(header));
            stream.SetLength(8 + header.Length + ((long)count * size));
        }

        return SafetensorsFile.Open(path);
    }

    private static void Rewrite(string zip, Action<JsonNode> change)
    {
        using ZipArchive archive = ZipFile.Open(zip, ZipArchiveMode.Update);
        ZipArchiveEntry entry = archive.Entries.Single(entry => entry.Name == "mlnetlora.json");
        JsonNode record;
        using (Stream stream = entry.Open())
        {
            record = JsonNode.Parse(stream)!;
        }

        change(record);
        string name = entry.FullName;
        entry.Delete();
        using Stream written = archive.CreateEntry(name).Open();
        written.Write(Encoding.UTF8.GetBytes(record.ToJsonString()));
    }
}
