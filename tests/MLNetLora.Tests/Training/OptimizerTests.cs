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
}
