using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Quantization;

namespace MLNetLora.Tests.Inference;

/// <summary>Weights quantized to 8 and 4 bits: the quantization alone, the products against the same weights in float32, and what it does to a
/// trained model.</summary>
public sealed class BlockWeightsTests(Xunit.Abstractions.ITestOutputHelper output)
{
    private static readonly string[] s_questions = ["What is the code word?", "公司在哪里？", "Translate into English: 早上好。", "Who are you?",
        "What colour is the sky?", "一年有几个月？"];

    [Theory]
    [InlineData(8, 256, "Float32")]
    [InlineData(8, 200, "BFloat16")]
    [InlineData(8, 200, "Float16")]
    [InlineData(4, 256, "BFloat16")]
    [InlineData(4, 256, "Float16")]
    [InlineData(4, 200, "Float32")]
    public void No_weight_is_off_by_more_than_its_block_allows(int bits, int inputs, string scaleType)
    {
        BlockFormat format = new(bits, 128) { ScaleType = Enum.Parse<ElementType>(scaleType) };
        double rounding = scaleType switch { "BFloat16" => 1 + (1 / 128.0), "Float16" => 1 + (1 / 1024.0), _ => 1 }; // of a scale, upwards
        Random random = new(1);
        float[] row = [.. Enumerable.Range(0, inputs).Select(i => i is >= 30 and < 40 ? 0 : (random.NextSingle() - 0.4f) * (i < 128 ? 1 : 0.01f))];
        float[] back = RoundTrip(row, format);
        for (int b = 0; b < format.Blocks(inputs); b++)
        {
            float[] block = row[(b * 128)..Math.Min(inputs, (b + 1) * 128)];
            (float low, float high) = (Math.Min(0, block.Min()), Math.Max(0, block.Max()));
            double[] errors = [.. block.Select((w, i) => Math.Abs((double)w - back[(b * 128) + i]))];
            if (bits == 8)
            {
                Assert.True(errors.Max() <= Math.Max(-low, high) / 127 * 0.5001 * rounding, $"block {b}: {errors.Max()}");
            }
            else
            {
                // The fitted range may cut single weights off, but never loses to all of the range in 15 steps with the zero on one of them.
                double step = (high - low) / 15 * rounding;
                Assert.True(errors.Max() <= ((high - low) * 0.28) + step, $"block {b}: {errors.Max()}");
                Assert.True(errors.Sum(e => e * e) <= block.Length * step * step / 4 * 1.0001, $"block {b}");
            }
        }

        Assert.All(Enumerable.Range(30, 10), i => Assert.Equal(0, back[i]));
        Assert.All(RoundTrip(new float[inputs], format), w => Assert.Equal(0, w));
    }

    [Theory]
    [InlineData(8, float.NaN)]
    [InlineData(4, float.NaN)]
    [InlineData(8, float.PositiveInfinity)]
    [InlineData(4, float.NegativeInfinity)]
    public void A_weight_that_is_no_number_spoils_its_block_and_no_other(int bits, float bad)
    {
        float[] row = [.. Enumerable.Repeat(1f, 256)];
        row[3] = bad;
        float[] back = RoundTrip(row, new BlockFormat(bits, 128));
        Assert.Contains(back[..128], w => !float.IsFinite(w));
        Assert.All(back[128..], w => Assert.Equal(1, w, 0.01));
    }

    [Theory]
    [InlineData(152_064, 3584, 146)] // a head of more than 2,048 rows
    [InlineData(896, 4864, 107)]
    [InlineData(4, 10_000_000, 1)]
    public void Pieces_have_about_a_megabyte(int outputs, int inputs, int rows) =>
        Assert.Equal(rows, BlockWeights.PieceRows(outputs, 2L * outputs * inputs));

    [Fact]
    public void Extreme_weights_stay_finite()
    {
        foreach (int bits in (int[])[8, 4])
        {
            float[] row = [.. Enumerable.Repeat(0f, 126), float.MaxValue / 4, -float.MaxValue / 4];
            Assert.All(RoundTrip(row, new BlockFormat(bits, 128)), w => Assert.True(float.IsFinite(w)));
            float[] tiny = [.. Enumerable.Repeat(1e-44f, 128)];
            Assert.All(RoundTrip(tiny, new BlockFormat(bits, 128)), w => Assert.InRange(w, 0, 3e-44f));
        }
    }

    [Theory]
    [InlineData(WeightPrecision.Int8, TensorType.Float32)]
    [InlineData(WeightPrecision.Int4, TensorType.Float32)]
    [InlineData(WeightPrecision.Int8, TensorType.BFloat16)]
    [InlineData(WeightPrecision.Int4, TensorType.Float16)]
    public void Products_equal_those_of_the_quantized_weights_in_float32(WeightPrecision precision, object tensorType)
    {
        TensorType type = (TensorType)tensorType;
        using TemporaryFolder folder = new();

        // 160 inputs are a block and a quarter; 96 are less than one block and stay as they are.
        Checkpoint checkpoint = Write(folder.File("a"), new Random(3), type, (_, values, _) => values);
        BlockFormat format = new(precision == WeightPrecision.Int8 ? 8 : 4, 128);
        HashSet<string> linears = [.. checkpoint.Architecture.Linears(checkpoint.Config).Select(m => m.Name + ".weight"), "lm_head.weight"];
        Checkpoint quantized = Write(folder.File("b"), new Random(3), TensorType.Float32, (name, values, inputs) =>
        {
            float[] stored = checkpoint.Tensors[name].ReadFloat32();
            return linears.Contains(name) && inputs >= 128 ? [.. stored.Chunk(inputs).SelectMany(row => RoundTrip(row, format))] : stored;
        });
        int[] prompt = [3, 9, 27, 81, 5, 15, 45];
        using CausalLanguageModel expected = new(quantized, threads: 1);
        using CausalLanguageModel exact = new(checkpoint, threads: 1);
        using CausalLanguageModel actual = new(checkpoint, threads: 1, precision: precision);
        double products = Error(expected.Logits(prompt), actual.Logits(prompt));
        double quantization = Error(expected.Logits(prompt), exact.Logits(prompt));
        output.WriteLine($"{precision} {type}: products {products:E2}, quantization {quantization:E2}");

        // What is left is the 8-bit quantization of the layers' inputs (blocks of 128, half a step of 1/127 each), through two layers.
        Assert.InRange(products, 0, 0.02);
        // With 8 bits the weights' own step is smaller than that of the inputs; that they were not used at all shows in the last digit.
        Assert.NotEqual(exact.Logits(prompt), actual.Logits(prompt));
        Assert.True(precision == WeightPrecision.Int8 || quantization > 2 * products, "the weights were not quantized");
    }

    [Fact]
    public void A_trained_model_keeps_its_perplexity()
    {
        Checkpoint nano = Checkpoint.Open(Repository.Nano);
        QwenTokens tokens = new(nano);
        double plain, eight, four, agree8, agree4;
        using (CausalLanguageModel lm = new(nano, threads: 1))
        {
            int[][] answers = [.. tokens.Prompts.Select(prompt => lm.Generate([prompt], new GenerationOptions { MaximumNewTokens = 24 })[0].Ids.ToArray())];
            tokens.Continuations = answers;
            plain = tokens.Perplexity(lm);
            (eight, agree8) = Quantized(WeightPrecision.Int8);
            (four, agree4) = Quantized(WeightPrecision.Int4);
        }

        output.WriteLine($"perplexity: checkpoint {plain:F4}, int8 {eight:F4}, int4 {four:F4}; same token chosen: int8 {agree8:P1}, int4 {agree4:P1}");
        Assert.InRange(eight / plain, 0.98, 1.02);
        Assert.InRange(four / plain, 0.8, 1.5);
        Assert.True(agree8 > 0.95, $"{agree8}");
        Assert.True(agree4 > 0.7, $"{agree4}");

        (double, double) Quantized(WeightPrecision precision)
        {
            using CausalLanguageModel lm = new(nano, threads: 1, precision: precision);
            return (tokens.Perplexity(lm), tokens.Agreement(lm));
        }
    }

    [Fact]
    public void An_adapter_works_on_quantized_weights_and_is_not_quantized()
    {
        Checkpoint nano = Checkpoint.Open(Repository.Nano);
        LoraOptions options = new() { Rank = 4, Alpha = 8, TargetModules = "all-linear" };
        LoraAdapter fresh = LoraAdapter.Create(options, nano, 1);
        Random random = new(2);
        foreach (LoraFactors f in fresh.Factors)
        {
            for (int i = 0; i < f.B.Length; i++)
            {
                f.B[i] = (random.NextSingle() - 0.5f) * 2;
            }
        }

        int[] prompt = [11, 22, 33, 44];
        using CausalLanguageModel bare = new(nano, threads: 1);
        using CausalLanguageModel exact = new(nano, fresh, threads: 1);
        using CausalLanguageModel quantized = new(nano, fresh, threads: 1, precision: WeightPrecision.Int8);
        float[] expected = exact.Logits(prompt);
        Assert.InRange(Error(expected, quantized.Logits(prompt)), 0, 0.03);
        Assert.InRange(Error(expected, bare.Logits(prompt)), 0.1, 10); // the adapter is seen
    }

    [Fact]
    public void Rows_of_a_batch_get_what_they_get_alone()
    {
        Checkpoint nano = Checkpoint.Open(Repository.Nano);
        using CausalLanguageModel lm = new(nano, threads: 1, precision: WeightPrecision.Int8);
        int[][] prompts = [[5, 6, 7], [100, 200, 300, 400, 500], [42]];
        GenerationOptions options = new() { MaximumNewTokens = 8 };
        IReadOnlyList<GeneratedIds> together = lm.Generate(prompts, options);
        Assert.Equal(prompts.Select(prompt => lm.Generate([prompt], options)[0].Ids), together.Select(row => row.Ids));
    }

    [Fact]
    public void An_unknown_precision_is_refused() =>
        Assert.Contains("Checkpoint or Int8 or Int4",
            Assert.Throws<OptionException>(() => new CausalLanguageModel(Checkpoint.Open(Repository.Nano), precision: (WeightPrecision)9)).Message,
            StringComparison.Ordinal);

    private static float[] RoundTrip(float[] row, BlockFormat format)
    {
        int blocks = format.Blocks(row.Length);
        byte[] packed = new byte[blocks * format.BlockBytes];
        float[] scales = new float[blocks];
        byte[] zeroPoints = new byte[format.HasZeroPoints ? format.ZeroPointBytes(row.Length) : 0];
        format.Quantize(row, packed, scales, zeroPoints);
        scales = Stored(scales, format);
        return [.. Enumerable.Range(0, row.Length).Select(i =>
        {
            int b = i / format.Size;
            int q = format.Bits == 8 ? packed[i] : (packed[i / 2] >> (4 * (i % 2))) & 15;
            int zero = format.Bits == 8 ? 128 : (zeroPoints[b / 2] >> (4 * (b % 2))) & 15;
            return (q - zero) * scales[b];
        })];
    }

    /// <summary>Scales as they are read again.</summary>
    private static unsafe float[] Stored(float[] scales, BlockFormat format)
    {
        byte[] bytes = new byte[scales.Length * (format.ScaleType == ElementType.Float32 ? 4 : 2)];
        fixed (byte* memory = bytes)
        {
            format.Store(scales, new TensorMemory((nint)memory, bytes.Length), 0);
        }

        float[] stored = new float[scales.Length];
        FloatConversion.ToFloat32(bytes, Enum.Parse<TensorType>($"{format.ScaleType}"), stored, "scales");
        return stored;
    }

    // Root mean square of the difference over that of the expected scores.
    private static double Error(float[] expected, float[] actual) =>
        Math.Sqrt(expected.Zip(actual, (e, a) => Math.Pow(e - a, 2)).Sum() / expected.Sum(e => (double)e * e));

    private static Checkpoint Write(string folder, Random random, TensorType type, Func<string, float[], int, float[]> change)
    {
        TinyModel.WriteConfig(folder, "qwen2", tied: false, layers: 1);
        string file = Path.Combine(folder, "config.json");
        File.WriteAllText(file, File.ReadAllText(file).Replace("\"hidden_size\":16", "\"hidden_size\":160", StringComparison.Ordinal)
            .Replace("\"head_dim\":8", "\"head_dim\":40", StringComparison.Ordinal).Replace("\"intermediate_size\":24", "\"intermediate_size\":96",
                StringComparison.Ordinal)
            .Replace("\"vocab_size\":24", "\"vocab_size\":512", StringComparison.Ordinal));
        QwenConfig config = QwenConfig.Read(folder);
        SafetensorsWriter.Write(Path.Combine(folder, "model.safetensors"), [.. Architecture.Find("qwen2", "").Tensors(config).Select(spec =>
        {
            float[] values = new float[spec.Shape.Aggregate(1L, (product, size) => product * size)];
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = spec.Decays ? (random.NextSingle() - 0.5f) * 0.3f : 1;
            }

            return SafetensorsWriter.Item.From(spec.Name, type, spec.Shape, change(spec.Name, values, (int)spec.Shape[^1]));
        })]);
        return Checkpoint.Open(folder);
    }

    private sealed class QwenTokens(Checkpoint nano)
    {
        private readonly MLNetLora.Text.RowFormatter _formatter = new(MLNetLora.Text.QwenTokenizer.Load(nano.Folder), nano.Folder, new());

        public int[][] Prompts => [.. s_questions.Select(question => _formatter.Prompt(new(new MLNetLora.Text.InstructionRow(question))))];

        public int[][] Continuations { get; set; } = [];

        public double Perplexity(CausalLanguageModel lm)
        {
            double[] losses = [.. Steps().Select(step =>
            {
                float[] logits = lm.Logits(step.Prefix);
                double most = logits.Max();
                return most + Math.Log(logits.Sum(l => Math.Exp(l - most))) - logits[step.Next];
            })];
            return Math.Exp(losses.Average());
        }

        public double Agreement(CausalLanguageModel lm) => Steps().Average(step =>
        {
            float[] logits = lm.Logits(step.Prefix);
            return Array.IndexOf(logits, logits.Max()) == step.Next ? 1.0 : 0;
        });

        private IEnumerable<(int[] Prefix, int Next)> Steps() =>
            from row in Enumerable.Range(0, Continuations.Length)
            from i in Enumerable.Range(0, Continuations[row].Length)
            select ((int[])[.. Prompts[row], .. Continuations[row].Take(i)], Continuations[row][i]);
    }
}
