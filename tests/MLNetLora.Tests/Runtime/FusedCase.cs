using MLNetLora.Onnx;
using MLNetLora.Runtime;

namespace MLNetLora.Tests.Runtime;

/// <summary>Numbers for a fused kernel, and what it has to make of them: computed in double precision from what the inputs are in its type.</summary>
internal sealed class FusedCase
{
    /// <summary>Draws inputs.</summary>
    /// <param name="kernel">The kernel.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="columns">Numbers of a row.</param>
    /// <param name="isSpecial">Whether the first numbers of an activation are those at which it could go wrong.</param>
    public FusedCase(FusedKernel kernel, int rows, int columns, bool isSpecial = true)
    {
        Kernel = kernel;
        (Rows, Columns) = (rows, columns);
        Random random = new(columns);
        float[] special = IsOfRows || !isSpecial ? [] : [0, -0f, 1, -1.2784645f, 20, -20, 80, -80]; // −1.278…: where the slope of SiLU is zero
        Inputs = [.. Enumerable.Range(0, kernel.Inputs).Select(i => Draw(i))];
        Exact = [.. Enumerable.Range(0, kernel.Outputs).Select(_ => new double[rows * columns])];
        Sizes = [.. Exact.Select(_ => new double[rows * columns])];
        if (IsOfRows)
        {
            Norm();
        }
        else
        {
            Activation();
        }

        float[] Draw(int input) => [.. Enumerable.Range(0, Count(input)).Select(j =>
        {
            float number = IsStatistic(input) ? 0.5f + random.NextSingle() : input < 2 && j < special.Length ? special[j] : (8 * random.NextSingle()) - 4;
            return Read(Bits(number, Type(input)), Type(input));
        })];
    }

    /// <summary>The kernel.</summary>
    public FusedKernel Kernel { get; }

    /// <summary>Rows.</summary>
    public int Rows { get; }

    /// <summary>Numbers of a row.</summary>
    public int Columns { get; }

    /// <summary>The inputs, as they are in their types.</summary>
    public float[][] Inputs { get; }

    /// <summary>What comes out.</summary>
    public double[][] Exact { get; }

    /// <summary>How large the terms are whose sums come out.</summary>
    public double[][] Sizes { get; }

    /// <summary>Whether rows are computed together.</summary>
    public bool IsOfRows => Kernel.Operator == FusedOperators.RmsNormGrad;

    /// <summary>Shape of an input.</summary>
    public long[] Shape(int input) => !IsOfRows || input < 2 ? [Rows, Columns] : IsStatistic(input) ? [Rows, 1] : [Columns];

    /// <summary>An input's bytes.</summary>
    public byte[] Bytes(int input) => Bytes(Inputs[input], Type(input));

    /// <summary>Numbers in a type.</summary>
    public static byte[] Bytes(float[] numbers, ElementType type) => [.. numbers.SelectMany(
        number => type == ElementType.Float32 ? BitConverter.GetBytes(number) : BitConverter.GetBytes((ushort)Bits(number, type)))];

    /// <summary>Numbers of a type.</summary>
    public static float[] Numbers(ReadOnlySpan<byte> bytes, ElementType type)
    {
        int size = type == ElementType.Float32 ? sizeof(float) : sizeof(ushort);
        float[] numbers = new float[bytes.Length / size];
        for (int i = 0; i < numbers.Length; i++)
        {
            ReadOnlySpan<byte> number = bytes[(i * size)..];
            numbers[i] = size == sizeof(float) ? BitConverter.ToSingle(number) : Read(BitConverter.ToUInt16(number), type);
        }

        return numbers;
    }

    /// <summary>Fails where a result is not the exact one, rounded once to the kernel's type; what float32 loses before is allowed.</summary>
    /// <param name="output">Which result.</param>
    /// <param name="bytes">The result.</param>
    /// <param name="from">The first number that is looked at.</param>
    public void Check(int output, ReadOnlySpan<byte> bytes, int from = 0)
    {
        float[] numbers = Numbers(bytes, Kernel.Type);
        for (int i = from; i < Rows * Columns; i++)
        {
            float actual = numbers[i];
            double exact = Exact[output][i];
            double within = (Spacing(exact) / 2) + (1e-6 * Sizes[output][i]);
            Assert.True(Math.Abs(actual - exact) <= within,
                FormattableString.Invariant($"{Kernel.Function}, output {output}, {i} of {Rows} x {Columns}: {actual}, not {exact} ± {within}"));
        }
    }

    private ElementType Type(int input) => Kernel.InputType(input);

    private bool IsStatistic(int input) => IsOfRows && input == FusedOperators.InverseStd;

    private int Count(int input) => (int)Shape(input).Aggregate(1L, (product, size) => product * size);

    private void Activation()
    {
        bool isGradient = Kernel.Operator == FusedOperators.SwiGluGrad;
        for (int i = 0; i < Rows * Columns; i++)
        {
            (double gate, double up) = (Inputs[^2][i], Inputs[^1][i]);
            double of = 1 / (1 + Math.Exp(-gate));
            if (!isGradient)
            {
                Exact[0][i] = gate * of * up;
                Sizes[0][i] = Math.Abs(Exact[0][i]);
                continue;
            }

            double share = Inputs[0][i] * of;
            double slope = gate / (1 + Math.Exp(gate));
            Exact[0][i] = share * up * (1 + slope);
            Sizes[0][i] = Math.Abs(share * up) * (1 + Math.Abs(slope));
            Exact[1][i] = share * gate;
            Sizes[1][i] = Math.Abs(Exact[1][i]);
        }
    }

    private void Norm()
    {
        for (int row = 0; row < Rows; row++)
        {
            int[] all = [.. Enumerable.Range(row * Columns, Columns)];
            double r = Inputs[3][row];
            double mean = all.Average(i => U(i) * Inputs[1][i]);
            double size = all.Average(i => Math.Abs(U(i) * Inputs[1][i]));
            foreach (int i in all)
            {
                Exact[0][i] = r * (U(i) - (Inputs[1][i] * r * r * mean));
                Sizes[0][i] = r * (Math.Abs(U(i)) + (Math.Abs(Inputs[1][i]) * r * r * size));
            }

            double U(int i) => (double)Inputs[0][i] * Inputs[2][i % Columns];
        }
    }

    /// <summary>Between numbers of the type that are next to each other.</summary>
    private double Spacing(double value)
    {
        (int digits, int least) = Kernel.Type switch
        {
            ElementType.BFloat16 => (7, -126),
            ElementType.Float16 => (10, -14),
            _ => (23, -126),
        };
        return Math.ScaleB(1, Math.Max(value == 0 ? least : Math.ILogB(value), least) - digits);
    }

    private static int Bits(float value, ElementType type) => type switch
    {
        ElementType.Float16 => BitConverter.HalfToUInt16Bits((Half)value),
        ElementType.BFloat16 => (int)((BitConverter.SingleToUInt32Bits(value) + 0x7FFF + ((BitConverter.SingleToUInt32Bits(value) >> 16) & 1)) >> 16),
        _ => BitConverter.SingleToInt32Bits(value),
    };

    private static float Read(int bits, ElementType type) => type switch
    {
        ElementType.Float16 => (float)BitConverter.UInt16BitsToHalf((ushort)bits),
        ElementType.BFloat16 => BitConverter.Int32BitsToSingle(bits << 16),
        _ => BitConverter.Int32BitsToSingle(bits),
    };
}
