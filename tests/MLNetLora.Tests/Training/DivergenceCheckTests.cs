using MLNetLora.Runtime;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>What is said of gradients that cannot be learned from.</summary>
public sealed class DivergenceCheckTests
{
    [Fact]
    public void A_gradient_of_zero_is_blamed_on_the_learning_rate_only_after_it_had_a_say()
    {
        string first = Assert.Throws<TrainingDivergedException>(() => DivergenceCheck.Require(After(0), 2.5, 0)).Message;
        Assert.StartsWith("The gradient of step 1 is exactly zero at a loss of 2.500: the loss does not depend on what is trained", first,
            StringComparison.Ordinal);
        Assert.DoesNotContain("LearningRate", first, StringComparison.Ordinal);
        string second = Assert.Throws<TrainingDivergedException>(() => DivergenceCheck.Require(After(1), 2.5, 0)).Message;
        Assert.EndsWith("training has diverged. Lower LearningRate.", second, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(double.NaN, 1f)]
    [InlineData(2.5, float.NaN)]
    [InlineData(2.5, float.PositiveInfinity)]
    public void What_is_not_finite_ends_the_run(double loss, float norm) =>
        Assert.Throws<TrainingDivergedException>(() => DivergenceCheck.Require(After(2), loss, norm));

    [Fact]
    public void A_loss_of_nothing_may_have_no_gradient() => DivergenceCheck.Require(After(0), 1e-4, 0);

    [Fact]
    public void Steps_that_were_skipped_had_no_say()
    {
        TrainingState skipped = After(3) with { Skipped = 3, Scale = LossScale.For(ComputeType.Float16) };
        TrainingDivergedException zero = Assert.Throws<TrainingDivergedException>(() => DivergenceCheck.Require(skipped, 2.5, 0));
        Assert.DoesNotContain("LearningRate", zero.Message, StringComparison.Ordinal);
        Assert.Equal((4, 0), (zero.Step, zero.LastGoodStep));
        string infinite = Assert.Throws<TrainingDivergedException>(() => DivergenceCheck.Require(skipped, double.NaN, float.NaN)).Message;
        Assert.StartsWith("The loss of step 4 is NaN: numbers inside are beyond float16's 65,504. Set ComputeType to BFloat16", infinite,
            StringComparison.Ordinal);
        Assert.Contains("Each of the 3 steps was skipped", Assert.Throws<TrainingDivergedException>(() => DivergenceCheck.RequireAnyStep(skipped)).Message,
            StringComparison.Ordinal);
        DivergenceCheck.RequireAnyStep(skipped with { Skipped = 2 });
        Assert.StartsWith("2 of 19 steps were skipped", Assert.Single(DivergenceCheck.Warnings(skipped with { Step = 19, Skipped = 2 })),
            StringComparison.Ordinal);
        Assert.Empty(DivergenceCheck.Warnings(skipped with { Step = 20, Skipped = 2 }));
    }

    private static TrainingState After(int steps) => TrainingState.Start(LossScale.None) with { Step = steps };
}
