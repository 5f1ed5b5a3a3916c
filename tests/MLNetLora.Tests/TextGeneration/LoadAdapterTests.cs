using System.Text.Json;
using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Inference;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>From a PEFT folder to a transformer.</summary>
public sealed class LoadAdapterTests(Xunit.Abstractions.ITestOutputHelper output) : IDisposable
{
    private readonly Workbench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Fact]
    [Trait("Category", "Golden")]
    public void Adapters_that_PEFT_wrote_answer_as_they_do_there()
    {
        GoldenReport report = new("adapters", output);
        foreach (string folder in Golden.TrainingFolders())
        {
            string name = Path.GetFileName(folder);
            string file = Path.Combine(folder, "generate.json");
            string model = Golden.Beside(folder, GoldenFile.Json(Path.Combine(folder, "case.json")).GetProperty("model").GetString()!);
            string adapter = Path.Combine(folder, "adapter_final");
            if ((GoldenFile.Unsupported(model) ?? GoldenFile.UnsupportedAdapter(adapter)) is { } reason || !File.Exists(file))
            {
                report.Skip(name, "not supported, or no generate.json");
                continue;
            }

            JsonElement[] items = [.. GoldenFile.Json(file).EnumerateArray()];
            using QwenLoraTransformer transformer = _bench.Context.TextGeneration.LoadAdapter(model, adapter);
            foreach (JsonElement item in items)
            {
                InstructionRow row = new(item.GetProperty("instruction").GetString()!, Input: item.GetProperty("input").GetString());
                int tokens = item.GetProperty("greedy_ids").GetArrayLength();
                GeneratedText answer = transformer.Generate([row], new GenerationOptions { MaximumNewTokens = tokens, Temperature = 0 })[0];
                report.Equal($"{name} prompt of {row.Instruction}", [answer.PromptTokens], [item.GetProperty("prompt_ids").GetArrayLength()]);
                report.Equal($"{name} answer to {row.Instruction}", [answer.Text], [item.GetProperty("text").GetString()!]);
            }
        }

        report.Finish();
    }

    [Fact]
    public void Our_own_folder_gives_the_same_transformer_with_what_it_was_trained_to_be_asked_with()
    {
        using QwenLoraTransformer trained = _bench.Model(options => options.PromptTemplate = "Q: {instruction}");
        trained.Adapter.WithPrompt(trained.Model.Prompt.Settings).SaveAsPeft(_bench.PathOf("peft"));
        using QwenLoraTransformer loaded = _bench.Context.TextGeneration.LoadAdapter(_bench.BaseFolder, _bench.PathOf("peft"), options =>
        {
            Assert.Equal("Q: {instruction}", options.PromptTemplate);
            options.Generation.MaximumNewTokens = 6;
            options.AnswerColumnName = "Reply";
        });

        Assert.Equal(trained.Generate("what"), loaded.Generate("what"));
        Assert.Equal(["Instruction", "Input", "Output", "Reply"], loaded.Transform(_bench.Rows).Schema.Select(column => column.Name));

        // It can be saved as a trained one.
        loaded.Save(_bench.PathOf("model.zip"));
        using QwenLoraTransformer again = _bench.Context.TextGeneration.Load(_bench.PathOf("model.zip"));
        Assert.Equal(loaded.Transform(_bench.Rows).GetColumn<string>("Reply"), again.Transform(_bench.Rows).GetColumn<string>("Reply"));
    }

    [Fact]
    public void What_cannot_be_loaded_says_why()
    {
        TextGenerationCatalog catalog = _bench.Context.TextGeneration;
        Directory.CreateDirectory(_bench.PathOf("empty"));
        Assert.Contains("adapter_config.json is missing",
            Assert.Throws<AdapterException>(() => catalog.LoadAdapter(_bench.BaseFolder, _bench.PathOf("empty"))).Message);
        Assert.Throws<CheckpointException>(() => catalog.LoadAdapter(_bench.PathOf("empty"), _bench.PathOf("empty")));
        TinyCheckpoint.Adapter(_bench.BaseFolder).SaveAsPeft(_bench.PathOf("peft"));
        Assert.Contains(
            "BatchSize is 0",
            Assert.Throws<OptionException>(
                () => catalog.LoadAdapter(_bench.BaseFolder, _bench.PathOf("peft"), options => options.Generation.BatchSize = 0)).Message);
    }
}
