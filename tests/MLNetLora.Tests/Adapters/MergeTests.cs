using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Tests.TextGeneration;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.Adapters;

/// <summary>A merged folder answers as base and adapter did, and adapter and merged weights never lie in one folder.</summary>
public sealed class MergeTests : IDisposable
{
    private readonly Workbench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void What_it_was_trained_to_be_asked_with_goes_along_and_comes_back()
    {
        using QwenLoraTransformer model = _bench.Model(options =>
        {
            options.SystemPrompt = "Be brief.";
            options.PromptTemplate = "Answer: {instruction}";
        });
        model.MergeAndSave(_bench.PathOf("merged"));

        GenerationOptions options = _bench.TrainerOptions().Generation;
        using TextGenerator merged = new(Checkpoint.Open(_bench.PathOf("merged")));
        int asked = merged.Generate([new InstructionRow("what")], options)[0].PromptTokens;
        Assert.Equal(model.Generate([new InstructionRow("what")], options)[0].PromptTokens, asked);
        Assert.Equal(new PromptSettings("Be brief.", "Answer: {instruction}"), PromptSettings.Load(_bench.PathOf("merged")));

        // Without the settings it is asked otherwise, so the comparison above can fail.
        File.Delete(Path.Combine(_bench.PathOf("merged"), PromptSettings.FileName));
        using TextGenerator bare = new(Checkpoint.Open(_bench.PathOf("merged")));
        Assert.NotEqual(asked, bare.Generate([new InstructionRow("what")], options)[0].PromptTokens);
    }

    /// <summary>Published checkpoints with tied embeddings have a copy as output layer; transformers does not tie two that differ.</summary>
    [Theory]
    [InlineData("model.embed_tokens.weight")]
    [InlineData("model.norm.weight")] // of another shape: nothing that is known, and left as it is
    public void Trained_tokens_go_into_a_copy_of_the_embedding_too(string copied)
    {
        Checkpoint tied = TinyModel.WriteCheckpoint(_bench.PathOf("tied"));
        SafetensorsWriter.Write(_bench.PathOf("copy.safetensors"), [.. tied.Tensors.Values.Select(Item),
            Item(tied.Tensors[copied]) with { Name = "lm_head.weight" }]);
        File.Move(_bench.PathOf("copy.safetensors"), _bench.PathOf("tied/model.safetensors"), overwrite: true);
        Checkpoint checkpoint = Checkpoint.Open(_bench.PathOf("tied"));
        LoraAdapter adapter = LoraAdapter.Create(new LoraOptions { Rank = 2, TrainableTokenIndices = [3, 1] }, checkpoint, 1);
        adapter.Tokens!.Values.AsSpan().Fill(0.25f);
        Merge.Save(checkpoint, adapter, _bench.PathOf("merged"));
        SafetensorsFile merged = SafetensorsFile.Open(_bench.PathOf("merged/model.safetensors"));
        float[] embedding = Read("model.embed_tokens.weight");
        Assert.Equal(0.25f, embedding[checkpoint.Config.HiddenSize * 3]);
        Assert.Equal(Read(copied), Read("lm_head.weight"));

        float[] Read(string name) => new CheckpointTensor(merged, merged.Tensors[name]).ReadFloat32();

        static SafetensorsWriter.Item Item(CheckpointTensor tensor) =>
            SafetensorsWriter.Item.From(tensor.Entry.Name, TensorType.Float32, tensor.Entry.Shape, tensor.ReadFloat32());
    }

    [Fact]
    public void A_base_that_was_replaced_is_neither_merged_nor_asked()
    {
        using QwenLoraTransformer model = _bench.Model();
        byte[] weights = File.ReadAllBytes(Path.Combine(_bench.BaseFolder, "model.safetensors"));
        weights.AsSpan()[^(weights.Length / 2)..].Reverse();
        File.WriteAllBytes(_bench.PathOf("other"), weights);
        File.Move(_bench.PathOf("other"), Path.Combine(_bench.BaseFolder, "model.safetensors"), overwrite: true);
        string message = Assert.Throws<CheckpointException>(() => model.MergeAndSave(_bench.PathOf("merged"))).Message;
        Assert.Contains("no longer the checkpoint that the adapter belongs to", message, StringComparison.Ordinal);
        Assert.Contains("model.safetensors", message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_bench.PathOf("merged")));
        Assert.Throws<CheckpointException>(() => model.Generate("what"));
    }

    [Fact]
    public void A_template_that_would_count_instead_of_the_base_s_is_refused()
    {
        Directory.CreateDirectory(_bench.PathOf("merged"));
        File.WriteAllText(_bench.PathOf("merged/chat_template.jinja"), "{{ messages }}");
        using QwenLoraTransformer model = _bench.Model();
        string message = Assert.Throws<OptionException>(() => model.MergeAndSave(_bench.PathOf("merged"))).Message;
        Assert.Contains("holds chat_template.jinja, which the base", message, StringComparison.Ordinal);
        message = Assert.Throws<OptionException>(() => _bench.Fit(options =>
            (options.Method, options.OutputFolder) = (FineTuningMethod.Full, _bench.PathOf("merged")))).Message;
        Assert.Contains("holds chat_template.jinja; give an empty folder", message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_adapter_that_lies_in_the_base_is_not_copied()
    {
        File.WriteAllText(Path.Combine(_bench.BaseFolder, "adapter_config.json"), "{}");
        File.WriteAllText(Path.Combine(_bench.BaseFolder, "chat_template.jinja"), "{{ messages }}");
        Checkpoint checkpoint = Checkpoint.Open(_bench.BaseFolder);
        Merge.Save(checkpoint, TinyCheckpoint.Adapter(_bench.BaseFolder), _bench.PathOf("merged"));
        Assert.False(File.Exists(Path.Combine(_bench.PathOf("merged"), "adapter_config.json")));
        Assert.True(File.Exists(Path.Combine(_bench.PathOf("merged"), "chat_template.jinja")));
        Assert.True(File.Exists(Path.Combine(_bench.PathOf("merged"), "config.json")));
    }

    [Fact]
    public void An_older_merge_and_an_older_adapter_stay_whole_when_the_new_one_fails()
    {
        Checkpoint checkpoint = Checkpoint.Open(_bench.BaseFolder);
        LoraAdapter adapter = TinyCheckpoint.Adapter(_bench.BaseFolder);
        Merge.Save(checkpoint, adapter, _bench.PathOf("merged"));
        byte[] merged = File.ReadAllBytes(Path.Combine(_bench.PathOf("merged"), "model.safetensors"));
        foreach (LoraFactors factors in adapter.Factors)
        {
            factors.B.AsSpan().Fill(1);
        }

        using CancellationTokenSource source = new();
        source.Cancel();
        Assert.Throws<OperationCanceledException>(() => Merge.Save(checkpoint, adapter, _bench.PathOf("merged"), cancellation: source.Token));
        Assert.Equal(merged, File.ReadAllBytes(Path.Combine(_bench.PathOf("merged"), "model.safetensors")));
        Assert.DoesNotContain(Directory.GetFiles(_bench.PathOf("merged")), file => file.EndsWith(".tmp", StringComparison.Ordinal));
        _ = Checkpoint.Open(_bench.PathOf("merged"));

        Merge.Save(checkpoint, adapter, _bench.PathOf("merged"));
        Assert.NotEqual(merged, File.ReadAllBytes(Path.Combine(_bench.PathOf("merged"), "model.safetensors")));
    }

    [Fact]
    public void An_adapter_that_overflows_is_not_merged()
    {
        LoraAdapter adapter = TinyCheckpoint.Adapter(_bench.BaseFolder);
        foreach (LoraFactors factors in adapter.Factors)
        {
            factors.A.AsSpan().Fill(3e38f);
            factors.B.AsSpan().Fill(3e38f);
        }

        Checkpoint checkpoint = Checkpoint.Open(_bench.BaseFolder);
        string message = Assert.Throws<AdapterException>(() => Merge.Save(checkpoint, adapter, _bench.PathOf("merged"))).Message;
        Assert.Contains("gives NaN or infinite numbers", message);
        Assert.Empty(Directory.GetFiles(_bench.PathOf("merged")));
    }

    [Fact]
    public void An_adapter_and_a_model_are_not_saved_into_one_folder()
    {
        Checkpoint checkpoint = Checkpoint.Open(_bench.BaseFolder);
        LoraAdapter adapter = TinyCheckpoint.Adapter(_bench.BaseFolder);
        Merge.Save(checkpoint, adapter, _bench.PathOf("merged"));
        string[] before = [.. Directory.GetFiles(_bench.PathOf("merged")).Order(StringComparer.Ordinal)];
        Assert.Contains("model.safetensors", Assert.Throws<OptionException>(() => adapter.SaveAsPeft(_bench.PathOf("merged"))).Message);
        Assert.Equal(before, Directory.GetFiles(_bench.PathOf("merged")).Order(StringComparer.Ordinal));

        adapter.SaveAsPeft(_bench.PathOf("adapter"));
        File.WriteAllText(Path.Combine(_bench.PathOf("adapter"), "adapter_model.safetensors.0123.tmp"), "left by a process that was killed");
        adapter.SaveAsPeft(_bench.PathOf("adapter")); // its own files it may replace
        Assert.Contains("adapter", Assert.Throws<OptionException>(() => Merge.Save(checkpoint, adapter, _bench.PathOf("adapter"))).Message);
        Assert.False(File.Exists(Path.Combine(_bench.PathOf("adapter"), "model.safetensors")));
    }

    [Fact]
    public void A_base_file_that_ends_early_is_told_and_leaves_nothing_half_written()
    {
        Checkpoint checkpoint = Checkpoint.Open(_bench.BaseFolder);
        LoraAdapter adapter = TinyCheckpoint.Adapter(_bench.BaseFolder);
        string weights = Path.Combine(_bench.BaseFolder, "model.safetensors");
        TensorEntry adapted = checkpoint.Tensors["model.layers.0.self_attn.q_proj.weight"].Entry;
        using (FileStream file = File.OpenWrite(weights))
        {
            file.SetLength(adapted.Offset + 4);
        }

        string message = Assert.Throws<CheckpointException>(() => Merge.Save(checkpoint, adapter, _bench.PathOf("merged"))).Message;
        Assert.Equal($"{weights} ended in the middle of '{adapted.Name}'.", message);
        Assert.Empty(Directory.GetFiles(_bench.PathOf("merged")));
    }

    [Theory]
    [InlineData(TensorType.Float32)]
    [InlineData(TensorType.BFloat16)]
    public void Rows_are_merged_some_at_a_time_to_the_same_numbers(object tensorType)
    {
        TensorType type = (TensorType)tensorType;
        // 3 x 2.1 million numbers: a row more than one block holds.
        const int inputs = 2_100_000;
        float[] weight = [.. Enumerable.Range(0, 3 * inputs).Select(i => (i % 127) / 64f)];
        string path = _bench.PathOf("wide.safetensors");
        SafetensorsWriter.Write(path, [SafetensorsWriter.Item.From("w", type, [3, inputs], weight)]);
        SafetensorsFile file = SafetensorsFile.Open(path);
        float[] a = [.. Enumerable.Range(0, inputs).Select(i => (i % 31) / 16f)];
        float[] b = [1, -2, 3];
        LoraModule module = new(new LinearModule("w", inputs, 3), Rank: 1, Alpha: 0.5, Scaling: 0.5);
        using FileStream source = File.OpenRead(path);
        using MemoryStream merged = new();
        Merge.WriteMerged(file, file.Tensors["w"], new LoraFactors(module, a, b), source, merged);

        float[] expected = [.. weight.Select((value, i) => value + (a[i % inputs] * b[i / inputs] * 0.5f))];
        byte[] bytes = FloatConversion.FromFloat32(expected, type);
        Assert.True(bytes.AsSpan().SequenceEqual(merged.ToArray()));
    }
}
