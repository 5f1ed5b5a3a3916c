using Microsoft.ML;
using Microsoft.ML.Runtime;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>
/// What is lost of the data is a warning: in the log, in the summary and in the preflight; an option makes it an error before the first step.
/// </summary>
public sealed class WarningTests : IDisposable
{
    private const string Thinking = "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}"
        + "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- if enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
        + "{%- endif %}";

    private static readonly string s_long = string.Concat(Enumerable.Repeat("and on ", 60));

    private readonly Workbench _bench = new();
    private readonly List<(ChannelMessageKind Kind, string Text)> _log = [];
    private int _steps;

    public WarningTests() => _bench.Context.Log += (_, message) =>
    {
        lock (_log)
        {
            _log.Add((message.Kind, message.RawMessage));
        }
    };

    public static TheoryData<string, string> Cases => new()
    {
        { "cut", "1 of 2 training rows were cut off at the maximum length (option MaximumSequenceLength) and lose their end, " },
        { "left out", "1 of 2 training rows are left out, all or a part of them, because nothing is left of them to learn: row 2." },
        { "no end", "None of the training rows teaches the token that ends an answer; the model would not learn to stop." },
        { "beyond the context", "1 of 2 training rows are longer than the model's context of 256 tokens (max_position_embeddings of the checkpoint): row 2." },
        { "replaced", "1 invalid characters (surrogates without their partner) were replaced with U+FFFD." },
        { "thinking", "EnableThinking is true, but no answer of the training rows has reasoning" },
        { "base", "Answers may not stop: this looks like a base checkpoint" },
        { "validation", "1 of 2 validation rows were cut off at the maximum length" },
    };

    public void Dispose() => _bench.Dispose();

    [Theory]
    [MemberData(nameof(Cases))]
    public void What_is_lost_is_loud(string which, string expected)
    {
        using (QwenLoraTransformer model = Trainer(which).Fit(Rows(which)))
        {
            Assert.Single(model.TrainingSummary!.Warnings, warning => warning.StartsWith(expected, StringComparison.Ordinal));
            Assert.Equal(model.TrainingSummary.Warnings, _log.Where(line => line.Kind == ChannelMessageKind.Warning).Select(line => line.Text));
        }

        if (which != "validation")
        {
            Assert.Contains($"warning: {expected.Replace(" training", "", StringComparison.Ordinal)}",
                Trainer(which).Preflight(Rows(which)).ToString().Replace(" training", "", StringComparison.Ordinal), StringComparison.Ordinal);
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void An_option_makes_it_an_error_before_the_first_step(string which, string expected)
    {
        TrainingWarningException error = Assert.Throws<TrainingWarningException>(
            () => Trainer(which, options => options.WarningsAsErrors = true).Fit(Rows(which)));
        Assert.Single(error.Warnings, warning => warning.StartsWith(expected, StringComparison.Ordinal));
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        Assert.Equal(0, _steps);
    }

    [Fact]
    public void Where_all_is_well_there_is_no_warning()
    {
        using QwenLoraTransformer model = Trainer("", options => options.WarningsAsErrors = true).Fit(Rows(""));
        Assert.Empty(model.TrainingSummary!.Warnings);
        Assert.DoesNotContain(_log, line => line.Kind == ChannelMessageKind.Warning);
        Assert.Equal(1, _steps);
    }

    /// <summary>Data sets are private; logs are read by others.</summary>
    [Fact]
    public void No_text_of_the_data_is_in_the_log()
    {
        Trainer("cut").Fit(Rows("cut")).Dispose();
        Assert.NotEmpty(_log);
        Assert.DoesNotContain(_log, line => line.Text.Contains("heron", StringComparison.Ordinal) || line.Text.Contains("and on", StringComparison.Ordinal));
    }

    [Fact]
    public void Tokens_that_are_longer_than_the_context_are_warned_of_without_text_too()
    {
        TrainingRow row = new([.. Enumerable.Repeat(5, 257)], [.. Enumerable.Repeat(5, 257)]);
        TrainingRow fits = new([.. Enumerable.Repeat(5, 256)], [.. Enumerable.Repeat(5, 256)]);
        TrainingOptions options = new() { MaximumSteps = 1 };
        Checkpoint checkpoint = Checkpoint.Open(_bench.BaseFolder);
        string warning = Assert.Single(LoraTraining.Train(checkpoint, new LoraOptions(), [fits, row], options).Summary.Warnings);
        Assert.StartsWith(
            "1 of 2 training rows are longer than the model's context of 256 tokens (max_position_embeddings of the checkpoint): row 2.",
            warning,
            StringComparison.Ordinal);
        options.WarningsAsErrors = true;
        Assert.Empty(LoraTraining.Train(checkpoint, new LoraOptions(), [fits], options).Summary.Warnings);
        Assert.Throws<TrainingWarningException>(() => LoraTraining.Train(checkpoint, new LoraOptions(), [fits], options, [row]));
        string weights = _bench.PathOf("full.safetensors");
        Assert.Throws<TrainingWarningException>(() => FullTraining.Train(_bench.BaseFolder, [row], options, weights, TensorType.Float32));
        Assert.False(File.Exists(weights));
    }

    private static Row[] Answers(params string[] answers) => [.. answers.Select(answer => new Row("What is it?", "", answer))];

    private IDataView Rows(string which) => _bench.Context.Data.LoadFromEnumerable(which switch
    {
        "cut" => Answers("a heron", s_long),
        "left out" => [.. Answers("a heron"), new Row(s_long, "", "a heron")],
        "no end" => Answers(s_long, s_long),
        "beyond the context" => Answers("a heron", string.Concat(Enumerable.Repeat(s_long, 3))),
        "replaced" => Answers("a heron", "a her\ud83don"),
        _ => Answers("a heron", "an egret"),
    });

    private QwenLoraTrainer Trainer(string which, Action<QwenLoraTrainer.Options>? change = null)
    {
        if (which == "thinking")
        {
            File.WriteAllText(Path.Combine(_bench.BaseFolder, "chat_template.jinja"), Thinking);
        }

        if (which == "base")
        {
            int end = QwenTokenizer.Load(_bench.BaseFolder).EndOfTextId!.Value;
            File.WriteAllText(Path.Combine(_bench.BaseFolder, "generation_config.json"), $$"""{"eos_token_id":{{end}}}""");
        }

        return _bench.Trainer(options =>
        {
            options.MaximumSteps = 1;
            options.MaximumSequenceLength = which is "beyond the context" ? 1000 : 60;
            options.EnableThinking = which == "thinking" ? true : null;
            options.ValidationSet = which == "validation" ? Rows("cut") : null;
            options.ProgressCallback = _ => _steps++;
            change?.Invoke(options);
        });
    }
}
