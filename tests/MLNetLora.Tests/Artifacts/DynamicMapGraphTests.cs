using MLNetLora.Artifacts;
using MLNetLora.Onnx;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.Tests.Artifacts;

/// <summary>The graph that reads and writes codes on a device does it as <see cref="DynamicMap"/>, bit by bit: on the processor, or where
/// <see cref="Golden.Device"/> says.</summary>
public sealed class DynamicMapGraphTests
{
    private const int Size = DynamicMap.BlockSize;

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Numbers_near_every_border_get_the_same_codes(bool isSigned)
    {
        DynamicMap map = Map(isSigned);
        float[] bounds = [.. map.Bounds[..^1]];
        float[] numbers = [.. map.Levels, .. bounds, .. Near(bounds, MathF.BitIncrement), .. Near(bounds, MathF.BitDecrement), 0, -0f, float.Epsilon, 1e-39f];
        Same(map, Blocks(numbers.Where(number => Math.Abs(number) <= 1 && (isSigned || number >= 0))));

        static IEnumerable<float> Near(float[] bounds, Func<float, float> next)
        {
            for (int i = 0; i < 3; i++)
            {
                bounds = [.. bounds.Select(next)];
                foreach (float bound in bounds)
                {
                    yield return bound;
                }
            }
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Every_upper_half_of_a_float_gets_the_same_code(bool isSigned)
    {
        IEnumerable<float> numbers = Enumerable.Range(0, 1 << 16).SelectMany(upper => (int[])[upper << 16, (upper << 16) | 0x5555, (upper << 16) | 0xFFFF])
            .Select(BitConverter.Int32BitsToSingle);
        Same(Map(isSigned), Blocks(numbers.Where(number => Math.Abs(number) <= 1 && (isSigned || !float.IsNegative(number)))));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void So_do_random_blocks_of_any_size(bool isSigned)
    {
        Random random = new(7);
        List<float> blocks = [];
        foreach (float scale in (float[])[1e-45f, 1e-41f, 1e-38f, 1.1e-38f, 3e-38f, 1e-30f, 1e-8f, 1, 12345, 1e30f, 3.3e38f])
        {
            for (int block = 0; block < 40; block++)
            {
                int decades = random.Next(12);
                blocks.AddRange(Enumerable.Range(0, Size).Select(_ => scale * random.NextSingle() * MathF.Pow(10, -random.NextSingle() * decades)
                    * (isSigned && random.Next(2) == 0 ? -1 : 1)));
            }

            blocks.AddRange(Enumerable.Repeat(scale, Size));
            blocks.AddRange(Enumerable.Repeat(0f, Size - 1).Append(isSigned ? -scale : scale));
        }

        blocks.AddRange(Enumerable.Repeat(float.MaxValue, Size));
        blocks.AddRange(new float[Size]); // zeros
        blocks.AddRange(Enumerable.Range(0, Size).Select(i => i < 10 ? 0.25f * i : 0)); // the last, partial block of a tensor
        Same(Map(isSigned), [.. blocks]);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Numbers_that_are_none_do_the_same(bool isSigned)
    {
        List<float> blocks = [];
        foreach (float wrong in (float[])[float.NaN, float.PositiveInfinity, isSigned ? float.NegativeInfinity : float.PositiveInfinity])
        {
            foreach (int at in (int[])[0, 100, 255])
            {
                float[] block = [.. Enumerable.Range(0, Size).Select(i => i * 0.001f)];
                block[at] = wrong;
                blocks.AddRange(block);
            }
        }

        Same(Map(isSigned), [.. blocks], Device.Cpu); // what a GPU makes of them ends the run, too
    }

    private static DynamicMap Map(bool isSigned) => isSigned ? DynamicMap.Signed : DynamicMap.Unsigned;

    /// <summary>Numbers in blocks whose absmax is 1, so that they are what is looked up.</summary>
    private static float[] Blocks(IEnumerable<float> numbers) =>
        [.. numbers.Chunk(Size - 1).SelectMany(some => some.Append(1).Concat(new float[Size - 1]).Take(Size))];

    private static void Same(DynamicMap map, float[] numbers, Device? device = null)
    {
        int blocks = numbers.Length / Size;
        byte[] codes = new byte[numbers.Length];
        float[] absmax = new float[blocks];
        float[] read = new float[numbers.Length];
        for (int block = 0; block < blocks; block++)
        {
            int at = block * Size;
            absmax[block] = map.Quantize(numbers.AsSpan(at, Size), codes.AsSpan(at, Size));
            map.Dequantize(codes.AsSpan(at, Size), absmax[block], read.AsSpan(at, Size));
        }

        GraphBuilder g = new("map") { ForCuda = true };
        (Value newCodes, Value newAbsMax) = DynamicMapGraph.Quantize(g, map, g.Input("numbers", ElementType.Float32, "blocks", Size));
        g.Output("codes", newCodes);
        g.Output("absmax", newAbsMax);
        g.Output("read", DynamicMapGraph.Dequantize(g, map, newCodes, newAbsMax));
        using OnnxSession session = new(new ModelArtifact("map.onnx", g.ToBytes(), null), SessionUse.Training, threads: 1, device: device ?? Golden.Device);
        using NativeTensor input = Tensors.Of(numbers, blocks, Size);
        using NativeTensors outputs = session.Run(["numbers"], [input], ["codes", "absmax", "read"]);
        Assert.Equal(codes, outputs[0].Span<byte>().ToArray());
        Assert.Equal(Bits(absmax), Bits(outputs[1].Span<float>().ToArray()));
        Assert.Equal(Bits(read), Bits(outputs[2].Span<float>().ToArray()));
    }

    // Whatever NaN.
    private static int[] Bits(float[] numbers) => [.. numbers.Select(number => float.IsNaN(number) ? -1 : BitConverter.SingleToInt32Bits(number))];
}
