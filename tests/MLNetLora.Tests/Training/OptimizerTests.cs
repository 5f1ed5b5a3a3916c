using MLNetLora.Artifacts;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>The optimizer's graph against AdamW written out in double, as PyTorch defines it.</summary>
public sealed class OptimizerTests
{
    [Theory]
    [InlineData(0.0, 1.0)]
    [InlineData(0.1, 0.0)]
    [InlineData(0.1, 0.5)]
    public void Steps_equal_AdamW(double weightDecay, double maximumNorm)
    {
        using TemporaryFolder folder = new();
        TinyModel.WriteConfig(folder.Path, "qwen3", tied: true, layers: 1);
        TrainingOptions options = new()
        {
            WeightDecay = weightDecay,
            MaximumGradientNorm = maximumNorm,
            AdamBeta1 = 0.8,
            AdamBeta2 = 0.95,
            AdamEpsilon = 1e-6,
            Threads = 1
        };
        using TrainingSession session = new(TrainingTarget.Full(MLNetLora.Models.QwenConfig.Read(folder.Path)), options, ChunkPlan.Whole);
        Random random = new(1);
        TinyModel.Fill(session.Parameters, random);
        int n = (int)session.Parameters.Values.Length;
        double[] p = [.. session.Parameters.Values.Span(0, n).ToArray().Select(value => (double)value)];
        double[] m = new double[n];
        double[] v = new double[n];
        Assert.Equal([true, false], session.Parameters.Groups.Select(group => group.Decays)); // norms do not decay
        long decaying = session.Parameters.Groups[0].Length;
        for (int step = 1; step <= 4; step++)
        {
            double rate = 0.01 * step;
            double[] g = [.. Enumerable.Range(0, n).Select(_ => (random.NextDouble() - 0.5) / 10)];
            for (int i = 0; i < n; i++)
            {
                session.Parameters.Gradients.Span(i, 1)[0] = (float)g[i];
            }

            double norm = Math.Sqrt(g.Sum(value => value * value));
            double clip = maximumNorm > 0 ? Math.Min(1, maximumNorm / (norm + 1e-6)) : 1;
            Assert.Equal(norm, session.Step(rate, step), 1e-4);
            for (int i = 0; i < n; i++)
            {
                p[i] *= i < decaying ? 1 - (rate * weightDecay) : 1;
                m[i] = (0.8 * m[i]) + (0.2 * g[i] * clip);
                v[i] = (0.95 * v[i]) + (0.05 * g[i] * clip * g[i] * clip);
                p[i] -= rate / (1 - Math.Pow(0.8, step)) * m[i] / ((Math.Sqrt(v[i]) / Math.Sqrt(1 - Math.Pow(0.95, step))) + 1e-6);
            }

            float[] actual = session.Parameters.Values.Span(0, n).ToArray();
            Assert.True(p.Zip(actual, (e, a) => Math.Abs(e - a)).Max() < 2e-6);
            Assert.All(session.Parameters.Gradients.Span(0, n).ToArray(), value => Assert.Equal(0, value));
        }
    }

    [Theory]
    [InlineData(0.0, 0.0)]
    [InlineData(0.1, 0.5)]
    public void Steps_equal_gradient_descent(double weightDecay, double maximumNorm)
    {
        using Run run = new(new TrainingOptions { Optimizer = OptimizerKind.Sgd, WeightDecay = weightDecay, MaximumGradientNorm = maximumNorm, Threads = 1 });
        Assert.Empty(run.Parameters.States);
        for (int step = 1; step <= 3; step++)
        {
            run.Step(0.1 * step, step, (i, p, g) => p - (0.1 * step * (g + (weightDecay * p))));
        }
    }

    [Theory]
    [InlineData(0.0, 0.0, 0.9, 0.99)]
    [InlineData(0.1, 0.5, 0.5, 0.7)]
    public void Steps_equal_Lion(double weightDecay, double maximumNorm, double beta1, double beta2)
    {
        TrainingOptions options = new() { Optimizer = OptimizerKind.Lion, WeightDecay = weightDecay, MaximumGradientNorm = maximumNorm, Threads = 1 };
        Assert.Equal((0.9, 0.99), (options.LionBeta1, options.LionBeta2));
        (options.LionBeta1, options.LionBeta2) = (beta1, beta2);
        using Run run = new(options);
        double[] m = new double[Run.Length];
        for (int step = 1; step <= 4; step++)
        {
            run.Step(0.01 * step, step, (i, p, g) =>
            {
                double direction = Math.Sign((beta1 * m[i]) + ((1 - beta1) * g));
                m[i] = (beta2 * m[i]) + ((1 - beta2) * g);
                return (p * (1 - (0.01 * step * weightDecay))) - (0.01 * step * direction);
            });
        }
    }

    [Fact]
    public void LoRA_plus_multiplies_the_rate_of_B_and_of_what_has_one_axis()
    {
        TrainableTensor[] tensors =
        [
            new("base.q_proj.lora_A.weight", [2, 3], true), new("base.q_proj.lora_B.weight", [3, 2], true), new("base.q_proj.bias", [3], false),
            new("base.embed.weight", [3, 2], true),
        ];
        TrainingOptions options = new() { Optimizer = OptimizerKind.Sgd, LoraPlusRatio = 8, WeightDecay = 0.5, MaximumGradientNorm = 0, Threads = 1 };
        Optimizer optimizer = Optimizers.Of(options);
        using ParameterSet parameters = new(tensors, optimizer, options.IsFast);
        using OptimizerStep steps = new(optimizer, parameters, options);
        parameters.Values.Span(0, 21).Fill(1);
        parameters.Gradients.Span(0, 21).Fill(2);
        steps.Norm();
        steps.Run(0.01, 1);
        parameters.Swap();
        Assert.Equal(
            [1 - (0.01 * 2.5), 1 - (0.08 * 2.5), 1 - (0.08 * 2), 1 - (0.01 * 2.5)],
            tensors.Select(tensor => Math.Round(Assert.Single(parameters.Slice(parameters.Values, tensor.Name).ToArray().Distinct()), 6)));

        options.LoraPlusRatio = null;
        Assert.DoesNotContain(tensors, options.IsFast);
    }

    [Theory]
    [InlineData("adamw_torch", OptimizerKind.AdamW)]
    [InlineData("adamw_torch_fused", OptimizerKind.AdamW)]
    [InlineData("paged_adamw_32bit", OptimizerKind.AdamW)]
    [InlineData("adamw_bnb_8bit", OptimizerKind.AdamW8Bit)]
    [InlineData("adamw_8bit", OptimizerKind.AdamW8Bit)]
    [InlineData("paged_adamw_8bit", OptimizerKind.AdamW8Bit)]
    [InlineData("sgd", OptimizerKind.Sgd)]
    [InlineData("lion_32bit", OptimizerKind.Lion)]
    public void The_peers_names_are_known(string name, OptimizerKind kind) => Assert.Equal(kind, OptimizerNames.Parse(name));

    [Theory]
    [InlineData("adafactor")]
    [InlineData("AdamW")]
    [InlineData("")]
    public void An_unknown_name_is_an_error_that_lists_the_known_ones(string name)
    {
        string message = Assert.Throws<OptionException>(() => OptimizerNames.Parse(name)).Message;
        Assert.StartsWith($"There is no optimizer '{name}' (optim)", message, StringComparison.Ordinal);
        Assert.Contains("adamw_torch, ", message, StringComparison.Ordinal);
        Assert.Contains(", paged_adamw_8bit, ", message, StringComparison.Ordinal);
    }

    /// <summary>Steps on a tensor that takes more than one piece, beside the same in double.</summary>
    private sealed class Run : IDisposable
    {
        public const int Length = OptimizerStep.PieceLength + 100;

        private readonly Random _random = new(3);
        private readonly TrainingOptions _options;
        private readonly OptimizerStep _steps;
        private readonly double[] _expected = new double[Length];

        public Run(TrainingOptions options)
        {
            _options = options;
            Optimizer optimizer = Optimizers.Of(options);
            Parameters = new ParameterSet([new("w", [Length, 1], true)], optimizer);
            _steps = new OptimizerStep(optimizer, Parameters, options);
            for (int i = 0; i < Length; i++)
            {
                _expected[i] = Parameters.Values.Span(i, 1)[0] = _random.NextSingle() - 0.5f;
            }
        }

        public ParameterSet Parameters { get; }

        public void Step(double rate, int step, Func<int, double, double, double> update)
        {
            Span<float> gradients = Parameters.Gradients.Span(0, Length);
            double norm = 0;
            for (int i = 0; i < Length; i++)
            {
                gradients[i] = (_random.NextSingle() - 0.5f) / 10;
                norm += (double)gradients[i] * gradients[i];
            }

            norm = Math.Sqrt(norm);
            double clip = _options.MaximumGradientNorm > 0 ? Math.Min(1, _options.MaximumGradientNorm / (norm + 1e-6)) : 1;
            for (int i = 0; i < Length; i++)
            {
                _expected[i] = update(i, _expected[i], gradients[i] * clip);
            }

            Assert.Equal(norm, _steps.Norm(), 1e-3);
            _steps.Run(rate, step);
            Parameters.Swap();
            Assert.True(_expected.Zip(Parameters.Values.Span(0, Length).ToArray(), (e, a) => Math.Abs(e - a)).Max() < 2e-6);
        }

        public void Dispose()
        {
            _steps.Dispose();
            Parameters.Dispose();
        }
    }
}
