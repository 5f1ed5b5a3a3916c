using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;
using MLNetLora.Cli.NewCheckpoint;

namespace MLNetLora.Cli.Tests;

public sealed class NewCheckpointTests : IDisposable
{
    private static readonly ModelSize s_small = ModelSize.Find("Qwen2.5-0.5B") with
    {
        Layers = 1,
        HiddenSize = 64,
        Heads = 2,
        KeyValueHeads = 1,
        HeadDimension = 32,
        IntermediateSize = 96,
        VocabularySize = 2001
    };
    private readonly TemporaryFolder _folder = new();

    [Theory]
    [InlineData("--layers is 1000000", "--layers", "1000000")]
    [InlineData("--hidden-size is 10000000", "--hidden-size", "10000000")]
    [InlineData("--heads is 2000000000", "--heads", "2000000000")]
    [InlineData("--key-heads is -1", "--key-heads", "-1")]
    [InlineData("--vocab-size is 2147483647", "--vocab-size", "2147483647")]
    [InlineData("--intermediate-size is 0", "--intermediate-size", "0")]
    [InlineData("GB would be written: ", "--layers", "9000", "--hidden-size", "1000000")]
    [InlineData("sparse files may have 100,000.0 GB", "--layers", "9000", "--hidden-size", "1000000", "--sparse", "--shard-size", "1e8")]
    [InlineData("a larger --shard-size", "--layers", "9000", "--shard-size", "0.000001")]
    public async Task Sizes_that_no_disk_has_are_refused_before_anything_is_written(string expected, params string[] sizes)
    {
        string folder = _folder.At("deep/absurd");
        Outcome run = await Cli.Run(["new-checkpoint", "--size", "Qwen2.5-0.5B", "--out", folder, .. sizes]);
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Contains(expected, run.Error, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder.At("deep")));
    }

    [Fact]
    public async Task Experts_without_number_are_refused()
    {
        Outcome run = await Cli.Run("new-checkpoint", "--size", "Qwen3-30B-A3B", "--experts", "16000", "--layers", "9000", "--sparse", "--out",
            _folder.At("many"));
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Contains("tensors; at most 1,000,000", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Sizes_are_counted_without_counting_every_tensor() => Assert.All(ModelSize.Published, size =>
    {
        TensorSpec[] tensors = [.. size.Tensors()];
        Assert.Equal((size.Parameters, tensors.Length), SizeLimits.Totals(size));
    });

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("Qwen-1_8B", 1_836_828_672)]
    [InlineData("Qwen2.5-0.5B", 494_032_768)]
    [InlineData("Qwen2.5-1.5B", 1_543_714_304)]
    [InlineData("Qwen2.5-7B", 7_615_616_512)]
    [InlineData("qwen3-0.6b", 596_049_920)]
    [InlineData("Qwen3-8B", 8_190_735_360)]
    [InlineData("Qwen1.5-MoE-A2.7B", 14_315_784_192)]
    [InlineData("Qwen3-30B-A3B", 30_532_122_624)]
    [InlineData("Qwen3.5-0.8B", 752_393_024)]
    public void Parameter_counts_are_the_published_ones(string name, long parameters) => Assert.Equal(parameters, ModelSize.Find(name).Parameters);

    [Theory]
    [InlineData("Qwen-1_8B")]
    [InlineData("Qwen2.5-0.5B")]
    [InlineData("Qwen3-0.6B")]
    [InlineData("Qwen1.5-MoE-A2.7B")]
    [InlineData("Qwen3-30B-A3B")]
    [InlineData("Qwen3.5-0.8B")]
    public void The_library_opens_one_of_each_family(string name)
    {
        ModelSize published = ModelSize.Find(name);
        ModelSize size = s_small with { Family = published.Family, DeltaNet = published.DeltaNet, Layers = 4, KeyValueHeads = 2, VocabularySize = 500 };
        size = size with { Experts = published.Experts is { } experts ? experts with { Count = 12, IntermediateSize = 16 } : null };
        new CheckpointWriter(size, ElementType.BFloat16).Write(_folder.At(name));
        Assert.Equal(size.Parameters, MLNetLora.Models.Checkpoint.Open(_folder.At(name)).ParameterCount);
    }

    [Fact]
    public void Weights_are_normal_and_norms_are_one()
    {
        Dictionary<string, (string Type, int[] Shape, byte[] Data)> tensors = Write("a", ElementType.Float32);
        float[] embedding = Floats(tensors["model.embed_tokens.weight"].Data);
        Assert.Equal(2001 * 64, embedding.Length);
        Assert.InRange(embedding.Average(), -0.0005, 0.0005);
        Assert.InRange(Math.Sqrt(embedding.Average(value => (double)value * value)), 0.0195, 0.0205);
        Assert.InRange(embedding.Max(), 0.07f, 0.09f);
        Assert.All(Floats(tensors["model.norm.weight"].Data), value => Assert.Equal(1f, value));
        Assert.Equal([32], tensors["model.layers.0.self_attn.k_proj.bias"].Shape);
        Assert.NotEqual(tensors["model.layers.0.mlp.gate_proj.weight"].Data, tensors["model.layers.0.mlp.up_proj.weight"].Data);
        Assert.Equal(12 + 2, tensors.Count);
    }

    [Fact]
    public void Every_dtype_holds_the_same_numbers_rounded()
    {
        float[] full = Floats(Write("f32", ElementType.Float32)["model.embed_tokens.weight"].Data);
        (string type, int[] _, byte[] bf16) = Write("bf16", ElementType.BFloat16)["model.embed_tokens.weight"];
        Assert.Equal("BF16", type);
        ReadOnlySpan<ushort> stored = MemoryMarshal.Cast<byte, ushort>(bf16);
        ReadOnlySpan<Half> halves = MemoryMarshal.Cast<byte, Half>(Write("f16", ElementType.Float16)["model.embed_tokens.weight"].Data);
        for (int i = 0; i < full.Length; i++)
        {
            float value = BitConverter.UInt32BitsToSingle((uint)stored[i] << 16);
            if (Math.Abs(value - full[i]) > Math.Abs(full[i]) / 256)
            {
                Assert.Fail($"element {i}: {full[i]} was stored as {value}");
            }

            if (halves[i] != (Half)full[i])
            {
                Assert.Fail($"element {i}: {full[i]} was stored as {halves[i]}");
            }
        }
    }

    [Fact]
    public void Shards_hold_what_the_single_file_holds_and_the_index_names_them()
    {
        Dictionary<string, (string Type, int[] Shape, byte[] Data)> whole = Write("whole", ElementType.Float32);
        Dictionary<string, (string Type, int[] Shape, byte[] Data)> sharded = Write("sharded", ElementType.Float32, shardBytes: 30_000);
        Assert.Equal(whole.Keys.Order(StringComparer.Ordinal), sharded.Keys.Order(StringComparer.Ordinal));
        Assert.All(whole, tensor => Assert.Equal(tensor.Value.Data, sharded[tensor.Key].Data));

        using JsonDocument index = JsonDocument.Parse(File.ReadAllBytes(_folder.At("sharded/model.safetensors.index.json")));
        string[] files = [.. index.RootElement.GetProperty("weight_map").EnumerateObject().Select(entry => entry.Value.GetString()!).Distinct()];
        Assert.True(files.Length > 2);
        Assert.All(files, file => Assert.True(File.Exists(_folder.At("sharded/" + file)), file));
        Assert.Equal(whole.Values.Sum(tensor => tensor.Data.Length), index.RootElement.GetProperty("metadata").GetProperty("total_size").GetInt64());
    }

    [Fact]
    public void The_same_seed_gives_the_same_bytes_and_another_one_others()
    {
        Write("one", ElementType.BFloat16);
        Write("two", ElementType.BFloat16);
        Write("three", ElementType.BFloat16, seed: 43);
        byte[] one = File.ReadAllBytes(_folder.At("one/model.safetensors"));
        Assert.Equal(one, File.ReadAllBytes(_folder.At("two/model.safetensors")));
        Assert.NotEqual(one, File.ReadAllBytes(_folder.At("three/model.safetensors")));
    }

    [Fact]
    public void Nothing_half_written_is_left_and_nothing_is_overwritten()
    {
        Write("a", ElementType.Float32);
        Assert.Equal(["a"], Directory.GetDirectories(_folder.Path).Select(path => Path.GetFileName(path)));
        Assert.Contains("exists already", Assert.Throws<OptionException>(() => Write("a", ElementType.Float32)).Message, StringComparison.Ordinal);
        CheckpointWriter writer = new(s_small, ElementType.Float32) { TokenizerFolder = _folder.At("nowhere") };
        Assert.Contains("no tokenizer folder", Assert.Throws<OptionException>(() => writer.Write(_folder.At("b"))).Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder.At("b")));
    }

    [Fact]
    public void Sparse_files_have_their_size_zeros_and_the_norms()
    {
        ModelSize size = s_small with { Layers = 3 };
        new CheckpointWriter(size, ElementType.BFloat16) { IsSparse = true }.Write(_folder.At("holes"));
        MLNetLora.Models.Checkpoint checkpoint = MLNetLora.Models.Checkpoint.Open(_folder.At("holes"));
        Assert.Equal(size.Parameters, checkpoint.ParameterCount);
        Assert.All(checkpoint.Tensors["model.embed_tokens.weight"].ReadFloat32(), value => Assert.Equal(0f, value));
        Assert.All(checkpoint.Tensors["model.norm.weight"].ReadFloat32(), value => Assert.Equal(1f, value));
    }

    [Fact]
    public void Unknown_sizes_and_types_are_refused_with_the_known_ones()
    {
        Assert.Contains("Qwen3-0.6B", Assert.Throws<OptionException>(() => ModelSize.Find("Qwen9")).Message, StringComparison.Ordinal);
        Assert.Contains("bf16", Assert.Throws<OptionException>(() => ElementType.Find("int8")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_configuration_tells_the_sizes()
    {
        Write("a", ElementType.BFloat16);
        using JsonDocument config = JsonDocument.Parse(File.ReadAllBytes(_folder.At("a/config.json")));
        Assert.Equal("qwen2", config.RootElement.GetProperty("model_type").GetString());
        Assert.Equal("bfloat16", config.RootElement.GetProperty("torch_dtype").GetString());
        Assert.Equal(2000, config.RootElement.GetProperty("eos_token_id").GetInt32());
        Assert.False(config.RootElement.TryGetProperty("head_dim", out _));
    }

    [Theory]
    [InlineData(0.5, 0)]
    [InlineData(0.975, 1.959963985)]
    [InlineData(0.001, -3.090232306)]
    public void Quantiles_are_those_of_the_normal_distribution(double probability, double expected) =>
        Assert.Equal(expected, NormalNoise.Quantile(probability), 1e-7);

    private Dictionary<string, (string Type, int[] Shape, byte[] Data)> Write(string name, ElementType type, long shardBytes = long.MaxValue, ulong seed = 42)
    {
        new CheckpointWriter(s_small, type) { ShardBytes = shardBytes, Seed = seed }.Write(_folder.At(name));
        Dictionary<string, (string, int[], byte[])> tensors = [];
        foreach (string file in Directory.GetFiles(_folder.At(name), "*.safetensors"))
        {
            Read(file, tensors);
        }

        return tensors;
    }

    private static void Read(string path, Dictionary<string, (string, int[], byte[])> tensors)
    {
        byte[] file = File.ReadAllBytes(path);
        int headerLength = (int)BinaryPrimitives.ReadInt64LittleEndian(file);
        Assert.Equal(0, headerLength % 8);
        using JsonDocument header = JsonDocument.Parse(file.AsMemory(8, headerLength));
        int end = 0;
        foreach (JsonProperty entry in header.RootElement.EnumerateObject().Where(entry => entry.Name != "__metadata__"))
        {
            int[] offsets = [.. entry.Value.GetProperty("data_offsets").EnumerateArray().Select(offset => offset.GetInt32())];
            Assert.Equal(end, offsets[0]);
            end = offsets[1];
            int[] shape = [.. entry.Value.GetProperty("shape").EnumerateArray().Select(dimension => dimension.GetInt32())];
            tensors[entry.Name] = (entry.Value.GetProperty("dtype").GetString()!, shape,
                file[(8 + headerLength + offsets[0])..(8 + headerLength + offsets[1])]);
        }
        Assert.Equal(file.Length, 8 + headerLength + end);
    }

    private static float[] Floats(byte[] data) => MemoryMarshal.Cast<byte, float>(data).ToArray();
}
