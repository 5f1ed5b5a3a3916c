using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Adapters;

/// <summary>Adapters on mixtures of experts as PEFT makes them: bare parameters, what "all-linear" and old names mean, and their merge. The experts of
/// qwen2_moe are stacked in its file, those of qwen3_moe lie one by one.</summary>
[Trait("Category", "Golden")]
public sealed class ExpertAdapterTests(Xunit.Abstractions.ITestOutputHelper output) : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public static TheoryData<string> Cases =>
        [.. Golden.Folders("experts").SelectMany(Directory.EnumerateDirectories).Where(folder => Path.GetFileName(folder) != "model").Select(
            folder => Path.GetRelativePath(Golden.Kind("experts"), folder)).Order(StringComparer.Ordinal)];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Cases))]
    public void Gradients_and_logits_equal_PEFT(string name)
    {
        GoldenReport report = new($"experts {name}", output);
        (string folder, Checkpoint checkpoint, LoraAdapter adapter) = Open(name);
        GoldenFile expected = new(Path.Combine(folder, "expected.safetensors"));
        IReadOnlyList<TrainingRow> rows = new GoldenFile(Path.Combine(folder, "..", "batch.safetensors")).Rows();
        JsonElement description = GoldenFile.Json(Path.Combine(folder, "case.json"));
        report.Equal($"{name} parameters", [adapter.ParameterCount, checkpoint.ParameterCount],
            [description.GetProperty("trainable_parameters").GetInt64(),
                description.GetProperty("all_parameters").GetInt64() - description.GetProperty("trainable_parameters").GetInt64()]);
        foreach ((bool checkpointing, bool inBlocks) in (ReadOnlySpan<(bool, bool)>)[(false, false), (true, false), (false, true), (true, true)])
        {
            report.Compare($"{name} logits", LogitsRun.Worst(checkpoint, adapter, rows, expected, "logits", inBlocks), 5e-5);
            using TrainingSession session = new(TrainingTarget.Lora(checkpoint, adapter.Options),
                new TrainingOptions { Threads = 1, ActivationCheckpointing = checkpointing, ExpertsInBlocks = inBlocks }, ChunkPlan.Whole);
            LoraParameters.Load(session.Parameters, adapter);
            Batch batch = Batch.Of(rows);
            float loss = session.Accumulate(batch, batch.LabelIds.Length);
            report.Compare($"{name} loss", Math.Abs(loss - expected.Floats("loss")[0]) / loss, 1e-5);
            string[] keys = [.. expected.Names.Where(key => key.StartsWith("grad.", StringComparison.Ordinal))];
            Assert.Equal(session.Parameters.Tensors.Select(tensor => "grad." + tensor.Name).Order(), keys.Order());
            foreach (string key in keys)
            {
                report.Compare($"{name} {key}",
                    GoldenFile.RelativeError(session.Parameters.Slice(session.Parameters.Gradients, key["grad.".Length..]), expected.Floats(key)), 5e-5);
            }
        }

        report.Finish();
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Merged_tensors_equal_PEFT_and_answer_as_the_adapter_does(string name)
    {
        (string folder, Checkpoint checkpoint, LoraAdapter adapter) = Open(name);
        Merge.Save(checkpoint, adapter, _folder.File("merged"));
        GoldenFile expected = new(Path.Combine(folder, "merged.safetensors"));
        GoldenFile merged = new(_folder.File("merged/model.safetensors"));
        GoldenFile before = new(Path.Combine(checkpoint.Folder, "model.safetensors"));
        Assert.Equal(before.Names.Order(), merged.Names.Order());
        foreach (string tensor in merged.Names)
        {
            float[] want = expected.Names.Contains(tensor) ? expected.Floats(tensor) : before.Floats(tensor);
            Assert.InRange(merged.Floats(tensor).Zip(want, (a, b) => Math.Abs(a - b)).Max(), 0, expected.Names.Contains(tensor) ? 1e-6 : 0);
        }

        int[][] prompts = [[3, 9, 27, 4], [7, 1], [12, 50, 33, 2, 8, 40, 11]];
        GenerationOptions options = new() { MaximumNewTokens = 12 };
        using CausalLanguageModel attached = new(checkpoint, adapter, threads: 1);
        using CausalLanguageModel whole = new(Checkpoint.Open(_folder.File("merged")), threads: 1);
        IReadOnlyList<GeneratedIds> answers = attached.Generate(prompts, options);
        Assert.Equal(whole.Generate(prompts, options).Select(answer => answer.Ids), answers.Select(answer => answer.Ids));
        Assert.Equal(prompts.Select(prompt => attached.Generate([prompt], options)[0].Ids), answers.Select(answer => answer.Ids));
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Options_mean_the_tensors_that_PEFT_makes_and_come_back_from_the_folder(string name)
    {
        (string folder, Checkpoint checkpoint, LoraAdapter expected) = Open(name);
        JsonElement lora = GoldenFile.Json(Path.Combine(folder, "case.json")).GetProperty("lora");
        LoraOptions options = new()
        {
            Rank = lora.GetProperty("r").GetInt32(),
            Alpha = lora.GetProperty("lora_alpha").GetDouble(),
            Dropout = 0,
            UseRsLora = lora.TryGetProperty("use_rslora", out JsonElement stabilised) && stabilised.GetBoolean(),
            TargetModules = !lora.TryGetProperty("target_modules", out JsonElement modules) ? (string[])[]
                : modules.ValueKind == JsonValueKind.String ? modules.GetString()! : Names(modules),
            TargetParameters = lora.TryGetProperty("target_parameters", out JsonElement parameters) ? Names(parameters) : [],
        };
        if (lora.TryGetProperty("rank_pattern", out JsonElement ranks))
        {
            options.RankPattern = ranks.EnumerateObject().ToDictionary(item => item.Name, item => item.Value.GetInt32());
        }

        LoraAdapter made = LoraAdapter.Create(options, checkpoint, 1);
        Assert.Equal(Shapes(expected), Shapes(made));
        Assert.Equal(expected.Factors.Select(Scaling), made.Factors.Select(Scaling));
        made.SaveAsPeft(_folder.File("saved"));
        LoraAdapter back = LoraAdapter.LoadPeft(_folder.File("saved"), checkpoint);
        Assert.Equal(Shapes(made), Shapes(back));
        Assert.Equal(made.Factors.Select(Scaling), back.Factors.Select(Scaling));
        Assert.Equal(made.Tensors.Select(tensor => tensor.Values), back.Tensors.Select(tensor => tensor.Values));

        static string[] Shapes(LoraAdapter adapter) =>
            [.. adapter.Parts.Tensors.Select(tensor => $"{tensor.Key} {string.Join('x', tensor.Shape)}").Order(StringComparer.Ordinal)];
        static (string, double) Scaling(LoraFactors factors) => (factors.Module.KeyA, Math.Round(factors.Module.Scaling, 9));
        static string[] Names(JsonElement list) => [.. list.EnumerateArray().Select(item => item.GetString()!)];
    }

    [Fact]
    public void What_PEFT_refuses_is_refused_by_name()
    {
        Checkpoint qwen2 = Checkpoint.Open(Path.Combine(Golden.Kind("experts"), "qwen2_moe", "model"));
        Checkpoint qwen3 = Checkpoint.Open(Path.Combine(Golden.Kind("experts"), "qwen3_moe", "model"));
        Assert.Contains("up_proj", Refused(qwen3, o => o.TargetModules = ["q_proj", "gate_proj"]), StringComparison.Ordinal);
        Assert.Contains("Dropout is 0.1", Refused(qwen3, o => (o.TargetModules, o.Dropout) = (["down_proj"], 0.1)), StringComparison.Ordinal);
        Assert.Contains("UseDora", Refused(qwen3, o => (o.TargetModules, o.UseDora) = (["down_proj"], true)), StringComparison.Ordinal);
        Assert.Contains("Pissa", Refused(qwen3, o => (o.TargetModules, o.Initialization) = (["gate"], LoraInitialization.Pissa)), StringComparison.Ordinal);
        Assert.Contains("named 'gate'", Refused(qwen2, o => o.TargetModules = ["gate"]), StringComparison.Ordinal); // a router, which is no layer
        Assert.Contains("experts.down_proj", Refused(qwen2, o => o.TargetParameters = ["experts.nothing"]), StringComparison.Ordinal);
        Assert.Contains("input_layernorm", Refused(qwen2, o => o.TargetParameters = ["input_layernorm.weight"]), StringComparison.Ordinal);
        Assert.Contains("names too", Refused(qwen2, o => o.TargetParameters = ["q_proj.weight"]), StringComparison.Ordinal);
        Assert.Contains("experts", Refused(qwen2, o => o.ModulesToSave = ["down_proj"]), StringComparison.Ordinal);
        Assert.Contains("post_attention_layernorm, gate", Refused(qwen3, o => o.ModulesToSave = ["nothing"]), StringComparison.Ordinal);
        Assert.Contains("Name it once", Refused(qwen3, o => (o.TargetParameters, o.ModulesToSave) = (["gate.weight"], ["mlp.gate"])), StringComparison.Ordinal);
        Assert.Contains("Name it once", Refused(qwen3, o => (o.TargetModules, o.ModulesToSave) = (["gate"], ["mlp.gate"])), StringComparison.Ordinal);

        static string Refused(Checkpoint checkpoint, Action<LoraOptions> change) => Assert.Throws<AdapterException>(
            () => LoraAdapter.Create(new LoraOptions { Rank = 2, Dropout = 0 }.With(change), checkpoint, 1)).Message;
    }

    [Fact]
    public void What_leaves_layers_out_is_refused_beside_bare_parameters_and_read_from_a_file_as_PEFT_reads_it()
    {
        Checkpoint checkpoint = Checkpoint.Open(Path.Combine(Golden.Kind("experts"), "qwen3_moe", "model"));
        LoraOptions options = new() { Rank = 2, Dropout = 0, TargetModules = "all-linear" };
        Refused("LayersToTransform", o => o.LayersToTransform = [0]);
        Refused("LayersPattern", o => o.LayersPattern = ["layers"]);
        Refused("ExcludeModules", o => o.ExcludeModules = ["experts.down_proj"]);
        Refused("LayersToTransform", o => (o.TargetModules, o.TargetParameters, o.LayersToTransform) = (["q_proj"], ["experts.down_proj"], [0]));
        Assert.NotEmpty(LoraAdapter.Create(options.With(o => (o.TargetModules, o.LayersToTransform) = (["q_proj"], [0])), checkpoint, 1).Factors);
        LoraOptions oneLayer = options.With(o => (o.TargetModules, o.TargetParameters) = (["layers.1.self_attn.q_proj"], ["layers.1.mlp.experts.down_proj"]));
        Assert.Equal(["model.layers.1.self_attn.q_proj", "model.layers.1.mlp.experts.down_proj"],
            LoraAdapter.Create(oneLayer, checkpoint, 1).Factors.Select(factors => factors.Module.Module.Name));

        LoraAdapter whole = LoraAdapter.Create(options.With(o => o.TargetModules = ["down_proj"]), checkpoint, 1);
        whole.SaveAsPeft(_folder.File("adapter"));
        string file = _folder.File("adapter/adapter_config.json");
        File.WriteAllText(file, File.ReadAllText(file).Replace("\"layers_to_transform\": null", "\"layers_to_transform\": [1]", StringComparison.Ordinal));
        LoraAdapter read = LoraAdapter.LoadPeft(_folder.File("adapter"), checkpoint);
        Assert.Equal([1], read.Options.LayersToTransform!);
        Assert.Equal(whole.Factors.Select(factors => factors.Module.Module.Name), read.Factors.Select(factors => factors.Module.Module.Name));
        TrainingRow row = new([3, 9, 27, 4], [3, 9, 27, 4]);
        TrainingOptions training = new() { MaximumSteps = 1, Threads = 1 };
        (LoraAdapter more, _) = LoraTraining.Train(checkpoint, read.Options, [row], training, initial: read);
        Assert.Equal(whole.Factors.Count, more.Factors.Count);

        void Refused(string option, Action<LoraOptions> change) => Assert.StartsWith($"{option} is set, and counts for linear layers alone",
            Assert.Throws<AdapterException>(() => LoraAdapter.Create(options.With(change), checkpoint, 1)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_adapter_with_a_factor_for_each_expert_of_older_versions_is_refused()
    {
        (string folder, Checkpoint checkpoint, _) = Open("qwen3_moe/down");
        Directory.CreateDirectory(_folder.File("old"));
        File.Copy(Path.Combine(folder, "adapter", "adapter_config.json"), _folder.File("old/adapter_config.json"));
        SafetensorsWriter.Write(_folder.File("old/adapter_model.safetensors"),
            [SafetensorsWriter.Item.From("base_model.model.model.layers.1.mlp.experts.0.down_proj.lora_A.weight", TensorType.Float32, [4, 10], new float[40])]);
        string message = Assert.Throws<AdapterException>(() => LoraAdapter.LoadPeft(_folder.File("old"), checkpoint)).Message;
        Assert.Contains("experts.lora_A.weight", message, StringComparison.Ordinal);
    }

    [Fact]
    public void Training_experts_moves_their_factors_and_lowers_the_loss()
    {
        Checkpoint checkpoint = Checkpoint.Open(Path.Combine(Golden.Kind("experts"), "qwen3_moe", "model"));
        TrainingRow[] rows = [.. Enumerable.Range(0, 4).Select(i => Enumerable.Range(0, 9).Select(j => ((i * 13) + (j * 5)) % 60).ToArray()).Select(ids =>
            new TrainingRow(ids, ids))];
        LoraOptions lora = new() { Rank = 4, Alpha = 8, Dropout = 0, TargetModules = Array.Empty<string>(), TargetParameters = ["gate_up_proj", "down_proj"] };
        (LoraAdapter adapter, TrainingSummary summary) = LoraTraining.Train(
            checkpoint, lora, rows, new TrainingOptions { NumberOfEpochs = 20, LearningRate = 3e-2, BatchSize = 2, Threads = 1, Seed = 3 });
        Assert.True(summary.Steps[^1].Loss < 0.8 * summary.Steps[0].Loss, $"{summary.Steps[0].Loss} -> {summary.Steps[^1].Loss}");
        Assert.All(adapter.Factors, factors => Assert.Contains(factors.B, value => value != 0));
    }

    private static (string Folder, Checkpoint Checkpoint, LoraAdapter Adapter) Open(string name)
    {
        string folder = Path.Combine(Golden.Kind("experts"), name);
        Checkpoint checkpoint = Checkpoint.Open(Path.Combine(folder, "..", "model"));
        return (folder, checkpoint, LoraAdapter.LoadPeft(Path.Combine(folder, "adapter"), checkpoint));
    }
}
