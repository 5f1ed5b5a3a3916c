using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Runtime;

/// <summary>Devices of other execution providers: with one that is built in, and with one that is compiled here.</summary>
public sealed class CustomDeviceTests : IDisposable
{
    private const string BuiltIn = "CPUExecutionProvider";

    private static readonly CustomDevice s_builtIn = new() { Provider = BuiltIn };

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Options_that_make_no_sense_are_refused_by_name()
    {
        Assert.StartsWith("Provider is ''; it must be the name of", Refusal(new CustomDevice { Provider = "" }), StringComparison.Ordinal);
        Assert.StartsWith("Provider is null", Refusal(new CustomDevice { Provider = null! }), StringComparison.Ordinal);
        Assert.StartsWith("LibraryPath is ' '; it must be a file, or null", Refusal(s_builtIn with { LibraryPath = " " }), StringComparison.Ordinal);
        Assert.StartsWith("DeviceIndex is -1", Refusal(s_builtIn with { DeviceIndex = -1 }), StringComparison.Ordinal);
        Assert.StartsWith("ProviderOptions is null", Assert.Throws<OptionException>(() => s_builtIn with { ProviderOptions = null! }).Message,
            StringComparison.Ordinal);
        Assert.StartsWith("a in ProviderOptions is null; it must be a text", Refusal(With("a", null!)), StringComparison.Ordinal);
        Assert.StartsWith("A name in ProviderOptions is ' '", Refusal(With(" ", "a")), StringComparison.Ordinal);
        s_builtIn.Validate();

        static CustomDevice With(string name, string value) => s_builtIn with { ProviderOptions = new Dictionary<string, string> { [name] = value } };
    }

    [Fact]
    public void Devices_are_equal_where_their_options_are_and_keep_them()
    {
        Dictionary<string, string> given = new() { ["a"] = "1" };
        CustomDevice one = s_builtIn with { ProviderOptions = given };
        CustomDevice two = s_builtIn with { ProviderOptions = new Dictionary<string, string> { ["a"] = "1" } };
        Assert.Equal(one, two);
        Assert.Equal(one.GetHashCode(), two.GetHashCode());
        given["a"] = "2";
        Assert.Equal("1", one.ProviderOptions["a"]);
        Assert.NotEqual(one, s_builtIn with { ProviderOptions = given });
        Assert.NotEqual(one, two with { DeviceIndex = 1 });
        Assert.NotEqual(one, two with { LibraryPath = "a" });
        Assert.Equal("CPUExecutionProvider:1", (s_builtIn with { DeviceIndex = 1 }).ToString());
    }

    [Fact]
    public void What_the_runtime_may_read_from_the_file_instead_is_refused_by_name()
    {
        Assert.Contains("Precision is Int8 and Device is CPUExecutionProvider:0: its weights are in the process's memory",
            Refusal(s_builtIn, options => options.Precision = WeightPrecision.Int8), StringComparison.Ordinal);
        Assert.StartsWith("PrepackWeights is True; it must be false when Device is CPUExecutionProvider:0",
            Refusal(s_builtIn, options => options.PrepackWeights = true), StringComparison.Ordinal);
        Assert.StartsWith("ComputeType is BFloat16; it must be Float32 or null when Device is CPUExecutionProvider:0",
            Refusal(s_builtIn, options => options.ComputeType = ComputeType.BFloat16), StringComparison.Ordinal);
        new TrainingOptions { Device = s_builtIn, ComputeType = ComputeType.Float32, Optimizer = OptimizerKind.AdamW8Bit }.Validate();

        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"));
        foreach (WeightPrecision precision in Enum.GetValues<WeightPrecision>().Where(precision => precision != WeightPrecision.Checkpoint))
        {
            string start = $"Answers with WeightPrecision.{precision} are not computed by other execution providers, and CPUExecutionProvider:0 was asked for";
            Assert.StartsWith(start, Assert.Throws<OptionException>(() => new CausalLanguageModel(checkpoint, precision: precision, device: s_builtIn)).Message,
                StringComparison.Ordinal);
        }

        GraphBuilder graph = new("zeros");
        graph.Output("zeros", graph.Zeros(graph.Input("shape", ElementType.Int64, 1), ["n"]));
        using NativeTensor tensor = Tensors.Of([1f], 1);
        Assert.Contains("zeros.onnx is given weight in the process's memory, and runs on CPUExecutionProvider:0", Assert.Throws<InvalidOperationException>(
            () => new OnnxSession(new ModelArtifact("zeros.onnx", graph.ToBytes(), null), SessionUse.Training, 1,
                new Dictionary<string, NativeTensor> { ["weight"] = tensor }, s_builtIn)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Of_the_memory_the_parameters_alone_are_looked_at()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"));
        TrainingRow[] rows = [TinyModel.Row(new Random(1), 20)];
        MemoryEstimate here = Of(Device.Cpu).Estimate();
        MemoryEstimate there = Of(s_builtIn).Estimate();
        Assert.Equal((0, here.Parameters + here.VectorBytes), (there.Activations, there.Bytes));
        MachineMemory.Given = there.Bytes;
        try
        {
            Of(s_builtIn).Require();
            Assert.Throws<OptionException>(Of(Device.Cpu).Require);
            MachineMemory.Given = there.Bytes - 1;
            string message = Assert.Throws<OptionException>(Of(s_builtIn).Require).Message;
            Assert.DoesNotContain("ActivationCheckpointing", message, StringComparison.Ordinal); // which would save nothing here
        }
        finally
        {
            MachineMemory.Given = null;
        }

        RunMemory Of(Device device) => new(checkpoint.Config, checkpoint, new LoraOptions { Rank = 8 }, new TrainingOptions { Device = device }, rows, []);
    }

    [Fact]
    public void A_provider_that_is_not_there_is_told_with_those_that_are()
    {
        Assert.Matches(@"^Nowhere:0 was asked for, and ONNX Runtime has no provider of that name \(it has .*CPUExecutionProvider.*\)\. Set Provider to one of",
            Failure(new CustomDevice { Provider = "Nowhere" }));
        Assert.Matches(@"^CPUExecutionProvider:7 was asked for; of devices that the provider lists there are 1: CPUExecutionProvider:0 \(CPU.*\)\. "
            + "Set DeviceIndex\\.$", Failure(s_builtIn with { DeviceIndex = 7 }));
    }

    [Fact]
    public void A_library_that_is_none_is_an_error_that_says_what_it_must_be()
    {
        string text = _folder.File("provider.so");
        Assert.StartsWith($"Mine:0 was asked for, and there is no file {text}. Set LibraryPath to", Failure(Mine(text)), StringComparison.Ordinal);
        Assert.Contains($"there is no file {_folder.Path}.", Failure(Mine(_folder.Path)), StringComparison.Ordinal);
        File.WriteAllText(text, "This is a text.");
        string message = Failure(Mine(text));
        Assert.StartsWith($"Mine:0 was asked for, and {text} could not be loaded. It must be an execution provider for this system", message,
            StringComparison.Ordinal);
        Assert.Contains("ONNX Runtime says: ", message, StringComparison.Ordinal);
        Assert.Equal(message, Failure(Mine(text))); // it is not taken for registered
        Assert.Contains($"was asked for from {text}, and a provider of that name is there already, from the application or the runtime itself; a process has "
            + "one. Set LibraryPath to null.", Failure(s_builtIn with { LibraryPath = text }), StringComparison.Ordinal);
    }

    [LinuxFact]
    public void A_library_that_is_no_provider_is_told_so()
    {
        string library = File.ReadLines("/proc/self/maps").Select(line => line[(line.LastIndexOf(' ') + 1)..])
            .First(path => Path.GetFileName(path).StartsWith("libc.so", StringComparison.Ordinal));
        Assert.StartsWith($"Mine:0 was asked for, and {library} is a library, but no execution provider: it has no function CreateEpFactories. Set LibraryPath",
            Failure(Mine(library)), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("qwen2")]
    [InlineData("qwen3")]
    [InlineData("qwen3_5_text")]
    public void The_processor_named_as_a_provider_gives_the_same_bits(string modelType) => AssertSame(modelType, s_builtIn);

    [ProviderFact]
    public void A_provider_that_takes_nothing_changes_nothing()
    {
        const string Name = "NothingTestProvider";
        AssertSame("qwen3", TestProvider.Device(Name));
        Assert.Equal(0, TestProvider.Count(Name, "nodes"));
    }

    [ProviderTheory]
    [InlineData("AddTestProvider", "Add", "qwen3")]
    [InlineData("MulTestProvider", "Mul", "qwen3_5_text")]
    [InlineData("AddMemoryTestProvider", "Add", "qwen3")]
    [InlineData("MulMemoryTestProvider", "Mul", "qwen2")]
    public void What_a_provider_computes_goes_in_and_out_whole(string name, string take, string modelType)
    {
        // It writes a result before it has read the operands, and gradients are summed up in place.
        AssertSame(modelType, TestProvider.Device(name, ("take", take)));
        Assert.True(TestProvider.Count(name, "nodes") > 0);
        Assert.True(TestProvider.Count(name, "runs") > 0);
        Assert.Equal(name.Contains("Memory", StringComparison.Ordinal), TestProvider.Count(name, "copies") > 0);
    }

    [ProviderFact]
    public void A_library_is_registered_once_and_all_its_devices_can_be_used()
    {
        CustomDevice device = TestProvider.Device("TwoTestProvider");
        CustomProvider.Require(device);
        CustomProvider.Require(device with { DeviceIndex = 1 });
        CustomProvider.Require(device with { LibraryPath = null });
        Assert.Matches(@"^TwoTestProvider:2 was asked for; of devices that the provider lists there are 2: TwoTestProvider:0 \(CPU.*\), TwoTestProvider:1 \(",
            Failure(device with { DeviceIndex = 2 }));
        string other = TestProvider.Library("other");
        Assert.Contains($"was asked for from {other}, and a provider of that name is there already, from {device.LibraryPath}; a process has one. Set "
            + "LibraryPath to that.", Failure(device with { LibraryPath = other }), StringComparison.Ordinal);
    }

    [ProviderFact]
    public void What_the_provider_says_of_its_options_is_told()
    {
        CustomDevice device = TestProvider.Device("RefusingTestProvider", ("refuse", "no such matter"));
        Assert.Matches(@"^RefusingTestProvider:0 was asked for, and its provider does not start\. It was given refuse = no such matter \(ProviderOptions\)\. "
            + "ONNX Runtime failed while RefusingTestProvider:0 was opened: .*no such matter", Failure(device));
        CustomProvider.Require(device with { ProviderOptions = new Dictionary<string, string>() });
    }

    [ProviderFact]
    public void A_provider_without_a_device_or_of_another_name_is_told_so()
    {
        CustomDevice idle = TestProvider.Device("IdleTestProvider");
        string expected = $"IdleTestProvider:0 was asked for, and {idle.LibraryPath} lists no device: it is a provider, and has found nothing in this machine";
        Assert.StartsWith(expected, Failure(idle), StringComparison.Ordinal);
        Assert.StartsWith(expected, Failure(idle), StringComparison.Ordinal); // it is registered now
        CustomDevice named = TestProvider.Device("ItselfTestProvider");
        Assert.Equal($"ItselfTestProvider:0 was asked for, and {named.LibraryPath} brings no provider of that name: it has NamedByItself. Set Provider.",
            Failure(named));
        CustomProvider.Require(named with { Provider = "NamedByItself" });
    }

    private static CustomDevice Mine(string library) => new() { Provider = "Mine", LibraryPath = library };

    private static string Refusal(CustomDevice device, Action<TrainingOptions>? change = null)
    {
        TrainingOptions options = new() { Device = device };
        change?.Invoke(options);
        return Assert.Throws<OptionException>(options.Validate).Message;
    }

    private static string Failure(CustomDevice device) => Assert.Throws<DeviceException>(() => CustomProvider.Require(device)).Message;

    private void AssertSame(string modelType, CustomDevice device)
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), modelType);
        foreach (OptimizerKind optimizer in (OptimizerKind[])[OptimizerKind.AdamW, OptimizerKind.AdamW8Bit])
        {
            Assert.Equal(Train(checkpoint, Device.Cpu, optimizer), Train(checkpoint, device, optimizer));
        }
    }

    /// <summary>Losses, factors and scores of a run with two micro-batches a step, and an answer.</summary>
    private static List<float> Train(Checkpoint checkpoint, Device device, OptimizerKind optimizer)
    {
        Random random = new(7);
        TrainingRow[] rows = [.. Enumerable.Range(0, 4).Select(i => TinyModel.Row(random, 9 + i))];
        LoraOptions lora = new() { Rank = 2, Dropout = 0.1, UseDora = true };
        TrainingOptions options = new()
        {
            Device = device,
            Optimizer = optimizer,
            EightBitFrom = 16,
            NumberOfEpochs = 2,
            GradientAccumulationSteps = 2,
            LearningRate = 1e-2,
            ActivationCheckpointing = true,
            Threads = 1,
        };
        (LoraAdapter adapter, TrainingSummary summary) = LoraTraining.Train(checkpoint, lora, rows, options, [rows[0]]);
        using CausalLanguageModel lm = new(checkpoint, adapter, threads: 1, device: device);
        GenerationOptions greedy = new() { MaximumNewTokens = 6, Temperature = 0 };
        IReadOnlyList<GeneratedIds> answers = lm.Generate([rows[0].InputIds, rows[1].InputIds], greedy);
        return
        [
            .. summary.Steps.Select(step => (float)step.Loss),
            .. summary.Steps.Select(step => (float)(step.ValidationLoss ?? 0)),
            .. adapter.Tensors.SelectMany(tensor => tensor.Values),
            .. lm.Logits(rows[2].InputIds),
            .. answers.SelectMany(answer => answer.Ids).Select(id => (float)id),
        ];
    }
}
