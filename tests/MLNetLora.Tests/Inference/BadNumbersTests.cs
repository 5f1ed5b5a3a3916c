using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Training;

namespace MLNetLora.Tests.Inference;

/// <summary>Scores that are not numbers are an error that says where they begin; they used to become the token 0, over and over.</summary>
public sealed class BadNumbersTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("model.layers.1.mlp.up_proj.weight", float.NaN)]
    [InlineData("model.layers.0.input_layernorm.weight", float.PositiveInfinity)]
    public async Task A_bad_weight_is_named(string name, float value)
    {
        Write(name, value);
        using CausalLanguageModel lm = new(Checkpoint.Open(_folder.File("model")), threads: 1);
        CheckpointException error = Assert.Throws<CheckpointException>(() => lm.Generate([[2, 3], [4]], new()));
        Assert.Contains(name, error.Message, StringComparison.Ordinal);
        Assert.Contains("model.safetensors", error.Message, StringComparison.Ordinal);
        GenerationRequest request = lm.Begin([2, 3], lm.Prepare(new()), null, 0, default);
        Assert.Equal(error.Message, (await Assert.ThrowsAsync<CheckpointException>(() => lm.ResultAsync(request))).Message);
    }

    /// <summary>Products of 8-bit integers made fluent answers of them.</summary>
    [Theory]
    [InlineData("model.layers.1.mlp.up_proj.weight", WeightPrecision.Int8)]
    [InlineData("model.layers.1.mlp.up_proj.weight", WeightPrecision.Int4)]
    [InlineData("model.layers.1.mlp.up_proj.weight", WeightPrecision.Nf4)]
    [InlineData("model.layers.1.mlp.up_proj.weight", WeightPrecision.Nf4Double)]
    [InlineData("model.layers.0.input_layernorm.weight", WeightPrecision.Int8)]
    [InlineData("model.norm.weight", WeightPrecision.Fp4Double)]
    public void In_a_base_that_is_quantized_it_is_named_before_anything_is_asked(string name, WeightPrecision precision)
    {
        Write(name, float.NaN);
        Checkpoint checkpoint = Checkpoint.Open(_folder.File("model"));
        string message = Assert.Throws<CheckpointException>(() => new CausalLanguageModel(checkpoint, threads: 1, precision: precision)).Message;
        Assert.Contains(name, message, StringComparison.Ordinal);
        Assert.Contains(_folder.File("model"), message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_bad_weight_ends_a_training_in_8_or_4_bits_before_its_first_step()
    {
        Write("model.layers.1.mlp.up_proj.weight", float.NaN);
        Checkpoint checkpoint = Checkpoint.Open(_folder.File("model"));
        foreach (WeightPrecision precision in (WeightPrecision[])[WeightPrecision.Int8, WeightPrecision.Nf4])
        {
            TrainingOptions options = new() { MaximumSteps = 1, Precision = precision };
            string message = Assert.Throws<CheckpointException>(() =>
                LoraTraining.Train(checkpoint, new LoraOptions { Rank = 2 }, [TinyModel.Row(new Random(1), 12)], options)).Message;
            Assert.Contains("up_proj", message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_bad_adapter_on_a_base_that_is_quantized_is_named()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"));
        LoraAdapter adapter = LoraAdapter.Create(new LoraOptions { Rank = 2 }, checkpoint, 1);
        adapter.Factors[^1].B[3] = float.NaN;
        AdapterException error = Assert.Throws<AdapterException>(() => new CausalLanguageModel(checkpoint, adapter, precision: WeightPrecision.Int8));
        Assert.Contains(adapter.Factors[^1].Module.Module.Name, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_bad_adapter_is_named()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"));
        LoraAdapter adapter = LoraAdapter.Create(new LoraOptions { Rank = 2 }, checkpoint, 1);
        adapter.Factors[^1].B[3] = float.NaN;
        using CausalLanguageModel lm = new(checkpoint, adapter, threads: 1);
        Assert.Contains(adapter.Factors[^1].Module.Module.Name, Assert.Throws<AdapterException>(() => lm.Generate([[2, 3]], new())).Message,
            StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("model.norm.weight")]
    [InlineData("model.layers.1.self_attn.q_proj.base_layer.bias")]
    [InlineData("model.embed_tokens.token_adapter.trainable_tokens_delta")]
    public void A_bad_tensor_that_was_trained_beside_the_factors_is_named(string name)
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), "qwen2");
        LoraOptions options = new() { Rank = 2, Bias = LoraBias.All, ModulesToSave = ["norm"], TrainableTokenIndices = [3] };
        LoraAdapter adapter = LoraAdapter.Create(options, checkpoint, 1);
        string key = "base_model.model." + name;
        adapter.Tensors.Single(tensor => tensor.Tensor.Key == key).Values[0] = float.NaN;
        using CausalLanguageModel lm = new(checkpoint, adapter, threads: 1);
        AdapterException error = Assert.Throws<AdapterException>(() => lm.Generate([[2, 3]], new()));
        Assert.StartsWith($"The adapter cannot answer: its tensor {key} holds NaN", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_adapter_whose_scaling_overflows_is_blamed_and_not_the_base()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"));
        LoraAdapter adapter = LoraAdapter.Create(new LoraOptions { Rank = 2, Alpha = 1e38 }, checkpoint, 1);
        foreach (LoraFactors factors in adapter.Factors)
        {
            factors.B.AsSpan().Fill(1e10f);
        }

        using CausalLanguageModel lm = new(checkpoint, adapter, threads: 1);
        Assert.Contains("Its scaling is up to 5E+37", Assert.Throws<AdapterException>(() => lm.Generate([[2, 3]], new())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Products_that_overflow_are_said_to_be_that()
    {
        Write("model.norm.weight", float.MaxValue);
        using CausalLanguageModel lm = new(Checkpoint.Open(_folder.File("model")), threads: 1);
        Assert.Contains("overflow", Assert.Throws<CheckpointException>(() => lm.Generate([[2, 3]], new() { RepetitionPenalty = 1e-30f })).Message,
            StringComparison.Ordinal);
    }

    // All of a tensor, in its place.
    private void Write(string name, float value)
    {
        CheckpointTensor tensor = TinyModel.WriteCheckpoint(_folder.File("model")).Tensors[name];
        byte[] numbers = [.. Enumerable.Repeat(BitConverter.GetBytes(value), (int)(tensor.Entry.Length / sizeof(float))).SelectMany(bytes => bytes)];
        using FileStream file = new(tensor.File.Source, FileMode.Open, FileAccess.Write);
        file.Position = tensor.Entry.Offset;
        file.Write(numbers);
    }
}
