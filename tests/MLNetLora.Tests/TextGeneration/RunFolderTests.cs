using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>The folder of a run: one run at a time has it, and nothing of another run is lost in it.</summary>
public sealed class RunFolderTests : RunTests
{
    [Fact]
    public void One_run_at_a_time_has_the_folder()
    {
        Run("run", options => options.ProgressCallback = step =>
        {
            if (step.Step == 1)
            {
                Assert.Contains("another run is writing to it", Assert.Throws<OptionException>(() => Run("run", resume: true)).Message,
                    StringComparison.Ordinal);
            }
        });
        Assert.Contains("holds checkpoint-6 of an earlier run", Assert.Throws<OptionException>(() => Run("run")).Message, StringComparison.Ordinal);
        Directory.CreateDirectory(Bench.PathOf("run/.checkpoint-0123"));
        Run("run", resume: true);
        Assert.False(Directory.Exists(Bench.PathOf("run/.checkpoint-0123"))); // what a killed process has left
        Assert.DoesNotContain(Directory.EnumerateFileSystemEntries(Bench.PathOf("run")), path => Path.GetFileName(path).StartsWith('.'));
    }

    [Fact]
    public void A_run_from_another_folder_writes_to_none_that_holds_something()
    {
        Run("a", stopAfter: 2);
        Run("b");
        byte[] before = File.ReadAllBytes(Bench.PathOf("b/adapter_model.safetensors"));
        string refused = Assert.Throws<OptionException>(() => Run("b", options => options.ResumeFrom = Bench.PathOf("a"))).Message;
        Assert.Contains("holds checkpoint-6 of an earlier run", refused, StringComparison.Ordinal);
        Refused<OptionException>("holds model.safetensors, the weights of a model", options =>
            (options.OutputFolder, options.ResumeFrom) = (Bench.BaseFolder, Bench.PathOf("a")));
        Assert.Equal(before, File.ReadAllBytes(Bench.PathOf("b/adapter_model.safetensors")));
        Assert.Equal(3, Run("c", options => options.ResumeFrom = Bench.PathOf("a") + Path.DirectorySeparatorChar).FirstStep);
        Assert.Equal(before, File.ReadAllBytes(Bench.PathOf("c/adapter_model.safetensors")));
    }

    [Fact]
    public void What_is_not_ours_is_not_begun_over()
    {
        Directory.CreateDirectory(Bench.PathOf("theirs/checkpoint-500"));
        File.WriteAllText(Bench.PathOf("theirs/checkpoint-500/optimizer.pt"), "");
        Assert.Contains("a checkpoint of transformers", Assert.Throws<OptionException>(() => Run("theirs", resume: true)).Message, StringComparison.Ordinal);
        Assert.True(File.Exists(Bench.PathOf("theirs/checkpoint-500/optimizer.pt")));
    }

    [Fact]
    public void A_result_without_checkpoints_is_neither_replaced_nor_gone_on_with()
    {
        TrainingSummary summary = Run("run", options => options.SaveSteps = 0);
        byte[] before = Result("run", summary);
        string refused = Assert.Throws<OptionException>(() => Run("run", resume: true)).Message;
        Assert.Contains("holds the adapter of a run that has ended, and no checkpoint to go on from", refused, StringComparison.Ordinal);
        Assert.Equal(before, Result("run", summary));
    }

    [Fact]
    public void Wrong_rows_leave_no_folder()
    {
        Assert.Throws<DatasetException>(() => Run("none", rows: Rows(("what", ""))));
        Assert.False(Directory.Exists(Bench.PathOf("none")));
    }

    [Fact]
    public void A_folder_that_holds_one_run_stands_for_it()
    {
        Run("out/model", Full, stopAfter: 2); // as the command line has it
        void From(QwenLoraTrainer.Options options)
        {
            Full(options);
            options.ResumeFrom = Bench.PathOf("out");
        }

        Directory.CreateDirectory(Bench.PathOf("out/logs"));
        Assert.Equal(3, Run("out/model", From, stopAfter: 4).FirstStep);
        Assert.Equal(5, Run("elsewhere/model", From).FirstStep);
        Run("out/other", stopAfter: 1);
        Assert.Contains("which holds 2 runs: model, other. Give the folder of one of them.",
            Assert.Throws<OptionException>(() => Run("third", From)).Message, StringComparison.Ordinal);
        Assert.Equal(1, Run("out", resume: true).FirstStep); // its own folder holds none of its own yet

        Run("none", options =>
        {
            Full(options);
            options.SaveSteps = null;
        });
        Refused<OptionException>("A run whose Method is Full writes them only with SaveSteps, SaveEveryEpoch or LoadBestModelAtEnd.", options =>
        {
            Full(options);
            options.ResumeFrom = Bench.PathOf("none");
        });
    }
}
