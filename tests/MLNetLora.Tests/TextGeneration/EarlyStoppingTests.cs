using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>What the validation losses of a run decide: its end, and which step comes out.</summary>
public sealed class EarlyStoppingTests : RunTests
{
    [Fact]
    public void The_best_step_is_what_comes_out_where_that_is_asked_for()
    {
        void Wild(QwenLoraTrainer.Options options)
        {
            Validated(options);
            (options.LearningRate, options.LoadBestModelAtEnd, options.SaveSteps) = (0.3, true, 0);
        }

        TrainingSummary summary = Run("best", Wild);
        int best = summary.BestStep!.Value;
        Assert.Equal([best], Kept("best"));
        Assert.Equal(File.ReadAllBytes(Bench.PathOf($"best/checkpoint-{best}/adapter_model.safetensors")), Result("best", summary));
        TrainingSummary last = Run("last", options =>
        {
            Wild(options);
            options.LoadBestModelAtEnd = false;
        });
        Assert.NotEqual(Result("best", summary), Result("last", last));
    }

    [Fact]
    public void A_run_ends_early_where_validation_becomes_no_better()
    {
        void Wild(QwenLoraTrainer.Options options)
        {
            Validated(options);
            (options.LearningRate, options.EvaluationSteps, options.EarlyStoppingPatience, options.MaximumSteps) = (0.5, 1, 2, 20);
        }

        TrainingSummary summary = Run("early", Wild);
        Assert.True(summary.StoppedEarly);
        Assert.Equal(summary.BestStep + 2, summary.Steps.Count);
        Assert.Equal(20, summary.Steps[^1].TotalSteps);
        Assert.Equal(summary.Steps.Count, Run("early", Wild, resume: true).Steps.Count); // a run that has ended stays so
        TrainingSummary patient = Run("patient", options =>
        {
            Wild(options);
            options.EarlyStoppingPatience = 5;
        });
        Assert.True(patient.Steps.Count > summary.Steps.Count);
        Assert.Equal(2, Run("threshold", options =>
        {
            Wild(options);
            (options.EarlyStoppingPatience, options.EarlyStoppingThreshold, options.LearningRate) = (1, 100, 1e-4);
        }).Steps.Count); // nothing is by so much better
    }
}
