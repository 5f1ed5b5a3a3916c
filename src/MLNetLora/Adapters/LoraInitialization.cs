using System.Numerics.Tensors;
using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.Adapters;

/// <summary>What a fresh adapter's factors are [init_lora_weights].</summary>
public enum LoraInitialization
{
    /// <summary>A uniform in ±1/√in (Kaiming with a = √5), B zero, so that the adapter changes nothing yet [true]. The default.</summary>
    Default,

    /// <summary>A normal with standard deviation 1/r, B zero ["gaussian"].</summary>
    Gaussian,

    /// <summary>A and B normal with standard deviation 0.1·√½, in orthogonal halves of the space of ranks, so that B A is zero and both have gradients from the
    /// first step on ["orthogonal"]. Needs an even rank.</summary>
    Orthogonal,

    /// <summary>A uniform in ±1/√in and B uniform in ±1/√r [false]: the adapter changes answers from the start; meant for tests.</summary>
    Random,

    /// <summary>
    /// The r largest singular values of the base's weight and their vectors (PiSSA, Meng et al. 2024, arXiv:2404.02948), found by randomised subspace iteration
    /// (Halko, Martinsson and Tropp 2011) ["pissa_niter_8"]: s·B A is the weight's best approximation of rank r, which is taken out of the base while it is
    /// trained. The base's files stay as they are: what comes out is an ordinary adapter of rank 2r, as PEFT converts one, with alpha so that the scaling
    /// stays.
    /// </summary>
    Pissa,
}

/// <summary>Makes the factors of a fresh adapter.</summary>
/// <param name="how">How.</param>
/// <param name="checkpoint">The base.</param>
/// <param name="seed">Seed of all random numbers.</param>
/// <param name="cancellation">Ends it on the way.</param>
internal sealed class FactorInitializer(LoraInitialization how, Checkpoint checkpoint, int seed, CancellationToken cancellation)
{
    private const int Iterations = 8;
    private const int Oversampling = 8;

    private readonly Random _random = new(seed);

    /// <summary>The factors of one layer; with <see cref="LoraInitialization.Pissa"/> they are also what is taken out of the base.</summary>
    /// <exception cref="OptionException">The rank does not suit the initialization.</exception>
    public LoraFactors Of(LoraModule module)
    {
        cancellation.ThrowIfCancellationRequested();
        (int inputs, int outputs, int rank) = (module.Module.In, module.Module.Out, (int)module.Ranks);
        float[] b = new float[outputs * rank];
        float[] a = how switch
        {
            LoraInitialization.Gaussian => Normal(rank * inputs, 1f / module.Rank),
            LoraInitialization.Orthogonal => Orthogonal(module, b),
            LoraInitialization.Pissa => Pissa(module, b),
            _ => Uniform(rank * inputs, 1 / MathF.Sqrt(inputs)),
        };
        if (how == LoraInitialization.Random)
        {
            b = Uniform(outputs * rank, 1 / MathF.Sqrt(rank));
        }

        LoraFactors factors = new(module, a, b);
        bool isPissa = how == LoraInitialization.Pissa;
        return factors with
        {
            Magnitude = module.UseDora ? RowNorms(module, isPissa ? null : factors) : null, // PiSSA's factors and what is left of the base are the base
            Initial = isPissa ? (a, b) : null,
        };
    }

    private float[] Uniform(int count, float bound)
    {
        float[] values = new float[count];
        for (int i = 0; i < count; i++)
        {
            values[i] = ((_random.NextSingle() * 2) - 1) * bound;
        }

        return values;
    }

    /// <summary>Box–Muller.</summary>
    private float[] Normal(int count, float deviation)
    {
        float[] values = new float[count];
        for (int i = 0; i < count; i++)
        {
            values[i] = deviation * MathF.Sqrt(-2 * MathF.Log(1 - _random.NextSingle())) * MathF.Cos(2 * MathF.PI * _random.NextSingle());
        }

        return values;
    }

    /// <summary>A from the even rows of an orthogonal matrix, B from the odd ones: B A = 0.</summary>
    private float[] Orthogonal(LoraModule module, float[] b)
    {
        (int inputs, int outputs, int rank) = (module.Module.In, module.Module.Out, module.Rank);
        if (rank % 2 != 0)
        {
            throw new OptionException(
                $"{nameof(LoraOptions.Initialization)} is {how} and the rank of '{module.Module.Name}' {rank}; it must be even, since A and B take half each.");
        }

        int half = rank / 2;
        float[] q = Normal(rank * rank, 1);
        Orthonormalize(q, rank, rank);
        float[] left = Normal(inputs * half, 0.1f);
        float[] right = Normal(outputs * half, 0.1f);
        float[] a = new float[rank * inputs];
        for (int r = 0; r < rank; r++)
        {
            for (int h = 0; h < half; h++)
            {
                TensorPrimitives.MultiplyAdd(
                    left.AsSpan(h * inputs, inputs), q[(2 * h * rank) + r], a.AsSpan(r * inputs, inputs), a.AsSpan(r * inputs, inputs));
            }
        }

        for (int o = 0; o < outputs; o++)
        {
            for (int h = 0; h < half; h++)
            {
                TensorPrimitives.MultiplyAdd(q.AsSpan(((2 * h) + 1) * rank, rank), right[(o * half) + h], b.AsSpan(o * rank, rank), b.AsSpan(o * rank, rank));
            }
        }

        return a;
    }

    /// <summary>A = √(S/s) Vᵀ and B = U √(S/s) of the r largest singular values.</summary>
    private float[] Pissa(LoraModule module, float[] b)
    {
        (int inputs, int outputs, int rank) = (module.Module.In, module.Module.Out, module.Rank);
        int most = Math.Min(inputs, outputs);
        if (rank > most)
        {
            throw new OptionException(
                $"{nameof(LoraOptions.Initialization)} is {how} and the rank of '{module.Module.Name}' {rank}; its weight has only {most} singular values.");
        }

        float[] w = checkpoint.Tensors[module.Module.Name + ".weight"].ReadFloat32(); // [out, in]
        int k = Math.Min(rank + Oversampling, most);
        float[] v = Normal(k * inputs, 1); // [k, in], a direction in each row
        float[] u = new float[k * outputs]; // [k, out]
        for (int i = 0; ; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            Multiply(w, v, u, inputs, outputs, k);
            Orthonormalize(u, k, outputs);
            MultiplyTransposed(w, u, v, inputs, outputs, k); // Uᵀ W
            if (i == Iterations)
            {
                break;
            }

            Orthonormalize(v, k, inputs);
        }

        // W ≈ U (Uᵀ W): the singular values of the small matrix Uᵀ W, [k, in], are those of W.
        double[] gram = new double[k * k];
        for (int i = 0; i < k; i++)
        {
            for (int j = 0; j <= i; j++)
            {
                gram[(i * k) + j] = gram[(j * k) + i] = Dot(v.AsSpan(i * inputs, inputs), v.AsSpan(j * inputs, inputs));
            }
        }

        (double[] squares, double[] vectors) = SymmetricEigen.Of(gram, k); // vectors in rows, largest first
        float[] a = new float[rank * inputs];
        for (int r = 0; r < rank; r++)
        {
            double value = Math.Sqrt(Math.Max(0, squares[r])); // S
            double root = Math.Sqrt(value / module.Scaling);
            for (int j = 0; j < k && value > 0; j++)
            {
                double part = vectors[(r * k) + j];
                Span<float> row = a.AsSpan(r * inputs, inputs);
                TensorPrimitives.MultiplyAdd(v.AsSpan(j * inputs, inputs), (float)(part * root / value), row, row);
                for (int o = 0; o < outputs; o++)
                {
                    b[(o * rank) + r] += (float)(part * root) * u[(j * outputs) + o];
                }
            }
        }

        return a;
    }

    /// <summary>‖W + s·B A‖ by row; without factors ‖W‖: [out].</summary>
    private float[] RowNorms(LoraModule module, LoraFactors? factors)
    {
        (int inputs, int outputs) = (module.Module.In, module.Module.Out);
        float[] w = checkpoint.Tensors[module.Module.Name + ".weight"].ReadFloat32(); // [out, in]
        if (factors is not null && factors.B.AsSpan().ContainsAnyExcept(0f))
        {
            Merge.AddTo(w, outputs, 0, factors);
        }

        float[] norms = new float[outputs];
        Parallel.For(0, outputs, i => norms[i] = (float)Math.Sqrt(Dot(w.AsSpan(i * inputs, inputs), w.AsSpan(i * inputs, inputs))));
        return norms;
    }

    /// <summary>W vᵀ: [out, in] [k, in] → [k, out].</summary>
    private static void Multiply(float[] w, float[] v, float[] result, int inputs, int outputs, int k) => Parallel.For(0, outputs, o =>
    {
        for (int j = 0; j < k; j++)
        {
            result[(j * outputs) + o] = TensorPrimitives.Dot(w.AsSpan(o * inputs, inputs), v.AsSpan(j * inputs, inputs));
        }
    });

    /// <summary>u W: [k, out] [out, in] → [k, in].</summary>
    private static void MultiplyTransposed(float[] w, float[] u, float[] result, int inputs, int outputs, int k)
    {
        const int columns = 1024; // a stretch of W that all k rows read while it is near
        int stretches = (inputs + columns - 1) / columns;
        Array.Clear(result);
        Parallel.For(0, stretches, stretch =>
        {
            int first = stretch * columns;
            int count = Math.Min(columns, inputs - first);
            for (int o = 0; o < outputs; o++)
            {
                for (int j = 0; j < k; j++)
                {
                    Span<float> sum = result.AsSpan((j * inputs) + first, count);
                    TensorPrimitives.MultiplyAdd(w.AsSpan((o * inputs) + first, count), u[(j * outputs) + o], sum, sum);
                }
            }
        });
    }

    /// <summary>Makes rows orthonormal (Gram–Schmidt, each twice); a row that depends on those before it becomes zero.</summary>
    private static void Orthonormalize(float[] rows, int count, int length)
    {
        for (int i = 0; i < count; i++)
        {
            Span<float> row = rows.AsSpan(i * length, length);
            double before = Math.Sqrt(Dot(row, row));
            for (int pass = 0; pass < 2; pass++)
            {
                for (int j = 0; j < i; j++)
                {
                    ReadOnlySpan<float> other = rows.AsSpan(j * length, length);
                    TensorPrimitives.MultiplyAdd(other, -(float)Dot(row, other), row, row);
                }
            }

            double norm = Math.Sqrt(Dot(row, row));
            TensorPrimitives.Multiply(row, norm > 1e-6 * before ? (float)(1 / norm) : 0f, row);
        }
    }

    private static double Dot(ReadOnlySpan<float> x, ReadOnlySpan<float> y)
    {
        const int piece = 256; // sums of float32 this long, added up in float64
        double sum = 0;
        for (int i = 0; i < x.Length; i += piece)
        {
            int count = Math.Min(piece, x.Length - i);
            sum += TensorPrimitives.Dot(x.Slice(i, count), y.Slice(i, count));
        }

        return sum;
    }
}
