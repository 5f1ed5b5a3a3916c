using System.Runtime.InteropServices;

namespace MLNetLora.Cli.NewCheckpoint;

/// <summary>
/// Normal noise by table: 65,536 equally likely quantiles, drawn by 16 random bits each, in the bytes of the file's own type.
/// No logarithm per number, and every element depends on seed, tensor name and position alone: dtype, sharding and the number of threads change nothing.
/// </summary>
internal sealed class NormalNoise
{
    private const int Quantiles = 1 << 16;
    private readonly uint[] _words = [];
    private readonly ushort[] _halves = [];

    public NormalNoise(double standardDeviation, ElementType type)
    {
        Span<byte> stored = stackalloc byte[4];
        if (type.Size == 4)
        {
            _words = new uint[Quantiles];
        }
        else
        {
            _halves = new ushort[Quantiles];
        }

        for (int i = 0; i < Quantiles; i++)
        {
            type.Store((float)(standardDeviation * Quantile((i + 0.5) / Quantiles)), stored);
            if (type.Size == 4)
            {
                _words[i] = MemoryMarshal.Read<uint>(stored);
            }
            else
            {
                _halves[i] = MemoryMarshal.Read<ushort>(stored);
            }
        }
    }

    /// <summary>Fills a stretch of a tensor.</summary>
    /// <param name="destination">Bytes of the stretch.</param>
    /// <param name="key">The tensor's key, see <see cref="Key"/>.</param>
    /// <param name="firstElement">Position of the stretch in the tensor, in elements; a multiple of 4.</param>
    public void Fill(Span<byte> destination, ulong key, long firstElement)
    {
        if (_words.Length > 0)
        {
            Fill(MemoryMarshal.Cast<byte, uint>(destination), _words, key, firstElement);
        }
        else
        {
            Fill(MemoryMarshal.Cast<byte, ushort>(destination), _halves, key, firstElement);
        }
    }

    /// <summary>The key of a tensor: FNV-1a of its name, mixed with the seed.</summary>
    public static ulong Key(ulong seed, string tensorName)
    {
        ulong hash = 14695981039346656037;
        foreach (char character in tensorName)
        {
            hash = (hash ^ character) * 1099511628211;
        }

        return Mix(hash + Mix(seed));
    }

    private static void Fill<T>(Span<T> destination, T[] table, ulong key, long firstElement)
    {
        for (int i = 0; i < destination.Length; i += 4)
        {
            ulong bits = Mix(key + (ulong)((firstElement + i) >> 2) * 0x9E3779B97F4A7C15);
            int end = Math.Min(4, destination.Length - i);
            for (int j = 0; j < end; j++, bits >>= 16)
            {
                destination[i + j] = table[(ushort)bits];
            }
        }
    }

    // SplitMix64's finaliser: with a counter in front it is a random number for each position, without a state to carry along.
    private static ulong Mix(ulong value)
    {
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
        return value ^ (value >> 31);
    }

    /// <summary>The inverse of the normal distribution function: Acklam's rational approximation, relative error below 1.15e-9.</summary>
    internal static double Quantile(double probability)
    {
        double[] a = [-3.969683028665376e+01, 2.209460984245205e+02, -2.759285104469687e+02, 1.383577518672690e+02, -3.066479806614716e+01,
            2.506628277459239e+00];
        double[] b = [-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02, 6.680131188771972e+01, -1.328068155288572e+01, 1.0];
        double[] c = [-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00, -2.549732539343734e+00, 4.374664141464968e+00,
            2.938163982698783e+00];
        double[] d = [7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00, 3.754408661907416e+00, 1.0];
        const double low = 0.02425;
        if (probability > 0.5)
        {
            return -Quantile(1 - probability);
        }

        if (probability < low)
        {
            double q = Math.Sqrt(-2 * Math.Log(probability));
            return Polynomial(c, q) / Polynomial(d, q);
        }
        double centred = probability - 0.5;
        double square = centred * centred;
        return Polynomial(a, square) * centred / Polynomial(b, square);
    }

    private static double Polynomial(double[] coefficients, double x) => coefficients.Aggregate((sum, coefficient) => sum * x + coefficient);
}
