using System.Diagnostics.Metrics;
using MLNetLora.Tests.TextGeneration;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>The meter, heard by a listener; other tests train at the same time, so only measurements of this thread count.</summary>
public sealed class TrainingMetricsTests : IDisposable
{
    private readonly MeterListener _listener = new();
    private readonly List<(string Name, string? Unit, double Value, string? Method)> _heard = [];
    private readonly int _thread = Environment.CurrentManagedThreadId;

    public TrainingMetricsTests()
    {
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Name == TrainingMetrics.MeterName)
            {
                listener.EnableMeasurementEvents(instrument);
            }
        };
        _listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Hear(instrument, value, tags));
        _listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Hear(instrument, value, tags));
        _listener.Start();
    }

    public void Dispose() => _listener.Dispose();

    [Fact]
    public void A_step_is_measured()
    {
        RunCallbacks callbacks = new([], _ => { });
        callbacks.Begin(SampleRun.Start(method: "Full"));
        callbacks.Step(SampleRun.Step(5));
        callbacks.End(SampleRun.Summary(5), null);

        Assert.All(_heard, measured => Assert.Equal("Full", measured.Method));
        Assert.Equal([1, -1], Values("mlnetlora.training.active", "{run}"));
        Assert.Equal([1], Values("mlnetlora.training.steps", "{step}"));
        Assert.Equal([80], Values("mlnetlora.training.tokens", "{token}"));
        Assert.Equal([30], Values("mlnetlora.training.label_tokens", "{token}"));
        Assert.Equal([0.5], Values("mlnetlora.training.step.duration", "s"));
        Assert.Equal([0.6], Values("mlnetlora.training.loss", "{nat}"));
        Assert.Equal([0.8], Values("mlnetlora.training.validation.loss", "{nat}"));
        Assert.Equal([5.5], Values("mlnetlora.training.gradient_norm", "1"));
        Assert.Equal([1e-3 * (1 - (4.0 / 20))], Values("mlnetlora.training.learning_rate", "1"));
        Assert.Equal([0.25], Values("mlnetlora.training.progress", "1"));
        Assert.Empty(Values("mlnetlora.training.skipped_steps", "{step}"));
    }

    [Fact]
    public void A_skipped_step_has_no_norm()
    {
        RunCallbacks callbacks = new([], _ => { });
        callbacks.Begin(SampleRun.Start());
        callbacks.Step(SampleRun.Skipped(1));
        Assert.Equal([1], Values("mlnetlora.training.skipped_steps", "{step}"));
        Assert.Empty(Values("mlnetlora.training.gradient_norm", "1"));
        callbacks.End(null, new OperationCanceledException());
    }

    [Fact]
    public void Every_training_is_measured_without_being_asked_to()
    {
        using Workbench bench = new();
        using QwenLoraTransformer model = bench.Fit(options => options.MaximumSteps = 3);
        Assert.Equal([1, 1, 1], Values("mlnetlora.training.steps", "{step}"));
        Assert.Equal(model.TrainingSummary!.Steps.Select(step => step.Loss), Values("mlnetlora.training.loss", "{nat}"));
        Assert.Equal([1, -1], Values("mlnetlora.training.active", "{run}"));
        Assert.All(_heard, measured => Assert.Equal("Lora", measured.Method));
    }

    private IEnumerable<double> Values(string name, string unit)
    {
        Assert.All(_heard.Where(measured => measured.Name == name), measured => Assert.Equal(unit, measured.Unit));
        return _heard.Where(measured => measured.Name == name).Select(measured => measured.Value);
    }

    private void Hear(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        if (Environment.CurrentManagedThreadId == _thread)
        {
            Assert.Equal(1, tags.Length);
            Assert.Equal("mlnetlora.method", tags[0].Key);
            _heard.Add((instrument.Name, instrument.Unit, value, (string?)tags[0].Value));
        }
    }
}
