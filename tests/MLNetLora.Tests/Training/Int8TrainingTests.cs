using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>Training with the frozen products in 8-bit integers: the quantization, the gradients beside those of float32, and whole runs.</summary>
public sealed class Int8TrainingTests(Xunit.Abstractions.ITestOutputHelper output)
{
    private static readonly LoraOptions s_lora = new() { Rank = 8, Alpha = 16, Dropout = 0, TargetModules = "all-linear" };

    [Theory]
    [InlineData(TensorType.Float32)]
    [InlineData(TensorType.BFloat16)]
    public void Both_copies_are_within_half_a_step_of_the_weight(object tensorType)
    {
        TensorType type = (TensorType)tensorType;
        using TemporaryFolder folder = new();
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(folder.Path, type: type);
        foreach (LinearModule[] group in (LinearModule[][])[[Module("q_proj"), Module("k_proj"), Module("v_proj")], [Module("down_proj")]])
        {
            int inputs = group[0].In;
            float[] absmaxOfInput = [.. Enumerable.Range(0, inputs).Select(i => i == 3 ? 0 : i == 5 ? 300f : 1 + i)];
            string[] names = [.. group.Select(module => module.Name + ".weight")];
            Int8Weights weights = new(checkpoint, [new CalibratedLayers([.. group.Select(module => module.Name)], absmaxOfInput)]);
            Int8Group quantized = weights.Groups[0];
            using InitializerMemory memory = new(quantized.Tensors, "the 8-bit copies");
            weights.Quantize(memory.Of, threads: 1);
            float[] inverse = Floats(memory, quantized.InverseSmoothing);
            float[][] values = [.. names.Select(name => checkpoint.Tensors[name].ReadFloat32())];
            for (int i = 0; i < inputs; i++)
            {
                float absmax = values.Max(w => Enumerable.Range(0, w.Length / inputs).Max(o => Math.Abs(w[(o * inputs) + i])));
                Assert.Equal(absmaxOfInput[i] == 0 ? 1 : Math.Sqrt(absmax / absmaxOfInput[i]), inverse[i], 1e-5);
            }

            for (int m = 0; m < names.Length; m++)
            {
                int outputs = group[m].Out;
                (sbyte[] forward, float[] forwardScales) = (Integers(memory, quantized.Layers[m].Forward), Floats(memory, quantized.Layers[m].ForwardScales));
                (sbyte[] backward, float[] backwardScales) = (Integers(memory, quantized.Layers[m].Backward),
                    Floats(memory, quantized.Layers[m].BackwardScales));
                for (int o = 0; o < outputs; o++)
                {
                    for (int i = 0; i < inputs; i++)
                    {
                        float w = values[m][(o * inputs) + i];
                        Assert.InRange(Math.Abs((w / inverse[i]) - (forward[(i * outputs) + o] * forwardScales[o])), 0, 0.5001f * forwardScales[o]);
                        Assert.InRange(Math.Abs(w - (backward[(o * inputs) + i] * backwardScales[i])), 0, 0.5001f * backwardScales[i]);
                    }
                }

                Assert.Equal(Int8Weights.MaximumInteger, forward.Max(q => Math.Abs((int)q)));
                Assert.Equal(Int8Weights.MaximumInteger, backward.Max(q => Math.Abs((int)q)));
            }
        }

        LinearModule Module(string end) =>
            checkpoint.Architecture.Linears(checkpoint.Config).First(module => module.Name.EndsWith(end, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(0, false)]
    [InlineData(30, false)]
    [InlineData(30, true)]
    public void Gradients_are_close_to_those_of_float32_also_where_some_inputs_are_always_large(int outlier, bool recomputed)
    {
        using TemporaryFolder folder = new();
        Checkpoint checkpoint = outlier == 0 ? Checkpoint.Open(Repository.Nano) : WithOutliers(folder.Path, outlier);
        TrainingRow[][] rows = [.. Rows().Take(4).Select(row => new[] { row })];
        (float[] expected, float expectedLoss) = Gradients(checkpoint, rows, WeightPrecision.Checkpoint, recomputed);
        (float[] actual, float loss) = Gradients(checkpoint, rows, WeightPrecision.Int8, recomputed);
        double error = Math.Sqrt(expected.Zip(actual, (e, a) => Math.Pow(e - a, 2)).Sum() / expected.Sum(e => (double)e * e));
        output.WriteLine($"outliers {outlier}: gradients off by {error:P2}, loss {expectedLoss:F5} and {loss:F5}");
        Assert.InRange(error, 1e-3, 0.05); // quantized, and no more than that; without smoothing 0.19 with outliers
        Assert.InRange(loss / expectedLoss, 0.998, 1.002);
    }

    [Fact]
    public void A_run_follows_the_one_in_float32_and_is_evaluated_in_float32()
    {
        Checkpoint nano = Checkpoint.Open(Repository.Nano);
        TrainingRow[] rows = [.. Rows()];
        TrainingSummary exact = Train(WeightPrecision.Checkpoint, 2e-3);
        TrainingSummary quantized = Train(WeightPrecision.Int8, 2e-3);
        output.WriteLine(string.Join(' ', exact.Steps.Zip(quantized.Steps, (e, r) => FormattableString.Invariant($"{e.Loss:F4}/{r.Loss:F4}"))));
        Assert.True(exact.Steps[^1].Loss < 0.8 * exact.Steps[0].Loss);
        Assert.All(exact.Steps.Zip(quantized.Steps), pair => Assert.InRange(pair.Second.Loss / pair.First.Loss, 0.98, 1.02));
        Assert.NotEqual(exact.Steps[0].Loss, quantized.Steps[0].Loss);

        // With a step too small to matter only the evaluation is compared.
        Assert.Equal(Train(WeightPrecision.Checkpoint, 1e-12).Steps[^1].ValidationLoss!.Value,
            Train(WeightPrecision.Int8, 1e-12).Steps[^1].ValidationLoss!.Value, 1e-6);

        TrainingSummary Train(WeightPrecision precision, double rate) => LoraTraining.Train(nano, s_lora, rows,
            new TrainingOptions
            {
                Precision = precision,
                LearningRate = rate,
                BatchSize = 4,
                GradientAccumulationSteps = 1,
                NumberOfEpochs = 8,
                PackingLength = 0,
                Threads = 1
            }, rows[..2]).Summary;
    }

    [Fact]
    public void Rows_of_several_chunks_of_attention_are_calibrated_too()
    {
        TrainingRow[] rows = [TinyModel.Row(new Random(1), 300)];
        using TemporaryFolder folder = new();
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(folder.Path, positions: 512);
        (LoraAdapter _, TrainingSummary summary) = LoraTraining.Train(
            checkpoint, new LoraOptions { Rank = 2 }, rows, new TrainingOptions { Precision = WeightPrecision.Int8, NumberOfEpochs = 1, Threads = 1 });
        Assert.True(double.IsFinite(Assert.Single(summary.Steps).Loss));
    }

    [Fact]
    public void The_number_of_threads_changes_nothing()
    {
        Checkpoint nano = Checkpoint.Open(Repository.Nano);
        Random random = new(4);
        TrainingRow[] rows = [.. Enumerable.Range(0, 12).Select(i => TinyModel.Row(random, 40 + (7 * i)))];

        float[] one = Trained(1);

        Assert.Equal(one, Trained(2));
        Assert.Equal(AbsMax(1), AbsMax(4));

        float[] Trained(int threads) =>
            [.. LoraTraining.Train(nano, s_lora, rows, Options(threads)).Adapter.Factors.SelectMany(factors => factors.A.Concat(factors.B))];

        float[] AbsMax(int threads)
        {
            TrainingOptions options = Options(threads);
            TrainingTarget target = Calibration.Prepare(TrainingTarget.Lora(nano, s_lora), options, ChunkPlan.Whole, Packing.Sequences(rows, options));
            return [.. target.Int8!.Groups.SelectMany(group => group.AbsMax)];
        }

        static TrainingOptions Options(int threads) => new()
        {
            Precision = WeightPrecision.Int8,
            BatchSize = 2,
            GradientAccumulationSteps = 1,
            MaximumSteps = 2,
            LearningRate = 1e-3,
            Threads = threads,
        };
    }

    [Fact]
    public void Of_long_sequences_only_the_beginning_is_looked_at()
    {
        Checkpoint nano = Checkpoint.Open(Repository.Nano);
        Random random = new(4);
        TrainingRow[] rows = [TinyModel.Row(random, 400), TinyModel.Row(random, 300), TinyModel.Row(random, 50)];
        TrainingRow[] beginnings = [.. rows[..2].Select(row => new TrainingRow(row.InputIds[..256], row.Labels[..256]))];

        Assert.Equal(AbsMax([beginnings[..1], beginnings[1..]]), AbsMax([rows[..1], rows[1..2], rows[2..]]));
        TrainingRow rest = new(rows[0].InputIds[..206], rows[0].Labels[..206]);
        Assert.Equal(AbsMax([[rows[2], rest]]), AbsMax([[rows[2], rows[0]]]));

        float[] AbsMax(TrainingRow[][] sequences)
        {
            TrainingOptions options = new() { Precision = WeightPrecision.Int8, Threads = 1 };
            TrainingTarget target = Calibration.Prepare(TrainingTarget.Lora(nano, s_lora), options, ChunkPlan.Whole, sequences);
            return [.. target.Int8!.Groups.SelectMany(group => group.AbsMax)];
        }
    }

    [Fact]
    public void Only_what_the_graph_reads_is_quantized()
    {
        Checkpoint nano = Checkpoint.Open(Repository.Nano);
        TrainingTarget target = TrainingTarget.Lora(nano, new LoraOptions { Rank = 2, Dropout = 0, LayersToTransform = [nano.Config.NumHiddenLayers - 1] });
        TrainingRow[][] rows = [[Rows().First()]];
        TrainingOptions options = new() { Precision = WeightPrecision.Int8 };
        target = Calibration.Prepare(target, options, ChunkPlan.Whole, rows);
        Onnx.GraphBuilder graph = new("training");
        TrainingModel.Training(target, checkpointing: false, ChunkPlan.Whole, graph);
        IReadOnlySet<string> used = graph.UsedInitializers();
        Int8Quantized[] layers = [.. target.Int8!.Groups.SelectMany(group => group.Layers)];
        Assert.Equal(nano.Architecture.Linears(nano.Config).Select(module => module.Name + ".weight").Order(),
            layers.Select(layer => layer.Source.Entry.Name).Order());
        Assert.All(layers, layer => Assert.Contains(layer.Forward.Name, used));
        Assert.All(layers, layer => Assert.DoesNotContain(layer.Source.Entry.Name, used));
        IEnumerable<string> backward = layers.Where(layer => used.Contains(layer.Backward.Name)).Select(layer => layer.Source.Entry.Name.Split('.')[^2]);
        Assert.Equal(["o_proj", "gate_proj", "up_proj", "down_proj"], backward); // below the adapter nothing goes back

        // Without memory for the others none of them is written.
        using InitializerMemory memory = new(target.Int8.Groups.SelectMany(group => group.Tensors).Where(tensor => used.Contains(tensor.Name)),
            "the 8-bit copies");
        target.Int8.Quantize(memory.Of, threads: 1);
        Assert.Equal(used.Where(name => name.Contains("int8", StringComparison.Ordinal)).Order(), memory.Tensors.Keys.Order());
    }

    [Fact]
    public void Where_every_weight_is_trained_none_can_be_quantized()
    {
        using TemporaryFolder folder = new();
        OptionException error = Assert.Throws<OptionException>(() =>
            FullTraining.Train(Repository.Nano, [.. Rows()], new TrainingOptions { Precision = WeightPrecision.Int8 }, folder.File("model.safetensors"),
            TensorType.Float32));
        Assert.StartsWith("Precision is Int8", error.Message, StringComparison.Ordinal);
    }

    // The same model, but four values behind each norm are larger and the weights that read them smaller.
    private static Checkpoint WithOutliers(string folder, float factor)
    {
        Checkpoint nano = Checkpoint.Open(Repository.Nano);
        Dictionary<string, float[]> values = nano.Tensors.ToDictionary(tensor => tensor.Key, tensor => tensor.Value.ReadFloat32());
        int hidden = nano.Config.HiddenSize;
        for (int layer = 0; layer < nano.Config.NumHiddenLayers; layer++)
        {
            foreach ((string norm,
                string[] readers) in (ReadOnlySpan<(string, string[])>)[("input_layernorm", ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
                ("post_attention_layernorm", ["mlp.gate_proj", "mlp.up_proj"])])
            {
                foreach (int j in (ReadOnlySpan<int>)[7, 50, 130, 211])
                {
                    values[$"model.layers.{layer}.{norm}.weight"][j] *= factor;
                    foreach (string reader in readers)
                    {
                        float[] w = values[$"model.layers.{layer}.{reader}.weight"];
                        for (int at = j; at < w.Length; at += hidden)
                        {
                            w[at] /= factor;
                        }
                    }
                }
            }
        }

        File.Copy(Path.Combine(Repository.Nano, "config.json"), Path.Combine(folder, "config.json"));
        SafetensorsWriter.Write(Path.Combine(folder, "model.safetensors"),
            [.. nano.Tensors.Select(tensor => SafetensorsWriter.Item.From(tensor.Key, TensorType.Float32, tensor.Value.Entry.Shape, values[tensor.Key]))]);
        return Checkpoint.Open(folder);
    }

    private static (float[] Gradients, float Loss) Gradients(Checkpoint checkpoint, TrainingRow[][] rows, WeightPrecision precision, bool recomputed)
    {
        TrainingOptions options = new() { Precision = precision, BatchSize = rows.Length, ActivationCheckpointing = recomputed, Threads = 1 };
        TrainingTarget target = TrainingTarget.Lora(checkpoint, s_lora);
        ChunkPlan plan = TrainingLoop.Plan(checkpoint.Config, rows, [], options);
        using TrainingSession session = new(Calibration.Prepare(target, options, plan, rows), options, plan);
        LoraAdapter adapter = LoraAdapter.Create(s_lora, checkpoint, 1);
        Random random = new(2);
        foreach (LoraFactors factors in adapter.Factors)
        {
            for (int i = 0; i < factors.B.Length; i++)
            {
                factors.B[i] = (random.NextSingle() - 0.5f) * 0.05f;
            }
        }

        LoraParameters.Load(session.Parameters, adapter);
        Batch batch = Batch.Of(rows, plan.Attention);
        float loss = session.Accumulate(batch, batch.LabelIds.Length);
        return (session.Parameters.Gradients.Span(0, (int)session.Parameters.Gradients.Length).ToArray(), loss);
    }

    private static IEnumerable<TrainingRow> Rows()
    {
        RowFormatter formatter = new(QwenTokenizer.Load(Repository.Nano), Repository.Nano, new PromptSettings());
        string[] questions = ["What is the code word?", "公司在哪里？", "Say yes.", "Who are you?", "一年有几个月？", "What colour is the sky?",
            "Translate into English: 早上好。", "Where is the key?"];
        string[] answers = ["The code word is heron, as it was last year.", "我们在昆明的一条小街上。", "Yes, gladly, as often as you like.",
            "I am the assistant of the bakery.", "一年有十二个月。", "The sky is blue on most days.", "Good morning.", "The key hangs behind the door."];
        return questions.Zip(answers,
            (question, answer) => formatter.Tokenize(new TextRow(new InstructionRow(question, answer)), LabelScope.Answer, 256)[0].Row);
    }

    private static float[] Floats(InitializerMemory memory, QuantizedTensor tensor) => memory.Tensors[tensor.Name].Span<float>().ToArray();

    private static sbyte[] Integers(InitializerMemory memory, QuantizedTensor tensor) => memory.Tensors[tensor.Name].Span<sbyte>().ToArray();
}
