using MLNetLora.Checkpoints;
using MLNetLora.Inference;

namespace MLNetLora.Tests.Inference;

public sealed class BatchTests
{
    // Five prompts are enough rows for the session that lays products out for a few rows; a bias is in qwen2 only.
    [Theory]
    [InlineData("qwen2", true, TensorType.Float32)]
    [InlineData("qwen3", false, TensorType.Float32)]
    [InlineData("qwen2", false, TensorType.BFloat16)]
    [InlineData("qwen3_5_text", true, TensorType.BFloat16)]
    [InlineData("qwen3_5", false, TensorType.Float32)]
    public void Five_prompts_together_get_what_each_gets_alone(string modelType, bool tied, object tensorType)
    {
        TensorType type = (TensorType)tensorType;
        using TemporaryFolder folder = new();
        using CausalLanguageModel lm = new(TinyModel.WriteCheckpoint(folder.File("model"), modelType, tied, type), threads: 1);
        int[][] prompts = [[5, 6, 7], [9, 10, 11, 12, 13, 2], [20], [3, 3], [8, 4, 2, 6]];
        GenerationOptions options = new() { MaximumNewTokens = 20 };
        IReadOnlyList<GeneratedIds> together = lm.Generate(prompts, options);
        Assert.Equal(prompts.Select(prompt => lm.Generate([prompt], options)[0].Ids), together.Select(row => row.Ids));
        Assert.Contains(together, row => row.Ids.Count > 5);
    }
}
