using System.Reflection;
using System.Text.Json.Nodes;
using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>Models whose base is named by a hub id: the files are links into the cache, and another machine keeps its cache elsewhere.</summary>
[Collection(Alone.Name)]
public sealed class HubModelTests
{
    private const string HubId = "Test/qwen3-nano";

    [Fact]
    public void A_model_trained_from_a_hub_id_is_loaded_answers_and_is_merged()
    {
        using TemporaryFolder folder = new();
        using HubCache cache = new(folder.File("hub"));
        string snapshot = cache.Add(HubId, "0123abc", Repository.Nano);
        Assert.Equal(snapshot, ModelFolder.Find(HubId));
        long parameters = Checkpoint.Open(ModelFolder.Find(HubId)).ParameterCount;

        MLContext ml = new(seed: 1);
        IDataView rows = ml.Data.LoadFromEnumerable<Row>([new("What is the code word?", "", "The code word is heron.")]);
        using QwenLoraTransformer model = ml.TextGeneration.Trainers.QwenLora(new QwenLoraTrainer.Options
        {
            ModelPath = HubId,
            Rank = 4,
            Dropout = 0,
            GradientAccumulationSteps = 1,
            NumberOfEpochs = 3,
            LearningRate = 5e-3,
            Generation = new GenerationOptions { MaximumNewTokens = 8 },
        }).Fit(rows);
        Assert.Equal(snapshot, model.BaseFolder);
        Assert.Equal(HubId, model.Adapter.BaseModel);
        Assert.Equal(HubId, (string?)JsonNode.Parse(model.Adapter.ToPeftConfigJson())!["base_model_name_or_path"]);
        string answer = model.Generate("What is the code word?");

        ml.Model.Save(model, rows.Schema, folder.File("model.zip"));
        using (QwenLoraTransformer loaded = (QwenLoraTransformer)new MLContext().Model.Load(folder.File("model.zip"), out _))
        {
            Assert.Equal(snapshot, loaded.BaseFolder);
            Assert.Equal(HubId, loaded.Adapter.BaseModel);
            Assert.Equal(answer, loaded.Generate("What is the code word?"));
        }

        model.MergeAndSave(folder.File("merged"));
        Assert.All(new DirectoryInfo(folder.File("merged")).EnumerateFiles(), file => Assert.Null(file.LinkTarget));
        Assert.Equal(parameters, Checkpoint.Open(folder.File("merged")).ParameterCount);
        using TextGenerator merged = new(Checkpoint.Open(folder.File("merged")));
        Assert.NotEmpty(merged.Generate([new("What is the code word?")], new GenerationOptions { MaximumNewTokens = 8 }));
    }

    [Fact]
    public void Another_machine_finds_the_revision_in_its_own_cache()
    {
        using Workbench bench = new();
        string answer = bench.Answer("what");
        string zip;
        using (HubCache first = new(bench.PathOf("hub")))
        {
            first.Add(HubId, "0123abc", bench.BaseFolder);
            using QwenLoraTransformer model = bench.Model(options => options.ModelPath = HubId);
            zip = bench.Save(model);
            Directory.Delete(first.Folder, recursive: true);
            string message = Refusal(zip, new MLContext());
            Assert.Contains($"{HubId} (as given at training, from the Hugging Face cache): there is no such folder, and the Hugging Face cache {first.Folder} "
                + "does not hold it.", message);
        }

        // Main has moved on there; the revision that the model was trained on is still in the cache.
        using HubCache second = new(bench.PathOf("elsewhere/hub"));
        string newer = second.Add(HubId, "ffff", TinyCheckpoint.Write(bench.PathOf("newer"), seed: 2));
        Assert.Contains($"{newer} (as given at training, from the Hugging Face cache): model.safetensors differs", Refusal(zip, new MLContext()));
        string snapshot = second.Add(HubId, "0123abc", bench.BaseFolder, isMain: false);
        Assert.Equal(snapshot, Load(zip, new MLContext()).BaseFolder);
        Assert.Contains(LoadProbe.Line(answer), LoadProbe.Run(zip, "what"));
    }

    [Fact]
    public void A_hub_id_serves_as_override_too()
    {
        using Workbench bench = new();
        string answer = bench.Answer("what");
        using QwenLoraTransformer model = bench.Model();
        string zip = bench.Save(model);
        using HubCache cache = new(bench.PathOf("hub"));
        string snapshot = cache.Add("My/Copy", "0123abc", bench.BaseFolder);
        Directory.Delete(bench.BaseFolder, recursive: true);

        MLContext context = new MLContext();
        context.TextGeneration.UseBaseModel("My/Other");
        Assert.Contains($"My/Other (ml.TextGeneration.UseBaseModel): there is no such folder, and the Hugging Face cache {cache.Folder} does not hold it.",
            Refusal(zip, context));
        context.TextGeneration.UseBaseModel("My/Copy");
        Assert.Equal(snapshot, Load(zip, context).BaseFolder);

        Assert.Contains(LoadProbe.Line(answer), LoadProbe.Run(zip, "what", $"My/Other{Path.PathSeparator}My/Copy"));
        Assert.Contains("My/Other (MLNETLORA_BASE_MODEL): there is no such folder", string.Join('\n', LoadProbe.Run(zip, "what", "My/Other")));
    }

    private static QwenLoraTransformer Load(string zip, MLContext context) => (QwenLoraTransformer)context.Model.Load(zip, out _);

    private static string Refusal(string zip, MLContext context) =>
        Assert.IsType<CheckpointException>(Assert.Throws<TargetInvocationException>(() => context.Model.Load(zip, out _)).InnerException).Message;
}
