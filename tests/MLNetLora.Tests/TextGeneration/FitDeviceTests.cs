using Microsoft.ML;
using Microsoft.ML.OnnxRuntime;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>Which device Fit takes, and what it says where that cannot be used: there is none in these tests, with either package.</summary>
public sealed class FitDeviceTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly List<string> _log = [];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void The_GPU_of_the_context_is_taken_and_the_processor_in_its_place_where_that_is_allowed()
    {
        MLContext ml = new(seed: 1) { GpuDeviceId = 1, FallbackToCpu = true };
        using QwenLoraTransformer model = Fit(ml, null);
        Assert.Single(model.TrainingSummary!.Steps);
        Assert.Contains(_log, line => line.Contains("The processor computes (MLContext.FallbackToCpu): cuda:1 was asked for", StringComparison.Ordinal));
        Assert.DoesNotContain(_log, line => line.Contains("Training on", StringComparison.Ordinal));
    }

    [Fact]
    public void Where_it_is_not_allowed_the_error_says_what_is_missing()
    {
        MLContext ml = new(seed: 1) { GpuDeviceId = 0, FallbackToCpu = false };
        string message = Assert.Throws<DeviceException>(() => Fit(ml, null)).Message;
        Assert.StartsWith("cuda:0 was asked for, and ", message, StringComparison.Ordinal);
        if (!OrtEnv.Instance().GetAvailableProviders().Contains("CUDAExecutionProvider"))
        {
            Assert.Contains("has no CUDA provider (it has CPUExecutionProvider). Reference Microsoft.ML.OnnxRuntime.Gpu in the place of "
                + "Microsoft.ML.OnnxRuntime", message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_device_that_the_options_name_is_never_replaced()
    {
        MLContext ml = new(seed: 1) { GpuDeviceId = 1, FallbackToCpu = true };
        Assert.StartsWith("cuda:2 was asked for", Assert.Throws<DeviceException>(() => Fit(ml, new CudaDevice { DeviceId = 2 })).Message,
            StringComparison.Ordinal);
        using QwenLoraTransformer model = Fit(ml, Device.Cpu);
        Assert.Single(model.TrainingSummary!.Steps);
        Assert.DoesNotContain(_log, line => line.Contains("FallbackToCpu", StringComparison.Ordinal));
    }

    [Fact]
    public void Answers_are_asked_of_the_device_that_the_options_of_the_model_name()
    {
        using QwenLoraTransformer model = Fit(new MLContext(seed: 1), Device.Cpu);
        Assert.NotNull(model.Generate("Say yes."));
        using QwenLoraTransformer elsewhere = model.With(options => options.Device = new CudaDevice { DeviceId = 3 });
        Assert.StartsWith("cuda:3 was asked for", Assert.Throws<DeviceException>(() => elsewhere.Generate("Say yes.")).Message, StringComparison.Ordinal);
        Assert.StartsWith("Device is null", Assert.Throws<OptionException>(() => model.With(options => options.Device = null!)).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_loaded_takes_the_GPU_of_the_context_too()
    {
        string zip = _folder.File("model.zip"), peft = _folder.File("adapter");
        using (QwenLoraTransformer trained = Fit(new MLContext(seed: 1), Device.Cpu))
        {
            trained.Save(zip);
            trained.Adapter.SaveAsPeft(peft);
        }

        MLContext strict = new(seed: 1) { GpuDeviceId = 4, FallbackToCpu = false };
        string tiny = _folder.File("tiny");
        Assert.StartsWith("cuda:4 was asked for", Assert.Throws<DeviceException>(() => strict.TextGeneration.Load(zip)).Message, StringComparison.Ordinal);
        Assert.StartsWith("cuda:4 was asked for", Assert.Throws<DeviceException>(() => strict.TextGeneration.LoadAdapter(tiny, peft)).Message,
            StringComparison.Ordinal);
        using QwenLoraTransformer asked = strict.TextGeneration.Load(zip, change: options => options.Device = Device.Cpu);
        Assert.NotNull(asked.Generate("Say yes."));

        MLContext lenient = new(seed: 1) { GpuDeviceId = 4, FallbackToCpu = true };
        lenient.Log += (_, message) => _log.Add(message.RawMessage);
        _log.Clear();
        using QwenLoraTransformer loaded = lenient.TextGeneration.LoadAdapter(tiny, peft);
        Assert.Single(_log, line => line.Contains("The processor computes (MLContext.FallbackToCpu): cuda:4 was asked for", StringComparison.Ordinal));
        Assert.Equal(asked.Generate("Say yes."), loaded.Generate("Say yes."));
    }

    [Fact]
    public void What_has_no_kernel_there_is_refused_before_Fit()
    {
        MLContext ml = new(seed: 1) { GpuDeviceId = 0, FallbackToCpu = false };
        Assert.Contains("Precision is Int8 and Device is cuda:0", Assert.Throws<OptionException>(() => ml.TextGeneration.Trainers.QwenLora(
            new QwenLoraTrainer.Options { ModelPath = Repository.Nano, Precision = WeightPrecision.Int8 })).Message, StringComparison.Ordinal);

        // The processor has all of it, and may take over.
        using QwenLoraTransformer model = Fit(new MLContext(seed: 1) { GpuDeviceId = 0, FallbackToCpu = true }, null, WeightPrecision.Int8);
        Assert.Contains(_log, line => line.Contains("The processor computes (MLContext.FallbackToCpu)", StringComparison.Ordinal));
    }

    [Fact]
    public void Another_provider_trains_and_answers_and_is_never_replaced()
    {
        MLContext ml = new(seed: 1) { GpuDeviceId = 1, FallbackToCpu = true };
        CustomDevice device = new() { Provider = "CPUExecutionProvider" };
        using QwenLoraTransformer there = Fit(ml, device);
        Assert.Contains(_log, line => line.Contains("Training on CPUExecutionProvider:0.", StringComparison.Ordinal));
        Assert.Equal(device, there.Model.Device);
        using QwenLoraTransformer here = Fit(new MLContext(seed: 1), Device.Cpu);
        Assert.Equal(here.TrainingSummary!.Steps[0].Loss, there.TrainingSummary!.Steps[0].Loss);
        Assert.Equal(here.Generate("Say yes."), there.Generate("Say yes."));

        CustomDevice nowhere = new() { Provider = "Nowhere" };
        Assert.StartsWith("Nowhere:0 was asked for, and ", Assert.Throws<DeviceException>(() => Fit(ml, nowhere)).Message, StringComparison.Ordinal);
        using QwenLoraTransformer elsewhere = here.With(options => options.Device = nowhere);
        Assert.StartsWith("Nowhere:0 was asked for, and ", Assert.Throws<DeviceException>(() => elsewhere.Generate("Say yes.")).Message,
            StringComparison.Ordinal);
        using QwenLoraTransformer quantized = there.With(options => options.WeightPrecision = WeightPrecision.Int8);
        Assert.StartsWith("Answers with WeightPrecision.Int8 are not computed by other execution providers", Assert.Throws<OptionException>(
            () => quantized.Generate("Say yes.")).Message, StringComparison.Ordinal);
    }

    private QwenLoraTransformer Fit(MLContext ml, Device? device, WeightPrecision precision = WeightPrecision.Checkpoint)
    {
        ml.Log += (_, message) => _log.Add(message.RawMessage);
        string tiny = Path.Combine(_folder.Path, "tiny");
        IDataView rows = ml.Data.LoadFromEnumerable<Row>([new("Say yes.", "Yes.")]);
        return ml.TextGeneration.Trainers.QwenLora(new QwenLoraTrainer.Options
        {
            ModelPath = Directory.Exists(tiny) ? tiny : TinyCheckpoint.Write(tiny),
            Device = device,
            Precision = precision,
            NumberOfEpochs = 1,
        }).Fit(rows);
    }

    private sealed record Row(string Instruction, string Output);
}
