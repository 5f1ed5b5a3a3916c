using MLNetLora.Artifacts;
using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Artifacts;

/// <summary>Into how many parts the graphs are cut.</summary>
public sealed class ChunkPlanTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly QwenConfig _config;

    public ChunkPlanTests()
    {
        TinyModel.WriteConfig(_folder.Path, "qwen2", tied: true);
        _config = QwenConfig.Read(_folder.Path) with { VocabSize = 151_936 };
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(60, 1, false)]
    [InlineData(512, 4, false)]
    [InlineData(1024, 4, false)]
    [InlineData(1300, 6, true)]
    [InlineData(2048, 8, true)]
    [InlineData(4096, 16, true)]
    [InlineData(8192, 16, true)]
    [InlineData(16384, 32, true)]
    public void Attention_is_cut_by_length(int length, int chunks, bool recompute)
    {
        ChunkPlan plan = Plan([Row(length, 10)], new TrainingOptions());
        Assert.Equal(chunks, plan.Attention);
        Assert.Equal(recompute, plan.RecomputeAttention);
    }

    [Fact]
    public void The_loss_is_cut_for_ordinary_batches_and_not_for_the_rare_long_row()
    {
        TrainingRow[] rows = [.. Enumerable.Range(0, 99).Select(_ => Row(200, 100))];
        Assert.Equal(1, Plan(rows, new TrainingOptions()).Loss);
        Assert.Equal(2, Plan(rows, new TrainingOptions { BatchSize = 4 }).Loss);
        Assert.Equal(2, Plan([.. rows, Row(2000, 2000)], new TrainingOptions()).Loss); // 2,000 labels in chunks of up to 1,052
        Assert.Equal(8, Plan([Row(2000, 2000)], new TrainingOptions()).Loss);
    }

    [Fact]
    public void The_output_layer_is_cut_into_parts_of_up_to_ten_thousand_rows()
    {
        Assert.Equal(16, Plan([Row(60, 10)], new TrainingOptions()).Vocabulary);
        Assert.Equal(1, TrainingLoop.Plan(_config with { VocabSize = 10_000 }, [[Row(60, 10)]], [], new TrainingOptions()).Vocabulary);
    }

    [Fact]
    public void A_trained_output_layer_is_cut_no_further_than_four_times() =>
        Assert.Equal(4, TrainingLoop.Plan(_config, [[Row(8000, 8000)]], [], new TrainingOptions(), maximumLossChunks: 4).Loss);

    private ChunkPlan Plan(TrainingRow[] rows, TrainingOptions options) => TrainingLoop.Plan(_config, [.. rows.Select(row => new[] { row })], [], options);

    // The first token has nothing before it, so its label does not count.
    private static TrainingRow Row(int length, int labels) =>
        new(new int[length], [.. Enumerable.Range(0, length).Select(i => i >= length - labels ? 1 : TrainingRow.Ignore)]);
}
