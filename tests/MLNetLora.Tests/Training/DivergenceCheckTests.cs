using MLNetLora.Artifacts;
using MLNetLora.Models;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>What is said of gradients that cannot be learned from.</summary>
public sealed class DivergenceCheckTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_gradient_of_zero_is_blamed_on_the_learning_rate_only_after_it_had_a_say()
    {
        TinyModel.WriteConfig(_folder.Path, "qwen3", tied: true, layers: 1);
        using ParameterSet parameters = new(TrainingTarget.Full(QwenConfig.Read(_folder.Path)).Trainables);
        string first = Assert.Throws<TrainingDivergedException>(() => DivergenceCheck.Require(1, 2.5, parameters)).Message;
        Assert.StartsWith("The gradient of step 1 is exactly zero at a loss of 2.500: the loss does not depend on what is trained", first,
            StringComparison.Ordinal);
        Assert.DoesNotContain("LearningRate", first, StringComparison.Ordinal);
        string second = Assert.Throws<TrainingDivergedException>(() => DivergenceCheck.Require(2, 2.5, parameters)).Message;
        Assert.EndsWith("training has diverged. Lower LearningRate.", second, StringComparison.Ordinal);
    }
}
