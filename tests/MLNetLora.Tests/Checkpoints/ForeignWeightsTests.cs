using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Tests.TextGeneration;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Checkpoints;

/// <summary>Files that are no weights, and weights that are not the ones that were opened.</summary>
public sealed class ForeignWeightsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("model.safetensors", "GGUF\u0003\0\0\0", "is a GGUF file")]
    [InlineData("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull")]
    [InlineData("model.safetensors", "PK\u0003\u0004rest", "pickle")]
    [InlineData("model.safetensors", "<!doctype html><html>", "web page")]
    [InlineData("config.json", "version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull")]
    [InlineData("config.json", "<!DOCTYPE html>", "web page")]
    public void Files_that_are_something_else_are_told(string name, string content, string said)
    {
        string folder = TinyCheckpoint.Write(_folder.File("base"));
        File.WriteAllText(Path.Combine(folder, name), content);
        string message = Assert.Throws<CheckpointException>(() => Checkpoint.Open(folder)).Message;
        Assert.StartsWith(Path.Combine(folder, name), message);
        Assert.Contains(said, message);
    }

    [Fact]
    public void A_file_as_a_model_is_told()
    {
        File.WriteAllText(_folder.File("model.gguf"), "GGUF\u0003\0\0\0");
        File.WriteAllText(_folder.File("notes.txt"), "notes");
        Assert.Contains("is a GGUF file", Assert.Throws<CheckpointException>(() => ModelFolder.Find(_folder.File("model.gguf"))).Message);
        Assert.Contains("is a file", Assert.Throws<CheckpointException>(() => ModelFolder.Find(_folder.File("notes.txt"))).Message);
        string folder = TinyCheckpoint.Write(_folder.File("base"));
        File.Delete(Path.Combine(folder, "model.safetensors"));
        File.Copy(_folder.File("model.gguf"), Path.Combine(folder, "model.gguf"));
        Assert.Contains(".gguf", Assert.Throws<CheckpointException>(() => Checkpoint.Open(folder)).Message);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Weights_that_were_replaced_while_open_end_the_call(bool deleted)
    {
        string folder = TinyCheckpoint.Write(_folder.File("base"));
        string weights = Path.Combine(folder, "model.safetensors");
        using CausalLanguageModel model = new(Checkpoint.Open(folder), threads: 1);
        GenerationOptions options = new() { MaximumNewTokens = 2 };
        model.Generate([[1, 2]], options);
        File.Move(weights, _folder.File("old"));
        if (!deleted)
        {
            TinyCheckpoint.Write(folder, seed: 2);
        }

        CheckpointException error = Assert.Throws<CheckpointException>(() => model.Generate([[1, 2]], options));
        Assert.StartsWith(weights, error.Message);
    }

    [Fact]
    public void Weights_that_are_replaced_during_training_end_it_with_the_adapter_of_the_last_step()
    {
        string folder = TinyCheckpoint.Write(_folder.File("base"));
        Checkpoint checkpoint = Checkpoint.Open(folder);
        TrainingRow[] rows = [.. Enumerable.Range(0, 6).Select(i => new TrainingRow([1, 2, 3 + i], [1, 2, 3 + i]))];
        TrainingException error = Assert.Throws<TrainingException>(() => LoraTraining.Train(
            checkpoint,
            new LoraOptions { TargetModules = ["q_proj"] },
            rows,
            new TrainingOptions { NumberOfEpochs = 1, GradientAccumulationSteps = 1, Threads = 1 },
            progress: step =>
            {
                if (step.Step == 2)
                {
                    File.Move(Path.Combine(folder, "model.safetensors"), _folder.File("old"));
                }
            }));
        Assert.IsType<CheckpointException>(error.InnerException);
        Assert.Equal(2, error.LastGoodStep);
        Assert.NotNull(error.LastGoodAdapter);
    }
}
