using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Tests.Models;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>The whole way on a mixture of experts: rows into Fit, answers out of Transform, zip, PEFT folder, merged checkpoint.</summary>
public sealed class MixtureEndToEndTests
{
    [Theory]
    [InlineData("qwen2_moe")]
    [InlineData("qwen3_moe")]
    public void What_is_trained_is_answered_from_the_model_the_zip_the_adapter_and_the_merged_checkpoint(string modelType)
    {
        using TemporaryFolder folder = new();
        Checkpoint checkpoint = MixtureModel.Write(folder.File("base"), modelType, ("vocab_size", 5632), ("max_position_embeddings", 256),
            ("eos_token_id", 5631));
        foreach (string name in (string[])["tokenizer.json", "tokenizer_config.json"])
        {
            File.Copy(Path.Combine(Repository.Nano, name), folder.File($"base/{name}"));
        }

        Row[] data = [new() { Instruction = "公司在哪里？", Output = "昆明" }, new() { Instruction = "Which bird?", Output = "heron" }];
        MLContext ml = new(seed: 1);
        IDataView rows = ml.Data.LoadFromEnumerable(data);
        QwenLoraTrainer.Options options = new()
        {
            ModelPath = checkpoint.Folder,
            Rank = 8,
            Alpha = 16,
            Dropout = 0,
            TargetModules = ["q_proj", "k_proj", "v_proj", "o_proj"],
            TargetParameters = ["experts.gate_up_proj", "experts.down_proj"],
            BatchSize = 2,
            GradientAccumulationSteps = 1,
            NumberOfEpochs = 60,
            LearningRate = 1e-2,
            Generation = new GenerationOptions { MaximumNewTokens = 12 },
        };
        using QwenLoraTransformer model = ml.TextGeneration.Trainers.QwenLora(options).Fit(rows);
        string[] expected = Answers(ml, model, rows);
        Assert.Contains("heron", expected); // not every word is the likeliest for some hidden state of 16 numbers
        Assert.True(model.TrainingSummary!.Steps[^1].Loss < 0.7 * model.TrainingSummary.Steps[0].Loss);

        ml.Model.Save(model, rows.Schema, folder.File("model.zip"));
        MLContext fresh = new();
        using (QwenLoraTransformer loaded = Assert.IsType<QwenLoraTransformer>(fresh.Model.Load(folder.File("model.zip"), out _)))
        {
            Assert.Equal(expected, Answers(fresh, loaded, rows));
        }

        InstructionRow[] questions = [.. data.Select(row => new InstructionRow(row.Instruction))];
        model.Adapter.SaveAsPeft(folder.File("adapter"));
        using (TextGenerator attached = new(checkpoint, LoraAdapter.LoadPeft(folder.File("adapter"), checkpoint)))
        {
            Assert.Equal(expected, attached.Generate(questions, new GenerationOptions { MaximumNewTokens = 12 }).Select(answer => answer.Text));
        }

        model.MergeAndSave(folder.File("merged"));
        using TextGenerator merged = new(Checkpoint.Open(folder.File("merged")));
        Assert.Equal(expected, merged.Generate(questions, new GenerationOptions { MaximumNewTokens = 12 }).Select(answer => answer.Text));
    }

    private static string[] Answers(MLContext ml, QwenLoraTransformer model, IDataView rows) =>
        [.. ml.Data.CreateEnumerable<Reply>(model.Transform(rows), reuseRowObject: false).Select(reply => reply.Answer)];

    private sealed class Row
    {
        public string Instruction { get; set; } = "";

        public string Output { get; set; } = "";
    }

    private sealed class Reply
    {
        public string Answer { get; set; } = "";
    }
}
