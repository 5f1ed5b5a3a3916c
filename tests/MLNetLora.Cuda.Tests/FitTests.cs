using Microsoft.ML;
using MLNetLora.Evaluation;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Tests;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Cuda.Tests;

/// <summary>From the rows to an answer through ML.NET.</summary>
public sealed class FitTests
{
    private static readonly IDataView s_rows = new MLContext().Data.LoadFromEnumerable<Row>([new("Say yes.", "Yes."), new("Say no.", "No.")]);

    private readonly List<string> _log = [];

    [CudaFact]
    public void What_is_trained_on_a_device_answers_there()
    {
        using QwenLoraTransformer model = Fit(WeightPrecision.Checkpoint);
        Assert.Contains("Training on cuda:0.", _log);
        Assert.DoesNotContain(_log, line => line.Contains("processor", StringComparison.Ordinal));
        QwenLoraTransformer.Options? options = null;
        using QwenLoraTransformer same = model.With(o => options = o);
        Assert.Equal(new CudaDevice(), options!.Device);
        Assert.NotEqual("", model.Generate("Say yes."));
        using QwenLoraTransformer onProcessor = model.With(o => o.Device = Device.Cpu);
        Assert.NotEqual("", onProcessor.Generate("Say yes."));
    }

    [CudaFact]
    public void So_does_what_is_trained_with_8_bit_states()
    {
        using QwenLoraTransformer model = Fit(WeightPrecision.Checkpoint, optimizer: OptimizerKind.AdamW8Bit);
        Assert.Contains("Training on cuda:0.", _log);
        Assert.NotEqual("", model.Generate("Say yes."));
    }

    [CudaFact]
    public void So_does_what_is_trained_with_fused_kernels()
    {
        CudaDevice device = new() { FusedKernels = true };
        using QwenLoraTransformer model = Fit(WeightPrecision.Checkpoint, device);
        QwenLoraTransformer.Options? options = null;
        using QwenLoraTransformer same = model.With(o => options = o);
        Assert.Equal(device, options!.Device);
        Assert.NotEqual("", model.Generate("Say yes."));
    }

    [CudaFact]
    public void So_does_what_is_trained_with_graphs()
    {
        QwenLoraTransformer? model = null;
        DeviceCounts training = StandIn.Count(() => model = Fit(WeightPrecision.Checkpoint, new CudaDevice { Graphs = true }));
        using (model)
        {
            Assert.True(training.Captures > 0);
            DeviceCounts answer = StandIn.Count(() => Assert.NotEqual("", model!.Generate("Say yes.")));
            Assert.True(answer is { Launches: > 0, Captures: 0, Replays: 0 });
        }
    }

    [CudaTheory]
    [InlineData(WeightPrecision.Checkpoint)]
    [InlineData(WeightPrecision.Nf4)]
    public void Losses_of_rows_are_computed_there(WeightPrecision precision)
    {
        using QwenLoraTransformer model = Fit(precision, new CudaDevice { Graphs = precision == WeightPrecision.Checkpoint });
        using QwenLoraTransformer rounded = model.With(options => options.WeightPrecision = precision);
        LanguageModelMetrics? metrics = null;
        DeviceCounts counts = StandIn.Count(() => metrics = rounded.EvaluateLoss(s_rows, batchSize: 2));
        Assert.True(counts is { Launches: > 0, Captures: 0 });
        Assert.Equal(2, metrics!.Rows);
        Assert.False(rounded.IsOpen);
    }

    [CudaTheory]
    [InlineData(WeightPrecision.Nf4, null)]
    [InlineData(WeightPrecision.Checkpoint, ComputeType.Float16)]
    public void So_does_what_is_trained_otherwise(WeightPrecision precision, ComputeType? type)
    {
        using QwenLoraTransformer model = Fit(precision, type: type);
        Assert.DoesNotContain(_log, line => line.Contains("processor", StringComparison.Ordinal));
        Assert.NotEqual("", model.Generate("Say yes."));
    }

    [CudaFact]
    public void What_is_loaded_answers_on_the_GPU_of_the_context()
    {
        using TemporaryFolder folder = new();
        using (QwenLoraTransformer trained = Fit(WeightPrecision.Checkpoint))
        {
            trained.Save(folder.File("model.zip"));
        }

        MLContext ml = new(seed: 1) { GpuDeviceId = 0 };
        using QwenLoraTransformer model = ml.TextGeneration.Load(folder.File("model.zip"));
        DeviceCounts counts = StandIn.Count(() => Assert.NotEqual("", model.Generate("Say yes.")));
        Assert.True(counts.Launches > 0);
    }

    [CudaFact]
    public void A_GPU_that_the_runtime_does_not_see_is_a_matter_of_the_device()
    {
        DeviceException error = Assert.Throws<DeviceException>(() => Fit(WeightPrecision.Checkpoint, new CudaDevice { DeviceId = 7 }));
        Assert.Contains("CUDA shows no GPU of that number", error.Message, StringComparison.Ordinal);
    }

    [CudaFact]
    public void The_provider_knows_the_options_that_are_let_through()
    {
        CudaDevice device = new()
        {
            MemoryLimit = 1_000_000_000,
            ProviderOptions = new Dictionary<string, string>
            {
                ["arena_extend_strategy"] = "kNextPowerOfTwo",
                ["enable_cudnn"] = "1",
                ["sdpa_kernel"] = "1",
                ["external_data_loader_reading_threads"] = "2",
            },
        };
        device.Validate();
        CudaProvider.Require(device);
        CudaDevice wrong = device with { ProviderOptions = new Dictionary<string, string> { ["arena_extend_strategy"] = "never" } };
        Assert.Contains("ProviderOptions of cuda:0", Assert.Throws<OptionException>(() => CudaProvider.Require(wrong)).Message, StringComparison.Ordinal);
    }

    private QwenLoraTransformer Fit(
        WeightPrecision precision, CudaDevice? device = null, OptimizerKind optimizer = OptimizerKind.AdamW, ComputeType? type = null)
    {
        MLContext ml = new(seed: 1);
        ml.Log += (_, message) => _log.Add(message.RawMessage);
        return ml.TextGeneration.Trainers.QwenLora(new QwenLoraTrainer.Options
        {
            ModelPath = Repository.Nano,
            Device = device ?? new CudaDevice(),
            Precision = precision,
            Optimizer = optimizer,
            ComputeType = type,
            NumberOfEpochs = 1,
        }).Fit(s_rows);
    }

    private sealed record Row(string Instruction, string Output);
}
