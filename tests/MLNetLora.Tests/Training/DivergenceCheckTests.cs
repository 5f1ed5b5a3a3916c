using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>What is said of gradients that cannot be learned from.</summary>
public sealed class DivergenceCheckTests
{
    [Fact]
    public void A_gradient_of_zero_is_blamed_on_the_learning_rate_only_after_it_had_a_say()
    {
        string first = Assert.Throws<TrainingDivergedException>(() => DivergenceCheck.Require(1, 2.5, 0)).Message;
        Assert.StartsWith("The gradient of step 1 is exactly zero at a loss of 2.500: the loss does not depend on what is trained", first,
            StringComparison.Ordinal);
        Assert.DoesNotContain("LearningRate", first, StringComparison.Ordinal);
        string second = Assert.Throws<TrainingDivergedException>(() => DivergenceCheck.Require(2, 2.5, 0)).Message;
        Assert.EndsWith("training has diverged. Lower LearningRate.", second, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(double.NaN, 1f)]
    [InlineData(2.5, float.NaN)]
    [InlineData(2.5, float.PositiveInfinity)]
    public void What_is_not_finite_ends_the_run(double loss, float norm) =>
        Assert.Throws<TrainingDivergedException>(() => DivergenceCheck.Require(3, loss, norm));

    [Fact]
    public void A_loss_of_nothing_may_have_no_gradient() => DivergenceCheck.Require(1, 1e-4, 0);
}
