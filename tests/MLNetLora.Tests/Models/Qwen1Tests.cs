using System.Text.Json.Nodes;
using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Tests.Text;
using MLNetLora.Text;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.Models;

/// <summary>What Qwen1 has and the later families have not: angles and queries that change beyond seq_length, other names of layers, its own
/// tokenizer.</summary>
public sealed class Qwen1Tests : IDisposable
{
    private const int TrainedLength = 32;

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    /// <summary>QWenModel.get_ntk_alpha: 2^⌈log₂(length / seq_length) + 1⌉ − 1, at least 1.</summary>
    [Theory]
    [InlineData(1, 1)]
    [InlineData(32, 1)]
    [InlineData(33, 3)]
    [InlineData(64, 3)]
    [InlineData(65, 7)]
    [InlineData(128, 7)]
    [InlineData(129, 15)]
    public void Alpha_grows_with_the_prompt(int tokens, double alpha)
    {
        RopeParameters rope = new("default", 10_000) { TrainedLength = TrainedLength, DynamicNtk = true };
        Assert.Equal(alpha, rope.ForPrompt(tokens).Alpha);
        Assert.Equal(1, (rope with { DynamicNtk = false }).ForPrompt(tokens).Alpha);
    }

    [Fact]
    public void Answers_keep_the_angles_of_their_prompts_whatever_is_answered_beside_them()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), "qwen", positions: 4096);
        using CausalLanguageModel lm = new(checkpoint, threads: 1);
        Random random = new(3);

        // Of four kinds of angles, in parts and together; the answers stay in the length for which the evaluation graph takes the same angles.
        int[][] prompts = [.. ((int[])[2600, 3, 40, 700, 100]).Select(length => TinyModel.Row(random, length).InputIds)];
        IReadOnlyList<GeneratedIds> answers = lm.Generate(prompts, new GenerationOptions { MaximumNewTokens = 24 }, (_, _) => false);
        for (int r = 0; r < prompts.Length; r++)
        {
            int[] whole = [.. prompts[r], .. answers[r].Ids];
            float[] logits = Evaluate(checkpoint, whole, prompts[r].Length - 1);
            for (int i = 0; i < answers[r].Ids.Count; i++)
            {
                float[] scores = logits[(i * TinyModel.Vocabulary)..((i + 1) * TinyModel.Vocabulary)];
                Assert.True(scores[answers[r].Ids[i]] >= scores.Max() - 1e-4, $"prompt {r}, token {i}");
            }
        }
    }

    /// <summary>A prompt within the length whose answer goes beyond it: the base stays, the queries are scaled.</summary>
    [Fact]
    public void An_answer_that_grows_beyond_the_length_keeps_the_base_and_scales_its_queries()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), "qwen", positions: 64);
        int[] prompt = TinyModel.Row(new Random(3), 20).InputIds;
        using CausalLanguageModel lm = new(checkpoint, threads: 1);
        IReadOnlyList<int> answer = lm.Generate([prompt], new GenerationOptions { MaximumNewTokens = 40 }, (_, _) => false)[0].Ids;
        Assert.True(prompt.Length + answer.Count > TrainedLength + 8, $"{answer.Count} tokens");
        Checkpoint plain = With(checkpoint, "use_dynamic_ntk", false); // the evaluation graph would take the angles of the whole row
        float[] logits = Evaluate(plain, [.. prompt, .. answer], prompt.Length - 1);
        for (int i = 0; i < answer.Count; i++)
        {
            float[] scores = logits[(i * TinyModel.Vocabulary)..((i + 1) * TinyModel.Vocabulary)];
            Assert.True(scores[answer[i]] >= scores.Max() - 1e-4, $"token {i}");
        }
    }

    [Theory]
    [InlineData("use_dynamic_ntk")]
    [InlineData("use_logn_attn")]
    public void Beyond_the_length_each_option_acts_in_inference_alone(string option)
    {
        Checkpoint both = TinyModel.WriteCheckpoint(_folder.File("model"), "qwen", positions: 64);
        TrainingRow row = TinyModel.Row(new Random(5), 60);
        (double trained, double evaluated) = Losses(both, row);
        (double otherTrained, double otherEvaluated) = Losses(With(both, option, false), row);
        Assert.Equal(trained, otherTrained);
        Assert.NotEqual(evaluated, otherEvaluated, 1e-6);

        TrainingRow within = TinyModel.Row(new Random(5), TrainedLength);
        (trained, evaluated) = Losses(both, within);
        Assert.Equal(trained, evaluated, 1e-6);
    }

    [Fact]
    public void Biases_of_all_layers_where_no_bias_is_false()
    {
        Directory.CreateDirectory(_folder.File("model"));
        TinyModel.WriteQwen1Config(_folder.File("model"), noBias: false);
        Checkpoint checkpoint = TinyModel.WriteWeights(_folder.File("model"));
        Assert.Equal(2 * 5, checkpoint.Tensors.Keys.Count(name => name.EndsWith(".bias", StringComparison.Ordinal)));
        (double trained, double evaluated) = Losses(checkpoint, TinyModel.Row(new Random(5), 20));
        Assert.Equal(trained, evaluated, 1e-6);
    }

    [Theory]
    [InlineData("hidden_size", "24", "kv_channels is 8; it must be hidden_size / num_attention_heads, 24 / 2")]
    [InlineData("intermediate_size", "47", "intermediate_size is 47; it must be an even number")]
    [InlineData("rotary_pct", "0.5", "rotary_pct is 0.5; it must be 1")]
    [InlineData("attn_dropout_prob", "0.1", "attn_dropout_prob is 0.1; it must be 0")]
    [InlineData("scale_attn_weights", "false", "scale_attn_weights is false; it must be true")]
    [InlineData("seq_length", "1", "seq_length is 1; it must be a whole number of at least 2")]
    [InlineData("no_bias", "false", "has no tensor 'transformer.h.0.attn.c_proj.bias'")]
    public void A_configuration_that_does_not_fit(string field, string value, string message)
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), "qwen");
        CheckpointException error = Assert.Throws<CheckpointException>(() => With(checkpoint, field, JsonNode.Parse(value)));
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Targets_of_the_later_families_are_an_error_that_names_its_own()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), "qwen");
        AdapterException error = Assert.Throws<AdapterException>(() => LoraAdapter.Create(new LoraOptions(), checkpoint, 1));
        Assert.Contains("'q_proj'", error.Message, StringComparison.Ordinal);
        Assert.Contains("Its linear layers are: c_attn, c_proj, w1, w2. The closest to what was asked for is c_attn.", error.Message, StringComparison.Ordinal);
        error = Assert.Throws<AdapterException>(() =>
            LoraAdapter.Create(new LoraOptions { TargetModules = ["c_attn", "w2"] }, TinyModel.WriteCheckpoint(_folder.File("qwen2"), "qwen2"), 1));
        Assert.Contains("The closest to what was asked for is q_proj, k_proj, v_proj, gate_proj.", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_adapter_that_names_no_targets_has_those_of_PEFT()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), "qwen");
        LoraAdapter adapter = LoraAdapter.Create(new LoraOptions { Rank = 2, TargetModules = ["c_attn"] }, checkpoint, 1);
        JsonNode config = JsonNode.Parse(adapter.ToPeftConfigJson())!;
        config["target_modules"] = null;
        LoraAdapter read = LoraAdapter.FromPeft(adapter.ToSafetensors(), config.ToJsonString(), "test", checkpoint);
        Assert.Equal(adapter.Factors.Select(f => f.Module.KeyA), read.Factors.Select(f => f.Module.KeyA));
    }

    /// <summary>The whole path with its own tokenizer: Fit, Transform, zip, merge.</summary>
    [Fact]
    public void Trained_answers_come_back_from_the_zip_and_from_the_merge()
    {
        using TinyTokenizer tokenizer = new();
        string model = _folder.File("model");
        Directory.CreateDirectory(model);
        File.Copy(Path.Combine(tokenizer.TiktokenFolder, "qwen.tiktoken"), Path.Combine(model, "qwen.tiktoken"));
        File.WriteAllText(Path.Combine(model, "tokenizer_config.json"), """{"tokenizer_class":"QWenTokenizer"}""");
        File.WriteAllText(Path.Combine(model, "generation_config.json"), $$"""{"chat_format":"chatml","eos_token_id":{{TinyTokenizer.EndOfText}}}""");
        File.WriteAllText(Path.Combine(model, "modeling_qwen.py"), "# the code of the checkpoint\n");
        TinyModel.WriteQwen1Config(model, positions: 256, vocabulary: 256 + TinyTokenizer.Merges + 208);
        TinyModel.WriteWeights(model);
        MLContext ml = new(seed: 1);
        Row[] rows = [new() { Instruction = "hello", Output = "the other one" }];
        IDataView data = ml.Data.LoadFromEnumerable(rows);
        using QwenLoraTransformer trained = ml.TextGeneration.Trainers.QwenLora(new QwenLoraTrainer.Options
        {
            ModelPath = model,
            TargetModules = "all-linear",
            Rank = 16,
            Alpha = 32,
            Dropout = 0,
            LearningRate = 1e-2,
            NumberOfEpochs = 60,
            BatchSize = 1,
            GradientAccumulationSteps = 1,
            Generation = new GenerationOptions { MaximumNewTokens = 20 },
        }).Fit(data);
        string[] expected = [.. rows.Select(row => row.Output)];
        Assert.Equal(expected, Answers(ml, trained, data));

        string zip = _folder.File("model.zip");
        ml.Model.Save(trained, data.Schema, zip);
        using QwenLoraTransformer loaded = (QwenLoraTransformer)new MLContext().Model.Load(zip, out _);
        Assert.Equal(expected, Answers(ml, loaded, data));

        trained.MergeAndSave(_folder.File("merged"));
        Assert.True(File.Exists(Path.Combine(_folder.File("merged"), "modeling_qwen.py")));
        using TextGenerator merged = new(Checkpoint.Open(_folder.File("merged")));
        IReadOnlyList<GeneratedText> answers = merged.Generate(
            [.. rows.Select(row => new InstructionRow(row.Instruction, null, ""))], new GenerationOptions { MaximumNewTokens = 20 });
        Assert.Equal(expected, answers.Select(answer => answer.Text));
        Assert.All(answers, answer => Assert.Equal(FinishReason.Stop, answer.Reason));
    }

    private static string[] Answers(MLContext ml, QwenLoraTransformer model, IDataView data) =>
        [.. ml.Data.CreateEnumerable<Reply>(model.Transform(data), reuseRowObject: false).Select(reply => reply.Answer)];

    /// <summary>Scores of the tokens after a position, by the evaluation graph.</summary>
    private static float[] Evaluate(Checkpoint checkpoint, int[] ids, int from)
    {
        Batch batch = Batch.Of([new TrainingRow(ids, ids)]);
        long[] positions = [.. Enumerable.Range(from, ids.Length - from - 1).Select(i => (long)i)];
        return LogitsRun.Run(checkpoint, null, batch with { LabelPositions = positions, LabelIds = new long[positions.Length] }).Logits;
    }

    private static (double Trained, double Evaluated) Losses(Checkpoint checkpoint, TrainingRow row)
    {
        LoraOptions options = new() { Rank = 2, TargetModules = ["c_attn"], Dropout = 0 };
        using TrainingSession session = new(TrainingTarget.Lora(checkpoint, options), new TrainingOptions { Threads = 1 }, ChunkPlan.Whole);
        LoraParameters.Load(session.Parameters, LoraAdapter.Create(options, checkpoint, 1));
        Batch batch = Batch.Of([row]);
        return (session.Accumulate(batch, 1), session.Evaluate(batch).Loss);
    }

    /// <summary>The same weights under a config.json with one field changed.</summary>
    private Checkpoint With(Checkpoint checkpoint, string field, JsonNode? value)
    {
        string folder = _folder.File($"with {field}");
        Directory.CreateDirectory(folder);
        JsonNode config = JsonNode.Parse(File.ReadAllText(Path.Combine(checkpoint.Folder, "config.json")))!;
        config[field] = value;
        File.WriteAllText(Path.Combine(folder, "config.json"), config.ToJsonString());
        File.Copy(Path.Combine(checkpoint.Folder, "model.safetensors"), Path.Combine(folder, "model.safetensors"));
        return Checkpoint.Open(folder);
    }

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
