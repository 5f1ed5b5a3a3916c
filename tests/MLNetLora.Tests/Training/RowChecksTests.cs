using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>Rows that cannot be trained on are refused before the first step.</summary>
public sealed class RowChecksTests
{
    [Fact]
    public void A_row_without_tokens_is_named() => Refused("Row 2 of the training rows is empty", new([1, 2], [-100, 2]), new([], []));

    [Fact]
    public void Only_empty_rows_are_called_empty() => Refused("Row 1 of the training rows is empty", new TrainingRow([], []));

    [Fact]
    public void Ids_and_labels_outside_the_vocabulary_are_named_with_their_position()
    {
        Refused("Row 1 of the training rows has the token id 5 at position 2", new TrainingRow([0, 4, 5], [-100, 4, -100]));
        Refused("Row 1 of the training rows has the token id -1 at position 1", new TrainingRow([0, -1], [-100, 0]));
        Refused("Row 2 of the training rows has the label 5 at position 1", new([0, 1], [0, 1]), new([0, 1], [0, 5]));
        Refused("Row 1 of the training rows has the label -1 at position 0", new TrainingRow([0, 1], [-1, 1]));
        Refused("has 2 ids but 1 labels", new TrainingRow([0, 1], [0]));
    }

    [Fact]
    public void The_first_and_the_last_id_are_tokens() => RowChecks.Check(
        [new TrainingRow([0, 4], [0, 0]), new TrainingRow([4, 0], [-100, 4])],
        vocabulary: 5,
        "training");

    [Fact]
    public void A_batch_is_not_larger_than_the_rows_there_are()
    {
        using TemporaryFolder folder = new();
        TinyModel.WriteConfig(folder.Path, "qwen3", tied: true);
        QwenConfig config = QwenConfig.Read(folder.Path) with { IntermediateSize = 1 << 20 };
        TrainingRow[] rows = [new([.. Enumerable.Repeat(1, 16)], [.. Enumerable.Repeat(1, 16)])];
        RowChecks.CheckSizes([.. rows, .. rows], config, new TrainingOptions { BatchSize = 1000 });
        TrainingRow[] many = [.. Enumerable.Repeat(rows[0], 1000)];
        Assert.Throws<OptionException>(() => RowChecks.CheckSizes(many, config, new TrainingOptions { BatchSize = 1000 }));
    }

    private static void Refused(string expected, params TrainingRow[] rows) =>
        Assert.Contains(expected, Assert.Throws<DatasetException>(() => RowChecks.Check(rows, vocabulary: 5, "training")).Message, StringComparison.Ordinal);
}
