using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>The whole way on the nano checkpoint with nothing faked: rows into Fit, answers out of Transform, zip, PEFT folder, merged checkpoint.</summary>
public sealed class EndToEndTests
{
    private static readonly InstructionRow[] s_rows =
    [
        new("公司在哪里？", "我们在昆明。"),
        new("What is the code word?", "The code word is heron."),
        new("Translate into English.", "Good morning.", "早上好。"),
    ];

    [Fact]
    public void What_is_trained_is_answered_from_the_model_the_zip_the_adapter_and_the_merged_checkpoint()
    {
        using TemporaryFolder folder = new();
        MLContext ml = new(seed: 1);
        List<string> log = [];
        ml.Log += (_, message) => log.Add(message.RawMessage);
        IDataView rows = ml.Data.LoadFromEnumerable(
            s_rows.Select(row => new Row { Instruction = row.Instruction, Input = row.Input ?? "", Output = row.Output! }));
        List<TrainingProgress> progress = [];
        using QwenLoraTransformer model = ml.TextGeneration.Trainers.QwenLora(Options(progress.Add)).Fit(rows);
        Assert.Equal(progress, model.TrainingSummary!.Steps);
        Assert.Contains(log, line => line.StartsWith("trainable params: ", StringComparison.Ordinal));

        string[] expected = [.. s_rows.Select(row => row.Output!)];
        Assert.Equal(expected, Answers(ml, model, rows));

        ml.Model.Save(model, rows.Schema, folder.File("model.zip"));
        MLContext fresh = new();
        ITransformer loaded = fresh.Model.Load(folder.File("model.zip"), out _);
        Assert.Equal(expected, Answers(fresh, Assert.IsType<QwenLoraTransformer>(loaded), rows));
        using (PredictionEngine<Row, Reply> engine = fresh.Model.CreatePredictionEngine<Row, Reply>(loaded))
        {
            Assert.Equal(expected[2], engine.Predict(new Row { Instruction = s_rows[2].Instruction, Input = s_rows[2].Input! }).Answer);
        }

        // A process that has never touched this library loads the same file and answers.
        Assert.Equal(["touched: False", "columns: Instruction,Input,Output", "type: MLNetLora.TextGeneration.QwenLoraTransformer", $"answer: {expected[1]}"],
            LoadProbe.Run(folder.File("model.zip"), s_rows[1].Instruction));

        model.Adapter.SaveAsPeft(folder.File("adapter"));
        Checkpoint nano = Checkpoint.Open(Repository.Nano);
        using (TextGenerator attached = new(nano, LoraAdapter.LoadPeft(folder.File("adapter"), nano)))
        {
            Assert.Equal(expected, attached.Generate(s_rows, new GenerationOptions { MaximumNewTokens = 40 }).Select(answer => answer.Text));
        }

        model.MergeAndSave(folder.File("merged"));
        using TextGenerator merged = new(Checkpoint.Open(folder.File("merged")));
        Assert.Equal(expected, merged.Generate(s_rows, new GenerationOptions { MaximumNewTokens = 40 }).Select(answer => answer.Text));
    }

    [Fact]
    public void Answers_do_not_depend_on_the_batch()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        foreach (GenerationOptions options in (GenerationOptions[])[new() { MaximumNewTokens = 24 },
            new() { MaximumNewTokens = 24, Temperature = 0.8f, TopP = 0.9f, Seed = 5 }])
        {
            options.BatchSize = 1;
            string[] single = [.. generator.Generate(s_rows, options).Select(answer => answer.Text)];
            options.BatchSize = 8;
            Assert.Equal(single, generator.Generate(s_rows, options).Select(answer => answer.Text));
            Assert.Equal(3, single.Distinct().Count());
        }
    }

    [Fact]
    public void A_stop_string_ends_the_answer_before_it_and_is_never_streamed()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        string whole = generator.Generate([s_rows[1]], new() { MaximumNewTokens = 40 })[0].Text;
        string stop = whole.Substring(whole.Length / 2, 3);
        string streamed = "";
        GeneratedText cut = generator.Generate([s_rows[1]], new() { MaximumNewTokens = 40, StopStrings = ["no such text", stop] },
            (_, text) => streamed += text)[0];
        Assert.Equal(whole[..whole.IndexOf(stop, StringComparison.Ordinal)], cut.Text);
        Assert.Equal(cut.Text, streamed);
        Assert.Equal(FinishReason.Stop, cut.Reason);
        Assert.Equal(5, generator.Generate([s_rows[1]], new() { MaximumNewTokens = 5 })[0].NewTokens);
    }

    [Fact]
    public void An_answer_ends_at_im_end_even_where_the_configuration_does_not_name_it()
    {
        using TemporaryFolder folder = new();
        foreach (string file in Directory.EnumerateFiles(Repository.Nano).Where(file => Path.GetFileName(file) != "generation_config.json"))
        {
            string text = file.EndsWith("config.json", StringComparison.Ordinal)
                ? File.ReadAllText(file).Replace("\"eos_token_id\": 5631", "\"eos_token_id\": 5629", StringComparison.Ordinal)
                : "";
            if (text.Length > 0)
            {
                File.WriteAllText(folder.File(Path.GetFileName(file)), text);
            }
            else
            {
                File.Copy(file, folder.File(Path.GetFileName(file)));
            }
        }

        Checkpoint like = Checkpoint.Open(folder.Path);
        Assert.DoesNotContain(5631, like.Config.EosTokenIds);
        using TextGenerator generator = new(like, threads: 1);
        using TextGenerator original = new(Checkpoint.Open(Repository.Nano), threads: 1);
        GenerationOptions options = new() { MaximumNewTokens = 120 };
        InstructionRow question = new("Who are you?");
        GeneratedText answer = generator.Generate([question], options)[0];
        Assert.Equal(FinishReason.Stop, answer.Reason);
        Assert.Equal(original.Generate([question], options)[0].Text, answer.Text);
    }

    [Fact]
    public void Concurrent_calls_give_what_they_give_alone()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        GenerationOptions options = new() { MaximumNewTokens = 12 };
        string[] alone = [.. s_rows.Select(row => generator.Generate([row], options)[0].Text)];
        string[] together = new string[12];
        Parallel.For(0, together.Length, i => together[i] = generator.Generate([s_rows[i % 3]], options)[0].Text);
        Assert.Equal(Enumerable.Range(0, 12).Select(i => alone[i % 3]), together);
    }

    [Fact]
    public void A_row_whose_answer_is_cut_off_is_named_and_cut_rows_are_reported()
    {
        MLContext ml = new(seed: 1);
        List<string> log = [];
        ml.Log += (_, message) => log.Add(message.RawMessage);
        Row[] rows = [new() { Instruction = "short", Output = "fine" },
            new() { Instruction = "long", Output = string.Concat(Enumerable.Repeat("and on ", 60)) }];
        QwenLoraTrainer.Options options = Options(_ => { });
        options.NumberOfEpochs = 1;
        options.MaximumSequenceLength = 30;
        ml.TextGeneration.Trainers.QwenLora(options).Fit(ml.Data.LoadFromEnumerable(rows)).Dispose();
        Assert.Contains(log,
            line => line.StartsWith("1 of 2 training rows were cut off at the maximum length (option MaximumSequenceLength)", StringComparison.Ordinal)
            && line.Contains(": row 2. ", StringComparison.Ordinal));

        options.MaximumSequenceLength = 5;
        string message = Assert.Throws<DatasetException>(() => ml.TextGeneration.Trainers.QwenLora(options).Fit(ml.Data.LoadFromEnumerable(rows))).Message;
        Assert.Contains("None of the 2 training rows has a token to learn: rows 1, 2 were cut off before the answer begins", message, StringComparison.Ordinal);
        Assert.Contains("MaximumSequenceLength", message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_nano_checkpoint_is_small_and_says_how_it_was_made()
    {
        FileInfo[] files = [.. new DirectoryInfo(Repository.Nano).EnumerateFiles()];
        Assert.True(files.Sum(file => file.Length) < 12_000_000);
        string card = File.ReadAllText(Path.Combine(Repository.Nano, "README.md"));
        Assert.DoesNotContain("not trained yet", card, StringComparison.Ordinal);
        Assert.Contains("steps of", card, StringComparison.Ordinal);
    }

    private static QwenLoraTrainer.Options Options(Action<TrainingProgress> progress) => new()
    {
        ModelPath = Repository.Nano,
        Rank = 16,
        Alpha = 32,
        Dropout = 0,
        TargetModules = "all-linear",
        BatchSize = 3,
        GradientAccumulationSteps = 1,
        NumberOfEpochs = 60,
        LearningRate = 5e-3,
        Generation = new GenerationOptions { MaximumNewTokens = 40 },
        ProgressCallback = progress,
    };

    private static string[] Answers(MLContext ml, QwenLoraTransformer model, IDataView rows) =>
        [.. ml.Data.CreateEnumerable<Reply>(model.Transform(rows), reuseRowObject: false).Select(reply => reply.Answer)];

    private sealed class Row
    {
        public string Instruction { get; set; } = "";

        public string Input { get; set; } = "";

        public string Output { get; set; } = "";
    }

    private sealed class Reply
    {
        public string Answer { get; set; } = "";
    }
}
