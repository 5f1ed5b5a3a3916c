using System.Text.Json;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;

namespace MLNetLora.Tests.Inference;

/// <summary>Greedy continuations with the key-value cache against transformers' generate, one prompt at a time and all prompts of a case as one
/// batch.</summary>
[Trait("Category", "Golden")]
public sealed class GenerateGoldenTests(Xunit.Abstractions.ITestOutputHelper output)
{
    [Fact]
    public void Greedy_ids_equal_transformers()
    {
        GoldenReport report = new("generate", output);
        foreach (string folder in Golden.Folders("forward"))
        {
            string file = Path.Combine(folder, "generate.json");
            string name = Path.GetFileName(folder);
            string model = Golden.Beside(folder, $"models/{name}");
            if (!File.Exists(file) || GoldenFile.Unsupported(model) is not null)
            {
                report.Skip(name, File.Exists(file) ? GoldenFile.Unsupported(model)! : "no generate.json");
                continue;
            }

            JsonElement[] cases = [.. GoldenFile.Json(file).EnumerateArray()];
            int[][] prompts = [.. cases.Select(item => Ids(item, "prompt_ids"))];
            int[][] expected = [.. cases.Select(item => Ids(item, "greedy_ids"))];
            using CausalLanguageModel lm = new(Checkpoint.Open(model), threads: 1);
            for (int i = 0; i < prompts.Length; i++)
            {
                report.Equal($"{name} prompt {i}", lm.Generate([prompts[i]], new GenerationOptions { MaximumNewTokens = expected[i].Length })[0].Ids,
                    expected[i]);
            }

            IReadOnlyList<GeneratedIds> together = lm.Generate(prompts, new GenerationOptions { MaximumNewTokens = expected.Max(ids => ids.Length) });
            for (int i = 0; i < prompts.Length; i++)
            {
                report.Equal($"{name} batched prompt {i}", together[i].Ids.Take(expected[i].Length), expected[i]);
            }
        }

        report.Finish();
    }

    private static int[] Ids(JsonElement item, string name) => [.. item.GetProperty(name).EnumerateArray().Select(id => id.GetInt32())];
}
