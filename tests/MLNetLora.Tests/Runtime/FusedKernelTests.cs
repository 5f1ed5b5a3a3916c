using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text.RegularExpressions;
using MLNetLora.Artifacts;
using MLNetLora.Onnx;
using MLNetLora.Onnx.Differentiable;
using MLNetLora.Runtime;

namespace MLNetLora.Tests.Runtime;

/// <summary>The fused kernels' own code, on the processor.</summary>
public sealed unsafe partial class FusedKernelTests
{
    private const int Room = 64; // bytes behind a result that must stay as they are

    /// <summary>Kernels and sizes: whole packets and not, rows shorter than a warp and longer than a block, one row, one number.</summary>
    public static TheoryData<string, int, int> Cases
    {
        get
        {
            TheoryData<string, int, int> cases = [];
            foreach (FusedKernel kernel in FusedKernel.All)
            {
                foreach ((int rows, int columns) in (ReadOnlySpan<(int, int)>)[(1, 1), (1, 7), (3, 33), (5, 64), (4, 128), (2, 896), (2, 4_160), (3, 2_051)])
                {
                    cases.Add(kernel.Function, rows, columns);
                }
            }

            return cases;
        }
    }

    [EmulationTheory]
    [MemberData(nameof(Cases))]
    public void A_kernel_computes_its_formula_and_rounds_once(string function, int rows, int columns)
    {
        FusedCase item = Case(function, rows, columns);
        foreach (int shift in (int[])[0, 4]) // 4: in no packet
        {
            byte[][] results = Run(item, shift, inPlace: false);
            foreach ((int i, byte[] result) in results.Index())
            {
                item.Check(i, result);
            }
        }
    }

    /// <summary>Results may stand where inputs did that are done with.</summary>
    [EmulationTheory]
    [MemberData(nameof(Cases))]
    public void A_result_may_take_an_input_s_place(string function, int rows, int columns)
    {
        FusedCase item = Case(function, rows, columns);
        foreach ((byte[] expected, byte[] result) in Run(item, 0, inPlace: false).Zip(Run(item, 0, inPlace: true)))
        {
            Assert.Equal(expected, result);
        }
    }

    [EmulationTheory]
    [InlineData(1, 7)]
    [InlineData(5, 64)]
    [InlineData(2, 896)]
    [InlineData(2, 4_160)]
    public void In_float32_it_is_the_plain_graph(int rows, int columns)
    {
        foreach (FusedKernel kernel in FusedKernel.All.Where(kernel => kernel.Type == ElementType.Float32))
        {
            FusedCase item = new(kernel, rows, columns, isSpecial: false); // the runtime's own σ is 0 below −18
            byte[][] actual = Run(item, 0, inPlace: false);
            GraphBuilder graph = new("plain");
            Value[] inputs = [.. Enumerable.Range(0, kernel.Inputs).Select(
                i => graph.Input($"input{i}", ElementType.Float32, [.. item.Shape(i).Select(size => (Dimension)size)]))];
            foreach ((int i, Value value) in Plain(graph, kernel, inputs).Index())
            {
                graph.Output($"output{i}", value);
            }

            using OnnxSession session = new(new ModelArtifact("plain.onnx", graph.ToBytes(), null), SessionUse.Training, 1);
            NativeTensor[] tensors = [.. inputs.Select((_, i) => Tensors.Of(item.Inputs[i], item.Shape(i)))];
            using NativeTensors expected = session.Run([.. inputs.Select(input => input.Name)], tensors, [.. actual.Select((_, i) => $"output{i}")]);
            foreach ((int i, byte[] result) in actual.Index())
            {
                float[] fused = [.. MemoryMarshal.Cast<byte, float>(result)];
                Assert.InRange(GoldenFile.RelativeError(fused, expected[i].Span<float>().ToArray()), 0, 1e-6);
            }

            Array.ForEach(tensors, tensor => tensor.Dispose());
        }
    }

    /// <summary>What stands for a kernel where 16 bits are simulated rounds as it does; the plain graph rounds more often.</summary>
    [Theory]
    [InlineData("swiglu_bfloat16")]
    [InlineData("swiglu_float16")]
    [InlineData("swiglu_grad_bfloat16")]
    [InlineData("swiglu_grad_float16")]
    [InlineData("rms_norm_grad_bfloat16")]
    [InlineData("rms_norm_grad_float16")]
    public void Simulated_it_rounds_once(string function)
    {
        FusedCase item = new(Find(function), 3, 64, isSpecial: false);
        Simulate(fused: true);
        Assert.ThrowsAny<Xunit.Sdk.XunitException>(() => Simulate(fused: false));

        void Simulate(bool fused)
        {
            FusedKernel kernel = item.Kernel;
            GraphBuilder graph = new("simulated") { FusesKernels = fused, ComputeType = kernel.Type, SimulatesComputeType = true };
            Value[] x = [.. Enumerable.Range(0, kernel.Inputs).Select(
                i => graph.Input($"input{i}", ElementType.Float32, [.. item.Shape(i).Select(size => (Dimension)size)]))];
            float[] identity = [.. Enumerable.Range(0, item.Columns * item.Columns).Select(at => at % (item.Columns + 1) == 0 ? 1f : 0f)];
            Value[] reduced = [graph.MatMul(x[0], graph.Table("identity", identity, item.Columns)), .. x[1..]]; // a product is in 16 bits
            foreach ((int i, Value value) in (fused ? Fused(graph, kernel, reduced) : Plain(graph, kernel, reduced)).Index())
            {
                graph.Output($"output{i}", value);
            }

            using OnnxSession session = new(new ModelArtifact("simulated.onnx", graph.ToBytes(), null), SessionUse.Training, 1);
            NativeTensor[] tensors = [.. x.Select((_, i) => Tensors.Of(item.Inputs[i], item.Shape(i)))];
            using NativeTensors outputs = session.Run([.. x.Select(input => input.Name)], tensors, [.. item.Exact.Select((_, i) => $"output{i}")]);
            Array.ForEach(tensors, tensor => tensor.Dispose());
            foreach ((int i, NativeTensor output) in outputs.Index())
            {
                float[] numbers = output.Span<float>().ToArray();
                byte[] bytes = FusedCase.Bytes(numbers, kernel.Type);
                item.Check(i, bytes);
                Assert.Equal(numbers, FusedCase.Numbers(bytes, kernel.Type)); // they were in 16 bits
            }
        }
    }

    /// <summary>What is no number stays none, and what is too large becomes infinite.</summary>
    [EmulationTheory]
    [InlineData("float32", 0x7FC00000, 0x7F800000)]
    [InlineData("bfloat16", 0x7FC0, 0x7F80)]
    [InlineData("float16", 0x7E00, 0x7C00)]
    public void What_is_no_number_stays_none(string type, int none, int infinite)
    {
        FusedCase item = Case("swiglu_" + type, 1, 16);
        int size = item.Kernel.Type == ElementType.Float32 ? 4 : 2;
        byte[] gate = item.Bytes(0);
        byte[] up = item.Bytes(1);
        Put(gate, 0, none);
        Put(gate, 1, infinite);
        Put(up, 1, infinite);
        byte[] y = new byte[gate.Length];
        fixed (byte* a = gate, b = up, c = y)
        {
            KernelEmulation.Run(item.Kernel, 16, 1, (nint)a, (nint)b, (nint)c);
        }

        Assert.Equal(none, Get(y, 0) & ~(1 << ((8 * size) - 1)));
        Assert.Equal(infinite, Get(y, 1));
        item.Check(0, y, from: 2);

        void Put(byte[] bytes, int at, int bits) => BitConverter.GetBytes(bits).AsSpan(0, size).CopyTo(bytes.AsSpan(at * size));

        int Get(byte[] bytes, int at) => size == 4 ? BitConverter.ToInt32(bytes, 4 * at) : BitConverter.ToUInt16(bytes, 2 * at);
    }

    /// <summary>The kernels themselves.</summary>
    [FusedDeviceTheory]
    [MemberData(nameof(Cases))]
    public void On_a_GPU_it_is_the_same(string function, int rows, int columns)
    {
        FusedCase item = Case(function, rows, columns);
        using OnnxSession session = FusedNode.Session(item.Kernel, (CudaDevice)Golden.Device);
        FusedNode.Run(session, item);
    }

    /// <summary>The text that the driver is given has every kernel, and is that of the sources as they are.</summary>
    [Fact]
    public void The_text_is_made_from_the_sources()
    {
        using StreamReader reader = new(typeof(FusedKernel).Assembly.GetManifestResourceStream("fused.ptx")!);
        string text = reader.ReadToEnd();
        byte[] sources = [.. ((string[])["numbers.h", "swiglu.cu", "rms_norm_grad.cu", "fused.cu"])
            .SelectMany(name => File.ReadAllBytes(Path.Combine(KernelEmulation.Sources, name)))];
        Assert.True(text.Contains(Convert.ToHexStringLower(SHA256.HashData(sources)), StringComparison.Ordinal),
            "The kernels changed and their text did not: run src/MLNetLora/Runtime/Kernels/make-ptx.py.");
        Assert.Contains("\n.target sm_75\n", text, StringComparison.Ordinal); // the oldest GPU that the provider has code for
        Assert.InRange(double.Parse(Version().Match(text).Groups[1].Value, System.Globalization.CultureInfo.InvariantCulture), 6.3, 9.0); // of CUDA 13.0
        Dictionary<string, int> entries = Entry().Matches(text).ToDictionary(entry => entry.Groups[1].Value, entry => entry.Groups[2].Value.Split(',').Length);
        Assert.Equal(FusedKernel.All.ToDictionary(kernel => kernel.Function, kernel => kernel.Inputs + kernel.Outputs + 1), entries);
    }

    [Theory]
    [InlineData(1, 1, 1, 256)]
    [InlineData(2_048, 1, 1, 256)]
    [InlineData(2_049, 1, 2, 256)]
    [InlineData(1_000_000_000_000, 1, 16_384, 256)]
    public void Elements_are_shared_out(long rows, long columns, int blocks, int threads) =>
        Assert.Equal(new KernelSize((uint)blocks, (uint)threads), Find("swiglu_bfloat16").Size(rows, columns));

    [Theory]
    [InlineData(5, 1, 5, 32)]
    [InlineData(5, 256, 5, 32)]
    [InlineData(5, 896, 5, 128)]
    [InlineData(5, 3_584, 5, 448)]
    [InlineData(5, 100_000, 5, 512)]
    public void A_row_is_a_block(long rows, long columns, int blocks, int threads) =>
        Assert.Equal(new KernelSize((uint)blocks, (uint)threads), Find("rms_norm_grad_bfloat16").Size(rows, columns));

    private static Value[] Fused(GraphBuilder g, FusedKernel kernel, Value[] x)
    {
        switch (kernel.Operator)
        {
            case FusedOperators.SwiGlu:
                return [g.SwiGlu(x[0], x[1])];
            case FusedOperators.SwiGluGrad:
                (Value ofGate, Value ofUp) = g.SwiGluGrad(x[0], x[1], x[2]);
                return [ofGate, ofUp];
            default:
                return [g.RmsNormGrad(x[0], x[1], x[2], x[3])];
        }
    }

    private static Value[] Plain(GraphBuilder g, FusedKernel kernel, Value[] x)
    {
        switch (kernel.Operator)
        {
            case FusedOperators.SwiGlu:
                return [SwiGlu.Forward(g, x[0], x[1])];
            case FusedOperators.SwiGluGrad:
                Value share = SwiGlu.Share(g, x[0], x[1]);
                return [SwiGlu.OfGate(g, share, x[1], x[2]), SwiGlu.OfUp(g, share, x[1])];
            default:
                return [RmsNorm.OfX(g, x[0], x[1], x[2], x[3])];
        }
    }

    private static FusedKernel Find(string function) => FusedKernel.All.Single(kernel => kernel.Function == function);

    private static FusedCase Case(string function, int rows, int columns) => new(Find(function), rows, columns);

    /// <summary>Runs a kernel.</summary>
    /// <param name="item">The case.</param>
    /// <param name="shift">Bytes between where the memory for packets begins and where tensors do.</param>
    /// <param name="inPlace">Whether the last result takes the last input's place, and another the first's; of a norm, the first input's.</param>
    private static byte[][] Run(FusedCase item, int shift, bool inPlace)
    {
        FusedKernel kernel = item.Kernel;
        byte[][] inputs = [.. Enumerable.Range(0, kernel.Inputs).Select(item.Bytes)];
        int bytes = item.Rows * item.Columns * (kernel.Type == ElementType.Float32 ? 4 : 2);
        nint[] tensors = [.. inputs.Select(input => Allocate(input, shift))];
        nint[] places = [.. Enumerable.Range(0, kernel.Outputs).Select(i =>
            inPlace ? tensors[i == 0 ? 0 : ^1] : Allocate([.. Enumerable.Repeat((byte)0xA5, bytes)], shift))];
        KernelEmulation.Run(kernel, item.IsOfRows ? item.Rows : item.Rows * item.Columns, item.IsOfRows ? item.Columns : 1, [.. tensors, .. places]);
        byte[][] results = [.. places.Select(place => new ReadOnlySpan<byte>((void*)place, bytes).ToArray())];
        foreach (nint place in places)
        {
            Assert.Equal([.. Enumerable.Repeat((byte)0x5A, Room)], new ReadOnlySpan<byte>((void*)(place + bytes), Room).ToArray());
        }

        foreach (nint tensor in tensors.Concat(places).Distinct())
        {
            NativeMemory.AlignedFree((void*)(tensor - shift));
        }

        return results;
    }

    private static nint Allocate(byte[] bytes, int shift)
    {
        byte* memory = (byte*)NativeMemory.AlignedAlloc((nuint)(shift + bytes.Length + Room), 16);
        new Span<byte>(memory, shift + bytes.Length + Room).Fill(0x5A);
        bytes.CopyTo(new Span<byte>(memory + shift, bytes.Length));
        return (nint)(memory + shift);
    }

    [GeneratedRegex(@"\n\.version ([0-9.]+)\n")]
    private static partial Regex Version();

    [GeneratedRegex(@"\.entry (\w+)\(([^)]*)\)")]
    private static partial Regex Entry();
}

/// <summary>A test of kernels on a GPU; skipped where none is named for them.</summary>
public sealed class FusedDeviceTheoryAttribute : TheoryAttribute
{
    public FusedDeviceTheoryAttribute() =>
        Skip = Golden.Device is CudaDevice { FusedKernels: true } ? null : "needs a GPU: MLNETLORA_TEST_DEVICE=cuda:0+fused and the Gpu package";
}
