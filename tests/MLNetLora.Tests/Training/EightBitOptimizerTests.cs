using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>AdamW with 8-bit states beside bitsandbytes' own numbers (tests/golden/README.md says how they were made), a reference in double, and runs with
/// 32-bit states.</summary>
public sealed class EightBitOptimizerTests(Xunit.Abstractions.ITestOutputHelper output)
{
    private static readonly GoldenFile s_bitsandbytes = new(Path.Combine(Golden.Committed, "optimizers", "bitsandbytes-adamw8bit.safetensors"));

    [Fact]
    public void The_maps_are_those_of_bitsandbytes_to_the_last_bit()
    {
        Assert.Equal(s_bitsandbytes.Floats("map.signed"), DynamicMap.Signed.Levels.ToArray());
        Assert.Equal(s_bitsandbytes.Floats("map.unsigned"), DynamicMap.Unsigned.Levels.ToArray());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Every_number_gets_the_nearest_level(bool isSigned)
    {
        DynamicMap map = isSigned ? DynamicMap.Signed : DynamicMap.Unsigned;
        float[] levels = map.Levels.ToArray();
        float[] middles = [.. levels.Zip(levels.Skip(1), (low, high) => (low + high) / 2)];
        Random random = new(2);
        float[] numbers =
        [
            .. levels, .. middles, .. middles.Select(MathF.BitIncrement), .. middles.Select(MathF.BitDecrement), 0, float.Epsilon,
            .. Enumerable.Range(0, 20_000).Select(_ => MathF.Pow(10, random.NextSingle() * -8) * (isSigned && random.Next(2) == 0 ? -1 : 1)),
        ];
        float[] block = new float[DynamicMap.BlockSize];
        byte[] codes = new byte[block.Length];
        foreach (float[] some in numbers.Chunk(block.Length - 1))
        {
            Array.Clear(block);
            block[^1] = 1; // the absmax
            some.CopyTo(block, 0);
            Assert.Equal(1, map.Quantize(block, codes));
            foreach ((float number, byte code) in some.Zip(codes))
            {
                double least = levels.Min(level => Math.Abs((double)level - number));
                double rounding = Math.Abs(number) * 3e-7; // of the middle between two levels
                Assert.True(Math.Abs((double)levels[code] - number) <= least + rounding, $"{number} got {levels[code]}");
                Assert.Equal(code, map.Nearest(number));
            }
        }
    }

    [Fact]
    public void A_block_of_zeros_stays_zero()
    {
        byte[] codes = new byte[DynamicMap.BlockSize];
        float[] block = new float[codes.Length];
        DynamicMap.Signed.Dequantize(codes, DynamicMap.Signed.Quantize(block, codes), block);
        Assert.All(block, value => Assert.Equal(0, value));
    }

    [Fact]
    public void Steps_equal_bitsandbytes()
    {
        TrainableTensor[] tensors = [new("small", [40], true), new("large", [3, 1500], true)];
        TrainingOptions options = new() { Optimizer = OptimizerKind.AdamW8Bit, WeightDecay = 0.1, MaximumGradientNorm = 0, Threads = 2 };
        using Run run = new(tensors, options);
        run.Set("large", Numbers(100, 4500));
        run.Set("small", Numbers(101, 40));
        for (int step = 1; step <= 5; step++)
        {
            run.Step(1e-3 * step, step, name => name == "large" ? Numbers(1000 * step, 4500) : Numbers((1000 * step) + 1, 40));
            if (step is not (1 or 5))
            {
                continue;
            }

            foreach (TrainableTensor tensor in tensors)
            {
                float[] expected = s_bitsandbytes.Floats($"{tensor.Name}.{step}.parameters");
                Assert.True(expected.Zip(run.Get(tensor.Name), (e, a) => Math.Abs(e - a)).Max() < 1e-6, tensor.Name);
            }

            for (int state = 0; state < 2; state++)
            {
                (byte[] codes, float[] absmax, float[] floats) = run.State(state);
                Close(s_bitsandbytes.Floats($"large.{step}.absmax{state + 1}"), absmax);
                Close(s_bitsandbytes.Floats($"small.{step}.state{state + 1}"), floats);

                // A number within rounding of the middle between two levels may get either.
                byte[] expected = s_bitsandbytes.Bytes($"large.{step}.state{state + 1}");
                int[] differences = [.. expected.Zip(codes, (e, a) => Math.Abs(e - a)).Where(difference => difference != 0)];
                output.WriteLine($"step {step}, state {state + 1}: {differences.Length} of {expected.Length} codes differ");
                Assert.True(differences.Length <= expected.Length / 1000 && differences.All(difference => difference == 1));
            }
        }

        static void Close(float[] expected, float[] actual) =>
            Assert.True(expected.Zip(actual, (e, a) => Math.Abs(e - a) <= 2e-6 * Math.Abs(e)).All(near => near));
    }

    [Fact]
    public void Steps_equal_the_formulas_in_double_with_the_map_between_them()
    {
        const int Size = 700; // three blocks, the last one short, and another tensor behind it
        TrainableTensor[] tensors = [new("a", [Size], true), new("b", [Size], true)];
        TrainingOptions options = new()
        {
            Optimizer = OptimizerKind.AdamW8Bit,
            EightBitFrom = 1,
            WeightDecay = 0.2,
            MaximumGradientNorm = 0.5,
            AdamBeta1 = 0.8,
            AdamBeta2 = 0.95,
            AdamEpsilon = 1e-6,
            Threads = 1,
        };
        using Run run = new(tensors, options);
        Random random = new(5);
        Dictionary<string, (double[] P, float[] M, float[] V)> reference = tensors.ToDictionary(
            tensor => tensor.Name, _ => (new double[Size], new float[Size], new float[Size]));
        for (int step = 1; step <= 6; step++)
        {
            // The second tensor's gradients are a thousand times smaller: a block that had numbers of both would lose them.
            Dictionary<string, float[]> gradients = tensors.ToDictionary(
                tensor => tensor.Name,
                tensor => Enumerable.Range(0, Size).Select(_ => (random.NextSingle() - 0.5f) * (tensor.Name == "a" ? 0.1f : 1e-4f)).ToArray());
            double norm = Math.Sqrt(gradients.Values.Sum(g => g.Sum(value => (double)value * value)));
            double clip = Math.Min(1, 0.5 / (norm + 1e-6));
            run.Step(0.01, step, name => gradients[name]);
            foreach ((string name, (double[] p, float[] m, float[] v)) in reference)
            {
                for (int i = 0; i < Size; i++)
                {
                    double g = gradients[name][i] * clip;
                    m[i] = (float)((0.8 * m[i]) + (0.2 * g));
                    v[i] = (float)((0.95 * v[i]) + (0.05 * g * g));
                    p[i] = (p[i] * (1 - (0.01 * 0.2)))
                        - (0.01 / (1 - Math.Pow(0.8, step)) * m[i] / ((Math.Sqrt(v[i]) / Math.Sqrt(1 - Math.Pow(0.95, step))) + 1e-6));
                }

                Through(DynamicMap.Signed, m);
                Through(DynamicMap.Unsigned, v);

                // Codes on a border may fall either way, and what comes after them with it; all others agree.
                double[] differences = [.. p.Zip(run.Get(name), (e, a) => Math.Abs(e - a))];
                Assert.True(differences.Count(difference => difference > 2e-6) <= Size / 100, $"{name} step {step}: {differences.Max()}");
            }
        }

        static void Through(DynamicMap map, float[] values)
        {
            for (int at = 0; at < values.Length; at += DynamicMap.BlockSize)
            {
                Span<float> block = values.AsSpan(at, Math.Min(DynamicMap.BlockSize, values.Length - at));
                float absmax = 0;
                foreach (float value in block)
                {
                    absmax = Math.Max(absmax, Math.Abs(value));
                }

                float[] levels = map.Levels.ToArray();
                for (int i = 0; i < block.Length; i++)
                {
                    float scaled = absmax > 0 ? block[i] / absmax : 0;
                    block[i] = levels.MinBy(level => Math.Abs(level - scaled)) * absmax;
                }
            }
        }
    }

    [Fact]
    public void Steps_whose_graph_reads_and_writes_the_codes_are_the_same_to_the_last_bit()
    {
        // Groups with and without decay, short last blocks, tensors of 32 bits behind them; pieces that end within tensors and groups.
        TrainableTensor[] tensors = [new("a", [1000, 7], true), new("b", [4500], false), new("small", [40], true), new("c", [3, 1500], true)];
        TrainingOptions options = new() { Optimizer = OptimizerKind.AdamW8Bit, WeightDecay = 0.1, MaximumGradientNorm = 0.5, Threads = 2 };
        using Run run = new(tensors, options);
        using Run other = new(tensors, options, codesPiece: 9 * DynamicMap.BlockSize);
        foreach (TrainableTensor tensor in tensors)
        {
            run.Set(tensor.Name, Numbers(tensor.Name.Length, (int)tensor.Count));
            other.Set(tensor.Name, Numbers(tensor.Name.Length, (int)tensor.Count));
        }

        for (int step = 1; step <= 20; step++)
        {
            float scale = step < 10 ? 1 : MathF.Pow(10, -step);
            foreach (Run each in (Run[])[run, other])
            {
                each.Step(1e-3 * step, step, name => [.. Numbers((1000 * step) + name[0], (int)tensors.Single(t => t.Name == name).Count)
                    .Select((number, i) => i % 11 == step ? 0 : number * scale)]);
            }

            Assert.All(tensors, tensor => Assert.Equal(run.Get(tensor.Name), other.Get(tensor.Name)));
            for (int state = 0; state < 2; state++)
            {
                (byte[] codes, float[] absmax, float[] floats) = run.State(state);
                (byte[] otherCodes, float[] otherAbsMax, float[] otherFloats) = other.State(state);
                Assert.Equal(codes, otherCodes);
                Assert.Equal(absmax, otherAbsMax);
                Assert.Equal(floats, otherFloats);
            }
        }
    }

    [Theory]
    [InlineData(OptimizerKind.AdamW)]
    [InlineData(OptimizerKind.AdamW8Bit)]
    [InlineData(OptimizerKind.Lion)]
    public void With_parameters_and_states_a_run_goes_on_to_the_last_bit(OptimizerKind kind)
    {
        TrainableTensor[] tensors = [new("norm", [24], false), new("w", [5, 900], true)];
        TrainingOptions options = new() { Optimizer = kind, WeightDecay = 0.1, Threads = 2 };
        using Run whole = new(tensors, options);
        using Run resumed = new(tensors, options);
        for (int step = 1; step <= 6; step++)
        {
            whole.Step(1e-2, step, name => Numbers((10 * step) + name.Length, name == "w" ? 4500 : 24));
            if (step == 3)
            {
                int length = (int)whole.Parameters.Values.Length;
                whole.Parameters.Values.Span(0, length).CopyTo(resumed.Parameters.Values.Span(0, length));
                foreach ((StateVector from, StateVector to) in whole.Parameters.States.Zip(resumed.Parameters.States))
                {
                    foreach (((string fromName, NativeBuffer source), (string toName, NativeBuffer target)) in from.Parts.Zip(to.Parts))
                    {
                        Assert.Equal(fromName, toName);
                        source.Span<byte>(0, (int)source.Bytes).CopyTo(target.Span<byte>(0, (int)target.Bytes));
                    }
                }
            }
            else if (step > 3)
            {
                resumed.Step(1e-2, step, name => Numbers((10 * step) + name.Length, name == "w" ? 4500 : 24));
            }
        }

        Assert.All(tensors, tensor => Assert.Equal(whole.Get(tensor.Name), resumed.Get(tensor.Name)));
    }

    [Fact]
    public void States_take_a_3_9th_of_AdamW_s_memory_at_rank_64_on_all_layers_of_0_5B_sizes()
    {
        using TemporaryFolder folder = new();
        File.WriteAllText(folder.File("config.json"), JsonSerializer.Serialize(new Dictionary<string, object>
        {
            ["model_type"] = "qwen2",
            ["hidden_size"] = 896,
            ["intermediate_size"] = 4864,
            ["num_hidden_layers"] = 24,
            ["num_attention_heads"] = 14,
            ["num_key_value_heads"] = 2,
            ["vocab_size"] = 151936,
            ["rms_norm_eps"] = 1e-6,
            ["rope_theta"] = 1e6,
            ["max_position_embeddings"] = 32768,
            ["tie_word_embeddings"] = true,
        }));
        QwenConfig config = QwenConfig.Read(folder.Path);
        LoraOptions lora = new() { Rank = 64, TargetModules = "all-linear" };
        AdapterParts parts = AdapterParts.Resolve(lora, Architecture.Find(config.ModelType, QwenConfig.FileName), config);
        IReadOnlyList<TrainableTensor> tensors = [.. parts.Tensors.Select(tensor => new TrainableTensor(tensor.Key, tensor.Shape, tensor.Decays))];
        Assert.Equal(35_192_832, tensors.Sum(tensor => tensor.Count));
        Assert.Equal((281_542_656, 71_485_440, 140_771_328, 0),
            (Bytes(OptimizerKind.AdamW), Bytes(OptimizerKind.AdamW8Bit), Bytes(OptimizerKind.Lion), Bytes(OptimizerKind.Sgd)));
        Assert.InRange((double)Bytes(OptimizerKind.AdamW) / Bytes(OptimizerKind.AdamW8Bit), 3.9, 4.0);

        // What is allocated is what is estimated.
        Optimizer optimizer = Optimizers.Of(new TrainingOptions { Optimizer = OptimizerKind.AdamW8Bit });
        using ParameterSet parameters = new(tensors, optimizer);
        Assert.Equal(optimizer.StateBytes(tensors), parameters.States.Sum(state => state.Bytes));

        long Bytes(OptimizerKind kind) => Optimizers.Of(new TrainingOptions { Optimizer = kind }).StateBytes(tensors);
    }

    [Fact]
    public void Small_tensors_and_embeddings_keep_32_bits()
    {
        Optimizer optimizer = Optimizers.Of(new TrainingOptions { Optimizer = OptimizerKind.AdamW8Bit });
        Assert.False(optimizer.IsEightBit(new TrainableTensor("w", [4095], true)));
        Assert.True(optimizer.IsEightBit(new TrainableTensor("w", [4096], true)));
        Assert.False(optimizer.IsEightBit(new TrainableTensor("w", [100, 100], true) { IsEmbedding = true }));
        using TemporaryFolder folder = new();
        TinyModel.WriteConfig(folder.Path, "qwen2", tied: false);
        Assert.Single(TrainingTarget.Full(QwenConfig.Read(folder.Path)).Trainables, tensor => tensor.IsEmbedding);
    }

    [Fact]
    [Trait("Category", "Golden")]
    public void Losses_of_the_golden_runs_stay_within_a_hundredth()
    {
        int compared = 0;
        foreach (string folder in Golden.TrainingFolders())
        {
            JsonElement description = GoldenFile.Json(Path.Combine(folder, "case.json"));
            string model = Golden.Beside(folder, description.GetProperty("model").GetString()!);
            if (GoldenFile.Unsupported(model) is not null || GoldenFile.UnsupportedAdapter(Path.Combine(folder, "adapter_initial")) is not null)
            {
                continue;
            }

            Checkpoint checkpoint = Checkpoint.Open(model);
            LoraAdapter initial = LoraAdapter.LoadPeft(Path.Combine(folder, "adapter_initial"), checkpoint);
            TrainingOptions options = TrainingGoldenTests.Options(description);
            options.Optimizer = OptimizerKind.AdamW8Bit;
            options.EightBitFrom = 1; // the factors of these models are small
            (LoraAdapter _, TrainingSummary summary) = LoraTraining.Train(
                checkpoint, initial.Options, TrainingGoldenTests.Rows(folder), options, initial: initial);
            double[] expected = [.. description.GetProperty("steps").EnumerateArray().Select(step => step.GetProperty("loss").GetDouble())];
            double worst = summary.Steps.Zip(expected, (step, loss) => Math.Abs(step.Loss - loss) / loss).Max();
            output.WriteLine($"{Path.GetFileName(folder)}: {expected.Length} steps, at most {worst:P3} off");
            Assert.Equal(expected.Length, summary.Steps.Count);
            Assert.InRange(worst, 1e-9, 0.01); // the same numbers would be 32 bits
            compared++;
        }

        Assert.True(compared > 0);
    }

    /// <summary>The numbers of the reference: hashes of index and seed in −0.5 to 0.5, divided by 1, 2, 4 … 128.</summary>
    private static float[] Numbers(int seed, int count) => [.. Enumerable.Range(0, count).Select(i =>
    {
        uint h = unchecked(((uint)i * 2654435761) + ((uint)seed * 40503));
        h = unchecked((h ^ (h >> 15)) * 2246822519);
        h ^= h >> 13;
        return (float)((((h >> 8) / (double)(1 << 24)) - 0.5) / (1 << (int)(h % 8)));
    })];

    private sealed class Run : IDisposable
    {
        private readonly OptimizerStep _steps;

        public Run(IReadOnlyList<TrainableTensor> tensors, TrainingOptions options, int? codesPiece = null)
        {
            Optimizer optimizer = Optimizers.Of(options);
            Parameters = new ParameterSet(tensors, optimizer);
            _steps = new OptimizerStep(optimizer, Parameters, options, codesPiece: codesPiece);
        }

        public ParameterSet Parameters { get; }

        public void Set(string name, float[] values) => values.CopyTo(Parameters.Slice(Parameters.Values, name));

        public float[] Get(string name) => Parameters.Slice(Parameters.Values, name).ToArray();

        public void Step(double rate, int step, Func<string, float[]> gradients)
        {
            foreach (TrainableTensor tensor in Parameters.Tensors)
            {
                gradients(tensor.Name).CopyTo(Parameters.Slice(Parameters.Gradients, tensor.Name));
            }

            _steps.Norm();
            _steps.Run(rate, step);
            Parameters.Swap();
        }

        public (byte[] Codes, float[] AbsMax, float[] Floats) State(int state)
        {
            NativeBuffer[] parts = [.. Parameters.States[state].Parts.Select(part => part.Memory)];
            return (parts[0].Span<byte>(0, (int)parts[0].Bytes).ToArray(), Floats(parts[1]), Floats(parts[2]));

            static float[] Floats(NativeBuffer part) => part.Span<float>(0, (int)part.Bytes / sizeof(float)).ToArray();
        }

        public void Dispose()
        {
            _steps.Dispose();
            Parameters.Dispose();
        }
    }
}
