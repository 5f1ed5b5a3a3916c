using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Training;

namespace MLNetLora.Tests.Runtime;

/// <summary>How a device is said, and what is answered where it cannot be used.</summary>
public sealed class DeviceTests
{
    private static readonly CudaDevice s_first = new();

    [Theory]
    [InlineData("cpu", "cpu")]
    [InlineData(" CPU ", "cpu")]
    [InlineData("cuda", "cuda:0")]
    [InlineData("cuda:0", "cuda:0")]
    [InlineData("CUDA:12", "cuda:12")]
    public void A_device_is_read_as_people_write_it(string text, string device) => Assert.Equal(device, Device.Parse(text).ToString());

    [Theory]
    [InlineData("")]
    [InlineData("gpu")]
    [InlineData("cuda:")]
    [InlineData("cuda:-1")]
    [InlineData("cuda:1:2")]
    [InlineData("cuda: 1")]
    [InlineData("cuda:99999999999")]
    public void Anything_else_is_an_error_that_says_how(string text)
    {
        string message = Assert.Throws<OptionException>(() => Device.Parse(text)).Message;
        Assert.Equal($"The device is '{text}'; it must be cpu, cuda or cuda:N with the number of a GPU, such as cuda:0.", message);
    }

    [Fact]
    public void Devices_are_equal_where_their_options_are()
    {
        CudaDevice one = new() { ProviderOptions = new Dictionary<string, string> { ["sdpa_kernel"] = "1" } };
        CudaDevice two = new() { ProviderOptions = new Dictionary<string, string> { ["sdpa_kernel"] = "1" } };
        Assert.Equal(one, two);
        Assert.Equal(one.GetHashCode(), two.GetHashCode());
        Assert.NotEqual(one, two with { Tf32 = true });
        Assert.NotEqual(one, two with { FusedKernels = true });
        Assert.NotEqual(one, two with { Graphs = true });
        Assert.NotEqual(one, two with { ProviderOptions = new Dictionary<string, string> { ["sdpa_kernel"] = "0" } });
        Assert.Equal(Device.Cpu, Device.Parse("cpu"));
    }

    [Fact]
    public void Every_option_reaches_the_provider()
    {
        CudaDevice device = new()
        {
            DeviceId = 3,
            MemoryLimit = 5_000_000_000,
            Tf32 = true,
            ProviderOptions = new Dictionary<string, string> { ["sdpa_kernel"] = "1" },
        };
        Dictionary<string, string> options = device.ToProviderOptions();
        Assert.Equal("3", options["device_id"]);
        Assert.Equal("5000000000", options["gpu_mem_limit"]);
        Assert.Equal("1", options["use_tf32"]);
        Assert.Equal("1", options["sdpa_kernel"]);
        Assert.Equal("0", s_first.ToProviderOptions()["use_tf32"]); // the provider's own default is 1
        Assert.Equal("0", s_first.ToProviderOptions()["enable_cudnn"]);
        Assert.Equal("19", s_first.ToProviderOptions()["sdpa_kernel"]);
        Assert.DoesNotContain("gpu_mem_limit", s_first.ToProviderOptions());
        CudaDevice graphs = s_first with { Graphs = true };
        Assert.DoesNotContain("enable_cuda_graph", graphs.ToProviderOptions()); // but where a session captures
        Assert.Equal("1", graphs.ToProviderOptions(captures: true)["enable_cuda_graph"]);
    }

    [Fact]
    public void Options_of_a_device_that_make_no_sense_are_refused_by_name()
    {
        Assert.StartsWith("DeviceId is -1", Refusal(new TrainingOptions { Device = new CudaDevice { DeviceId = -1 } }), StringComparison.Ordinal);
        Assert.StartsWith("MemoryLimit is 0", Refusal(new TrainingOptions { Device = new CudaDevice { MemoryLimit = 0 } }), StringComparison.Ordinal);
        Dictionary<string, string> captured = new() { ["enable_cuda_graph"] = "1" };
        Assert.Contains("has enable_cuda_graph, which is a property", Refusal(new TrainingOptions { Device = new CudaDevice { ProviderOptions = captured } }),
            StringComparison.Ordinal);
        Dictionary<string, string> stream = new() { ["user_compute_stream"] = "1" };
        Assert.Contains("'user_compute_stream'; it may have", Refusal(new TrainingOptions { Device = new CudaDevice { ProviderOptions = stream } }),
            StringComparison.Ordinal);
        Dictionary<string, string> nothing = new() { ["sdpa_kernel"] = "" };
        Assert.Contains("no value for sdpa_kernel", Refusal(new TrainingOptions { Device = new CudaDevice { ProviderOptions = nothing } }),
            StringComparison.Ordinal);
        Assert.StartsWith("ComputeType is BFloat16; it must be Float32 or null when Device is cpu",
            Refusal(new TrainingOptions { Device = Device.Cpu, ComputeType = ComputeType.BFloat16 }), StringComparison.Ordinal);
        Dictionary<string, string> twice = new() { ["use_tf32"] = "1" };
        Assert.Contains("Tf32", Refusal(new TrainingOptions { Device = new CudaDevice { ProviderOptions = twice } }), StringComparison.Ordinal);
    }

    [Fact]
    public void What_has_no_kernel_on_a_GPU_is_refused_by_name()
    {
        Assert.Contains("Precision is Int8 and Device is cuda:0", Refusal(new TrainingOptions { Device = s_first, Precision = WeightPrecision.Int8 }),
            StringComparison.Ordinal);
        Assert.Contains("PrepackWeights", Refusal(new TrainingOptions { Device = s_first, PrepackWeights = true }), StringComparison.Ordinal);
        new TrainingOptions { Device = Device.Cpu, Precision = WeightPrecision.Int8 }.Validate();
        foreach (OptimizerKind optimizer in Enum.GetValues<OptimizerKind>())
        {
            new TrainingOptions { Device = s_first, Optimizer = optimizer }.Validate();
        }
    }

    [Theory]
    [InlineData(12_080, 1, 90, "NVIDIA's driver serves CUDA 12.8 only")]
    [InlineData(13_000, 0, 90, "of GPUs that NVIDIA's driver shows there is none")]
    [InlineData(13_000, 1, 70, "Tesla of compute capability 7.0, which the provider of ONNX Runtime 1.31 has no code for")]
    [InlineData(13_000, 1, 100, "compute capability 10.0")]
    public void What_the_driver_says_is_looked_at_first(int version, int devices, int capability, string expected)
    {
        CudaDriver driver = new(version, devices, capability, "Tesla");
        Assert.Contains(expected, Assert.Throws<DeviceException>(() => CudaProvider.RequireDevice(s_first, driver)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(13_000, 1, 75)]
    [InlineData(13_010, 2, 87)] // code for 8.6 runs there
    [InlineData(13_010, 2, 90)]
    [InlineData(0, -1, 0)] // it does not say
    public void A_device_that_it_can_use_is_used(int version, int devices, int capability) =>
        CudaProvider.RequireDevice(s_first, new CudaDriver(version, devices, capability, ""));

    [Fact]
    public void A_driver_that_does_not_start_is_told_with_its_code() => Assert.Contains("did not start: cuInit returned 803",
        Assert.Throws<DeviceException>(() => CudaProvider.RequireDevice(s_first, new CudaDriver(13_000, -1, 0, "", 803))).Message, StringComparison.Ordinal);

    [Fact]
    public void Options_of_the_provider_are_those_of_the_moment_they_were_given()
    {
        Dictionary<string, string> given = new() { ["sdpa_kernel"] = "1" };
        CudaDevice device = new() { ProviderOptions = given };
        given["sdpa_kernel"] = "0";
        Assert.Equal("1", device.ToProviderOptions()["sdpa_kernel"]);
    }

    [Fact]
    public void Parameters_that_are_too_many_for_one_piece_of_a_GPU_are_refused()
    {
        RunMemory run = new(null!, null, null, new TrainingOptions { Device = s_first }, [], []); // of which the device alone is asked for
        MemoryEstimate estimate = new(1, 1, 0) { VectorBytes = 18_200_000_000 };
        Assert.StartsWith("The trained parameters is 18.20 GB; it must be at most 17.18 GB on cuda:0",
            Assert.Throws<OptionException>(() => estimate.Require(run)).Message, StringComparison.Ordinal);
        (estimate with { VectorBytes = 17_000_000_000 }).Require(run);
    }

    [Fact]
    public void The_last_GPU_is_named() => Assert.Contains("2, the last being cuda:1",
        Assert.Throws<DeviceException>(() => CudaProvider.RequireDevice(new CudaDevice { DeviceId = 2 }, new CudaDriver(13_000, 2, 0, ""))).Message,
        StringComparison.Ordinal);

    private static string Refusal(TrainingOptions options) => Assert.Throws<OptionException>(options.Validate).Message;
}
