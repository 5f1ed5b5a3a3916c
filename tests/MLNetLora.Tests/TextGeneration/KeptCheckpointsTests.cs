using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Models;
using MLNetLora.Training;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>The checkpoints of a run: what is in them, how many are kept, and what becomes of damaged ones.</summary>
public sealed class KeptCheckpointsTests : RunTests
{
    [Fact]
    public void Checkpoints_have_transformers_names()
    {
        TrainingSummary summary = Run("run", options =>
        {
            Validated(options);
            options.SystemPrompt = "Be brief.";
        });
        string folder = Bench.PathOf("run/checkpoint-4");
        Assert.Equal(["adapter_config.json", "adapter_model.safetensors", "mlnetlora_prompt.json", "mlnetlora_state.json", "trainer_state.json",
            "training_state.safetensors"], Directory.EnumerateFiles(folder).Select(Path.GetFileName).Order());
        LoraAdapter adapter = LoraAdapter.LoadPeft(folder, Checkpoint.Open(Bench.BaseFolder));
        Assert.Equal(4, adapter.Options.Rank);

        JsonElement state = JsonDocument.Parse(File.ReadAllText(Path.Combine(folder, "trainer_state.json"))).RootElement;
        Assert.Equal(["best_global_step", "best_metric", "best_model_checkpoint", "epoch", "eval_steps", "global_step", "is_hyper_param_search",
            "is_local_process_zero", "is_world_process_zero", "log_history", "logging_steps", "max_steps", "num_input_tokens_seen", "num_train_epochs",
            "save_steps", "stateful_callbacks", "total_flos", "train_batch_size", "trial_name", "trial_params"],
            state.EnumerateObject().Select(item => item.Name));
        Assert.Equal((4, Steps), (state.GetProperty("global_step").GetInt32(), state.GetProperty("max_steps").GetInt32()));
        Assert.Equal(4, state.GetProperty("log_history").EnumerateArray().Count(entry => entry.TryGetProperty("loss", out _)));
        Assert.Equal(2, state.GetProperty("log_history").EnumerateArray().Count(entry => entry.TryGetProperty("eval_loss", out _)));
        Assert.Equal(
            summary.Steps.Take(4).Select(step => (step.ValidationLoss, step.ValidationTokenAccuracy)),
            TrainerStateFile.Read(Path.Combine(folder, "trainer_state.json")).Select(step => (step.ValidationLoss, step.ValidationTokenAccuracy)));
        string best = state.GetProperty("best_model_checkpoint").GetString()!;
        Assert.Equal(Bench.PathOf($"run/checkpoint-{state.GetProperty("best_global_step").GetInt32()}"), best);
        Assert.True(File.Exists(Bench.PathOf("run/adapter_config.json")) && File.Exists(Bench.PathOf("run/trainer_state.json")));
    }

    [Fact]
    public void As_many_checkpoints_are_kept_as_asked_for_and_the_best()
    {
        Run("each", options => options.SaveSteps = 2);
        Assert.Equal([6, 4, 2], Kept("each"));
        Run("two", options => (options.SaveSteps, options.SaveTotalLimit) = (1, 2));
        Assert.Equal([6, 5], Kept("two"));
        Run("epochs", options => options.SaveSteps = null); // of two steps each
        Assert.Equal([6, 4, 2], Kept("epochs"));
        Run("never", options => options.SaveSteps = 0);
        Assert.Empty(Kept("never"));

        // The validation rows are others than the training rows, and the rate is high: the first evaluation is the best.
        TrainingSummary summary = Run("best", options =>
        {
            Validated(options);
            (options.LearningRate, options.SaveTotalLimit) = (0.3, 1);
        });
        Assert.True(summary.BestStep < Steps, $"{summary.BestStep}");
        Assert.Equal([Steps, summary.BestStep!.Value], Kept("best"));
    }

    [Fact]
    public void The_best_so_far_goes_when_a_better_one_comes_unless_it_was_due()
    {
        List<int[]> after = [];
        TrainingSummary summary = Run("run", options =>
        {
            (options.ValidationSet, options.EvaluationSteps, options.SaveSteps, options.Dropout) = (Bench.Rows, 1, 4, 0);
            options.ProgressCallback = _ => after.Add(Kept("run"));
        });
        Assert.Equal(Steps, summary.BestStep); // each was better than the one before
        Assert.Equal([6, 4], Kept("run"));
        Assert.All(after, kept => Assert.InRange(kept.Length, 0, 2));
    }

    [Fact]
    public void Each_epoch_has_one_where_that_is_asked_for()
    {
        Run("adapter", options => (options.SaveSteps, options.SaveEveryEpoch) = (5, true)); // an epoch has two steps
        Assert.Equal([6, 5, 4, 2], Kept("adapter"));
        foreach (bool each in (bool[])[false, true])
        {
            Run($"full-{each}", options =>
            {
                Full(options);
                (options.SaveSteps, options.SaveEveryEpoch) = (null, each);
            });
            Assert.Equal(each ? [6, 4, 2] : [], Kept($"full-{each}"));
        }

        Assert.Equal(7, Run("adapter", options => options.SaveEveryEpoch = false, resume: true).FirstStep); // it decides nothing of the result
    }

    [Fact]
    public void The_newest_is_the_one_of_the_last_step_whatever_the_clock_says()
    {
        Run("run", stopAfter: 4);
        foreach ((int step, string folder) in RunFolder.Checkpoints(Bench.PathOf("run")).ToArray())
        {
            DateTime time = new(2050 - (10 * step), 1, 1, 0, 0, 0, DateTimeKind.Utc); // the first in the future, the last long ago
            foreach (string path in Directory.EnumerateFiles(folder))
            {
                File.SetLastWriteTimeUtc(path, time);
            }

            Directory.SetLastWriteTimeUtc(folder, time);
        }

        Assert.Equal(5, Run("run", options => options.SaveTotalLimit = 2, resume: true).FirstStep);
        Assert.Equal([6, 5], Kept("run"));
    }

    [Fact]
    public void A_run_that_diverges_names_the_newest()
    {
        Run("run", stopAfter: 2);
        TrainingDivergedException error = Diverge("run");
        Assert.Equal(3, error.LastGoodStep); // the rate of the third is too high; the fourth is no number
        Assert.Contains($"The newest checkpoint is {Bench.PathOf("run/checkpoint-2")}. To go on from it, ", error.Message, StringComparison.Ordinal);
        Assert.Contains("set ResumeFrom to it, ResumeWithChanges to true", error.Message, StringComparison.Ordinal);
        Assert.Contains("SaveAsPeft", error.Message, StringComparison.Ordinal);
        Assert.Equal([2, 1], Kept("run"));
        Assert.Equal(3, Run("run", resume: true).FirstStep);

        Assert.DoesNotContain("newest checkpoint", Diverge("other").Message, StringComparison.Ordinal);
        TrainingDivergedException each = Diverge("each", saveSteps: 1); // the newest may be still under way then
        Assert.Contains($"The newest checkpoint is {Bench.PathOf($"each/checkpoint-{each.LastGoodStep}")}.", each.Message, StringComparison.Ordinal);

        TrainingDivergedException Diverge(string name, int saveSteps = 100) => Assert.Throws<TrainingDivergedException>(() => Run(name, options =>
        {
            (options.LearningRate, options.MaximumGradientNorm, options.SaveSteps) = (1e18, 0, saveSteps);
            options.ResumeWithChanges = name == "run";
        }, resume: true));
    }

    [Fact]
    public void Damaged_checkpoints_are_passed_over_and_named()
    {
        byte[] expected = Result("whole", Run("whole"));
        foreach (string file in Directory.EnumerateFiles(Bench.PathOf("whole/checkpoint-3")).Select(path => Path.GetFileName(path)!).ToArray())
        {
            foreach (Action<string> damage in (Action<string>[])[Truncate, Flip, File.Delete])
            {
                string name = $"run-{Guid.NewGuid():N}";
                Run(name, stopAfter: 3);
                string damaged = Bench.PathOf($"{name}/checkpoint-3/{file}");
                damage(damaged);
                TrainingSummary summary = Run(name, resume: true);
                Assert.Equal(3, summary.FirstStep);
                Assert.Equal(expected, Result(name, summary));
            }
        }

        Run("all", stopAfter: 1);
        Truncate(Bench.PathOf("all/checkpoint-1/training_state.safetensors"));
        Refused<CheckpointException>("training_state.safetensors has ", options => options.ResumeFrom = Bench.PathOf("all/checkpoint-1"));
        Assert.Equal(1, Run("all", resume: true).FirstStep);

        static void Truncate(string path)
        {
            using FileStream stream = File.OpenWrite(path);
            stream.SetLength(stream.Length / 2);
        }

        static void Flip(string path)
        {
            byte[] bytes = File.ReadAllBytes(path);
            bytes[bytes.Length / 2] ^= 1;
            File.WriteAllBytes(path, bytes);
        }
    }

    [Fact]
    public void A_place_that_cannot_be_written_to_ends_no_run()
    {
        string blocked = Bench.PathOf("run/checkpoint-2");
        TrainingSummary summary = Run("run", options => options.ProgressCallback = step =>
        {
            if (step.Step == 2)
            {
                File.WriteAllText(blocked, "a file where a folder is to be");
            }
        });
        Assert.Contains(summary.Warnings, warning => warning.StartsWith("checkpoint-2 could not be written", StringComparison.Ordinal));
        Assert.Equal([6, 5, 4, 3, 1], Kept("run"));
    }
}
