using System.Reflection;
using Microsoft.ML;
using Microsoft.ML.Data;
using Microsoft.ML.Runtime;
using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.TextGeneration;

public sealed class QwenLoraTrainerTests : IDisposable
{
    private readonly Workbench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void Options_reach_the_training_and_the_adapter()
    {
        using QwenLoraTransformer model = _bench.Fit(options =>
        {
            options.Rank = 4;
            options.LearningRate = 1e-3;
            options.Schedule = LearningRateSchedule.Constant;
            options.SystemPrompt = "Be brief.";
            options.MaximumSequenceLength = 64;
            options.ValidationSet = _bench.Context.Data.LoadFromEnumerable<Row>([new("when", "d", "4")]);
        });

        Assert.Equal((4, "Be brief.", _bench.BaseFolder), (model.Adapter.Options.Rank, model.Adapter.Prompt.SystemPrompt, model.Adapter.BaseModel));
        Assert.Equal((64, "Be brief."), (model.Model.Prompt.MaximumSequenceLength, model.Model.Prompt.SystemPrompt));
        Assert.Equal(3, model.TrainingSummary!.Steps.Count);
        Assert.All(model.TrainingSummary.Steps, step => Assert.Equal(1e-3, step.LearningRate));
        Assert.NotNull(model.TrainingSummary.Steps[^1].ValidationLoss);
    }

    [Fact]
    public void Null_among_names_is_refused_by_the_option_s_name()
    {
        foreach ((string option, Action<QwenLoraTrainer.Options> change) in (ReadOnlySpan<(string, Action<QwenLoraTrainer.Options>)>)
        [
            ("TargetModules", options => options.TargetModules = [null!]),
            ("ExcludeModules", options => options.ExcludeModules = ["q_proj", null!]),
            ("LayersPattern", options => options.LayersPattern = [null!]),
        ])
        {
            Assert.StartsWith(option, Assert.Throws<OptionException>(() => _bench.Trainer(change)).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void An_adapter_that_holds_NaN_is_not_trained_on_from()
    {
        using TemporaryFolder folder = new();
        LoraAdapter adapter = TinyCheckpoint.Adapter(_bench.BaseFolder);
        adapter.Factors[0].A[0] = float.NaN;
        adapter.SaveAsPeft(folder.Path);
        string message = Assert.Throws<AdapterException>(() => _bench.Fit(options => options.InitialAdapter = folder.Path)).Message;
        Assert.Contains($"{adapter.Factors[0].Module.Module.Name}.lora_A.weight holds NaN", message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_adapter_is_trained_on_from()
    {
        using TemporaryFolder folder = new();
        using QwenLoraTransformer first = _bench.Fit(
            options => (options.Rank, options.UseDora, options.LearningRate, options.NumberOfEpochs) = (3, true, 1e-2, 5));
        first.Adapter.SaveAsPeft(folder.Path);
        using QwenLoraTransformer second = _bench.Fit(options =>
        {
            options.InitialAdapter = folder.Path;
            options.Dropout = 0.25;
            options.LearningRate = 1e-12;
        });

        // The shape is the file's, the dropout this run's, and the first loss is where the other run ended.
        Assert.Equal((3, true, 0.25), (second.Adapter.Options.Rank, second.Adapter.Options.UseDora, second.Adapter.Options.Dropout));
        Assert.All(first.Adapter.Tensors.Zip(second.Adapter.Tensors),
            pair => Assert.InRange(GoldenFile.RelativeError(pair.Second.Values, pair.First.Values), 0, 1e-6));
        Assert.Equal(_bench.BaseFolder, second.Adapter.BaseModel);
        using (QwenLoraTransformer same = _bench.Fit(options =>
            (options.InitialAdapter, options.Rank, options.UseDora, options.MaximumSteps) = (folder.Path, 3, true, 1)))
        {
            Assert.Equal(3, same.Adapter.Options.Rank);
        }

        Refused("Rank is 8; it must be 3, or left out, when InitialAdapter is ", options => options.Rank = 8);
        Refused("Alpha is 8; it must be 16", options => options.Alpha = 8);
        Refused("UseRsLora is True; it must be False", options => options.UseRsLora = true);
        Refused("Bias is All; it must be None", options => options.Bias = LoraBias.All);
        Refused("Initialization is Gaussian; it must be Default", options => options.Initialization = LoraInitialization.Gaussian);

        void Refused(string why, Action<QwenLoraTrainer.Options> change) => Assert.StartsWith(why, Assert.Throws<OptionException>(() => _bench.Fit(options =>
        {
            options.InitialAdapter = folder.Path;
            change(options);
        })).Message, StringComparison.Ordinal);

        File.Delete(folder.File("adapter_config.json"));
        Assert.Contains("adapter_config.json is missing",
            Assert.Throws<AdapterException>(() => _bench.Fit(options => options.InitialAdapter = folder.Path)).Message, StringComparison.Ordinal);
        Assert.Throws<OptionException>(() => _bench.Trainer(options => options.InitialAdapter = " "));
    }

    [Fact]
    public void An_adapter_that_is_trained_on_from_is_asked_as_it_was_where_nothing_else_is_said()
    {
        using TemporaryFolder folder = new();
        using QwenLoraTransformer first = _bench.Fit(options => (options.SystemPrompt, options.PromptTemplate) = ("Be brief.", "Q: {instruction}"));
        first.Adapter.SaveAsPeft(folder.Path);

        QwenLoraTrainer trainer = _bench.Trainer(options => options.InitialAdapter = folder.Path);
        using QwenLoraTransformer second = trainer.Fit(_bench.Rows);
        Assert.Equal(first.Adapter.Prompt, second.Adapter.Prompt);
        Assert.Equal(first.Model.Prompt, second.Model.Prompt);
        Assert.Equal(first.TrainingSummary!.Steps[0].Tokens, second.TrainingSummary!.Steps[0].Tokens);
        Assert.Equal(_bench.Trainer(options => (options.SystemPrompt, options.PromptTemplate) = ("Be brief.", "Q: {instruction}"))
            .Preflight(_bench.Rows).Statistics, trainer.Preflight(_bench.Rows).Statistics);

        using QwenLoraTransformer third = _bench.Fit(options =>
            (options.InitialAdapter, options.SystemPrompt, options.PromptTemplate) = (folder.Path, "", "A: {instruction}"));
        Assert.Equal(("", "A: {instruction}"), (third.Adapter.Prompt.SystemPrompt, third.Adapter.Prompt.PromptTemplate));
    }

    [Fact]
    public void The_input_column_is_optional()
    {
        IDataView rows = _bench.Context.Data.LoadFromEnumerable([new { Instruction = "what", Output = "1" }]);
        using QwenLoraTransformer model = _bench.Trainer().Fit(rows);

        Assert.Equal([model.Generate("what")], Answers(model, rows));
    }

    [Fact]
    public void Columns_can_have_other_names()
    {
        IDataView rows = _bench.Context.Data.LoadFromEnumerable([new { Frage = "what", Kontext = "a", Antwort = "1" }]);
        QwenLoraTrainer trainer = _bench.Trainer(
            options => (options.InstructionColumnName, options.InputColumnName, options.OutputColumnName, options.AnswerColumnName) =
            ("Frage", "Kontext", "Antwort", "Ergebnis"));
        using QwenLoraTransformer model = trainer.Fit(rows);

        Assert.Equal([model.Generate("what", "a")], Answers(model, rows, "Ergebnis"));
    }

    [Theory]
    [InlineData("Instruction", "The data has no column 'Question' (option InstructionColumnName). Its columns are: Instruction, Input, Output.")]
    [InlineData("Output", "The data has no column 'Question' (option OutputColumnName). Its columns are: Instruction, Input, Output.")]
    [InlineData("Input", "The data has no column 'Question' (option InputColumnName). Its columns are: Instruction, Input, Output.")]
    public void A_missing_column_is_named_before_anything_is_trained(string column, string message)
    {
        QwenLoraTrainer trainer = _bench.Trainer(options =>
        {
            options.InstructionColumnName = column == "Instruction" ? "Question" : options.InstructionColumnName;
            options.OutputColumnName = column == "Output" ? "Question" : options.OutputColumnName;
            options.InputColumnName = column == "Input" ? "Question" : options.InputColumnName;
        });

        Assert.Contains(message, Assert.Throws<ArgumentOutOfRangeException>(() => trainer.Fit(_bench.Rows)).Message);
        Assert.Contains(message, Assert.Throws<ArgumentOutOfRangeException>(() => trainer.Append(_bench.Trainer()).Fit(_bench.Rows)).Message);
    }

    [Fact]
    public void A_column_that_is_not_text_is_named()
    {
        IDataView numbers = _bench.Context.Data.LoadFromEnumerable([new { Instruction = "what", Output = 1f }]);
        IDataView vectors = _bench.Context.Data.LoadFromEnumerable([new { Instruction = "what", Input = new[] { "a", "b" }, Output = "1" }]);

        Assert.Contains("Column 'Output' (option OutputColumnName) is of type Single; it must be one text",
            Assert.Throws<ArgumentOutOfRangeException>(() => _bench.Trainer().Fit(numbers)).Message);
        Assert.Contains("Column 'Input' (option InputColumnName) is of type Vector<String>; it must be one text",
            Assert.Throws<ArgumentOutOfRangeException>(() => _bench.Trainer().Fit(vectors)).Message);
        Assert.Contains("Column 'Input' (option InputColumnName) is of type VariableVector of String",
            Assert.Throws<ArgumentOutOfRangeException>(() => _bench.Trainer().Append(_bench.Trainer()).Fit(vectors)).Message);
    }

    [Theory]
    [InlineData("", "1", "Row 2 of the training data: column 'Instruction' is empty")]
    [InlineData("why", " ", "Row 2 of the training data: column 'Output' is empty")]
    public void A_row_without_question_or_answer_is_named(string instruction, string output, string message)
    {
        IDataView rows = _bench.Context.Data.LoadFromEnumerable<Row>([new("what", "", "1"), new(instruction, "", output)]);

        Assert.Contains(message, Assert.Throws<DatasetException>(() => _bench.Trainer().Fit(rows)).Message);
    }

    [Fact]
    public void Empty_data_is_refused()
    {
        IDataView empty = _bench.Context.Data.LoadFromEnumerable<Row>([]);

        Assert.Equal("The training data has no rows.", Assert.Throws<DatasetException>(() => _bench.Trainer().Fit(empty)).Message);
        Assert.Equal("The validation data has no rows.", Assert.Throws<DatasetException>(() => _bench.Fit(options => options.ValidationSet = empty)).Message);
    }

    [Fact]
    public void The_seed_comes_from_the_options_then_from_the_context_and_is_drawn_where_there_is_none()
    {
        int Seed(int? ofContext, int? ofOptions)
        {
            using Workbench bench = new(seed: ofContext);
            List<string> log = [];
            bench.Context.Log += (_, e) => log.Add(e.RawMessage);
            using QwenLoraTransformer model = bench.Fit(options => options.Seed = ofOptions);
            string line = log.Single(line => line.StartsWith("Fine-tuning ", StringComparison.Ordinal));
            return int.Parse(line.Split("; seed ")[1].TrimEnd('.'), System.Globalization.CultureInfo.InvariantCulture);
        }

        Assert.Equal(5, Seed(ofContext: 42, ofOptions: 5));
        Assert.Equal(42, Seed(ofContext: 42, ofOptions: null));
        Assert.NotEqual(Seed(ofContext: null, ofOptions: null), Seed(ofContext: null, ofOptions: null));
    }

    [Fact]
    public void Later_changes_of_the_options_have_no_effect()
    {
        QwenLoraTrainer.Options options = new() { ModelPath = _bench.BaseFolder, LayersToTransform = new List<int> { 0 } };
        QwenLoraTrainer trainer = _bench.Context.TextGeneration.Trainers.QwenLora(options);
        options.Rank = 1;
        options.Generation.BatchSize = 1;
        ((List<int>)options.LayersToTransform).Clear();
        using QwenLoraTransformer model = trainer.Fit(_bench.Rows);

        Assert.Equal(64, model.Adapter.Options.Rank);
        Assert.Equal([0], model.Adapter.Options.LayersToTransform!);
        Assert.Equal(8, model.BatchSize);
    }

    [Fact]
    public void Cancelling_returns_the_model_so_far_and_throws_only_before_the_first_step()
    {
        using CancellationTokenSource source = new();
        using QwenLoraTransformer model = _bench.Fit(options =>
        {
            options.CancellationToken = source.Token;
            options.ProgressCallback = progress =>
            {
                if (progress.Step == 2)
                {
                    source.Cancel();
                }
            };
        });

        Assert.True(model.TrainingSummary!.WasCancelled);
        Assert.Equal(2, model.TrainingSummary.Steps.Count);
        Assert.Throws<OperationCanceledException>(() => _bench.Fit(options => options.CancellationToken = source.Token));

        // Cancelled while the rows are read, without a step: nothing to return.
        using CancellationTokenSource late = new();
        IDataView rows = _bench.Context.Data.LoadFromEnumerable(Enumerate());
        Assert.ThrowsAny<OperationCanceledException>(() => _bench.Trainer(options => options.CancellationToken = late.Token).Fit(rows));

        IEnumerable<Row> Enumerate()
        {
            yield return new Row("what", "", "1");
            late.Cancel();
        }
    }

    [Fact]
    public void Messages_go_to_the_log_word_for_word()
    {
        string braces = TinyCheckpoint.Write(_bench.PathOf("{0} {not a format"));
        List<(ChannelMessageKind Kind, string Message)> log = [];
        _bench.Context.Log += (_, e) => log.Add((e.Kind, e.RawMessage));
        using QwenLoraTransformer model = _bench.Fit(options =>
        {
            options.ModelPath = braces;
            options.ValidationSet = _bench.Rows;
        });
        TrainingProgress[] steps = [.. model.TrainingSummary!.Steps];

        Assert.Contains((ChannelMessageKind.Info, $"Fine-tuning {braces}; seed 7."), log);
        Assert.Contains(log, entry => entry.Kind == ChannelMessageKind.Trace && entry.Message.StartsWith(
            FormattableString.Invariant($"Step 2/3, epoch {steps[1].Epoch:F2}, loss {steps[1].Loss:F4}, gradient norm {steps[1].GradientNorm:F3}, ")
                + FormattableString.Invariant($"learning rate {steps[1].LearningRate:E2}, "),
            StringComparison.Ordinal));
        Assert.Contains((ChannelMessageKind.Info, FormattableString.Invariant($"Step 3/3, validation loss {steps[2].ValidationLoss:F4}, ")
            + FormattableString.Invariant($"perplexity {steps[2].ValidationPerplexity:G5}, token accuracy {steps[2].ValidationTokenAccuracy:F4}.")), log);
        Assert.Contains((ChannelMessageKind.Info,
            FormattableString.Invariant($"Done in 00:00:0{model.TrainingSummary.Duration.Seconds}: 3 steps, last loss {steps[2].Loss:F4}.")), log);
    }

    [Fact]
    public void A_time_above_a_day_does_not_wrap() => Assert.Equal("26:00:05", QwenLoraTrainer.Clock(new TimeSpan(26, 0, 5)));

    [Fact]
    public void Options_that_make_no_sense_are_named_at_once()
    {
        void Refused(string message, Action<QwenLoraTrainer.Options> change) =>
            Assert.Contains(message, Assert.Throws<OptionException>(() => _bench.Trainer(change)).Message);

        Refused("WeightPrecision is 7; it must be Checkpoint or Int8 or Int4", options => options.WeightPrecision = (WeightPrecision)7);
        Refused("ModelPath is empty", options => options.ModelPath = "");
        Refused("Rank is 0; it must be at least 1", options => options.Rank = 0);
        Refused("Rank is 100000; it must be at most 16384", options => options.Rank = 100_000);
        Refused("Threads is 1000; it must be at most", options => options.Threads = 1_000);
        Refused("Dropout is 1; it must be at least 0 and below 1", options => options.Dropout = 1);
        Refused("TargetModules is empty", options => options.TargetModules = []);
        Refused("PromptTemplate is \"Answer:\"; it must contain {instruction}", options => options.PromptTemplate = "Answer:");
        Refused("with 101 places", options => options.PromptTemplate = string.Concat(Enumerable.Repeat("{instruction}", 101)));
        Refused("PromptTemplate is 100013 characters", options => options.PromptTemplate = "{instruction}" + new string('x', 100_000));
        Refused("BatchSize is 0", options => options.BatchSize = 0);
        Refused("TopP is 0", options => options.Generation.TopP = 0);
        Refused("AnswerColumnName is empty", options => options.AnswerColumnName = "");
        Refused("LabelScope is 7; it must be Answer or Everything", options => options.LabelScope = (MLNetLora.Text.LabelScope)7);
        Refused("RankPattern is null", options => options.RankPattern = null!);
        Refused("AlphaPattern is null", options => options.AlphaPattern = null!);
        Refused("Alpha is Infinity; it must be a positive number", options => options.Alpha = double.PositiveInfinity);
        Refused("Alpha is -Infinity; it must be a positive number", options => options.Alpha = float.NegativeInfinity);
        Refused("Alpha is NaN; it must be a positive number", options => options.Alpha = double.NaN);
        Refused("Dropout is Infinity", options => options.Dropout = double.PositiveInfinity);
        Refused("must be three columns", options => options.OutputColumnName = "Instruction");
    }

    [Fact]
    public void Every_option_of_training_is_inherited_and_every_option_of_LoRA_is_offered_flat()
    {
        Assert.IsAssignableFrom<TrainingOptions>(new QwenLoraTrainer.Options());
        foreach (PropertyInfo property in typeof(LoraOptions).GetProperties())
        {
            PropertyInfo flat = typeof(QwenLoraTrainer.Options).GetProperty(property.Name)!;
            QwenLoraTrainer.Options options = new();
            Assert.Equal(property.GetValue(new LoraOptions()), flat.GetValue(options));

            object other = property.GetValue(options.Lora) switch
            {
                bool value => !value,
                double => 0.125,
                TargetModules => TargetModules.FromString("all-linear"),
                IReadOnlyDictionary<string, int> => new Dictionary<string, int> { ["q_proj"] = 3 },
                IReadOnlyDictionary<string, double> => new Dictionary<string, double> { ["q_proj"] = 3 },
                LoraBias => LoraBias.All,
                LoraInitialization => LoraInitialization.Gaussian,
                IReadOnlyList<int> => new List<int> { 2 },
                IReadOnlyList<string> => new List<string> { "norm" },
                null when property.PropertyType == typeof(TargetModules) => TargetModules.FromString("all-linear"),
                null => new List<int> { 1 },
                _ => 77,
            };
            Assert.Empty(options.Lora.Changed());
            flat.SetValue(options, other);
            Assert.Equal([property.Name], options.Lora.Changed());
            Assert.Equal(other, property.GetValue(options.Lora));
            Assert.Equal(other, flat.GetValue(options));
        }
    }

    [Fact]
    public void A_float_literal_is_handed_on_as_it_was_written() =>
        Assert.Equal(0.05, new QwenLoraTrainer.Options { Dropout = 0.05f }.Lora.Dropout);

    [Theory]
    [InlineData(0.1f, 0.1)]
    [InlineData(0.1, 0.1)]
    [InlineData(16, 16)]
    [InlineData(1234567.5, 1234567.5)]
    [InlineData(1073741824, 1073741824)]
    [InlineData(1e30f, 1.0000000150474662e30)]
    [InlineData(1e300, 1e300)]
    [InlineData(1.1754943508222875e-38, 1.1754943508222875e-38)]
    public void A_number_that_is_more_than_a_short_literal_stays_what_it_is(double given, double handedOn) =>
        Assert.Equal(handedOn, new QwenLoraTrainer.Options { Alpha = given }.Lora.Alpha);

    [Fact]
    public void A_checkpoint_that_cannot_be_used_is_told_before_anything_is_trained()
    {
        string Refusal() => Assert.Throws<CheckpointException>(() => _bench.Fit()).Message;
        string weights = Path.Combine(_bench.BaseFolder, "model.safetensors");
        string index = weights + ".index.json";

        File.Move(weights, Path.Combine(_bench.BaseFolder, "pytorch_model.bin"));
        Assert.Contains($"{_bench.BaseFolder} has neither model.safetensors nor model.safetensors.index.json. It holds .bin files, which are Python pickles",
            Refusal());
        File.WriteAllText(index, "[]]");
        Assert.Contains($"{index} is not valid JSON", Refusal());
        File.WriteAllText(index, "{}");
        Assert.Contains($"{index} has no weight_map", Refusal());
        File.WriteAllText(index, """{"weight_map":{"model.norm.weight":"../model.safetensors"}}""");
        Assert.Contains("only plain file names beside the index are allowed", Refusal());
        File.Delete(Path.Combine(_bench.BaseFolder, "config.json"));
        Assert.Contains($"{Path.Combine(_bench.BaseFolder, "config.json")} cannot be read", Refusal());
        Directory.Delete(_bench.BaseFolder, recursive: true);
        Assert.Contains($"There is no folder '{_bench.BaseFolder}'", Refusal());
    }

    [Fact]
    public void Weights_in_a_file_that_could_not_be_found_again_are_refused_before_anything_is_trained()
    {
        TinyCheckpoint.Shard(_bench.BaseFolder, "weights.bin");

        Assert.Contains("keeps weights in 'weights.bin'", Assert.Throws<CheckpointException>(() => _bench.Fit()).Message);
    }

    [Fact]
    public void The_short_overload_has_the_defaults_of_the_options()
    {
        using QwenLoraTransformer shortly = _bench.Context.TextGeneration.Trainers.QwenLora(_bench.BaseFolder).Fit(_bench.Rows);
        using QwenLoraTransformer fully = _bench.Context.TextGeneration.Trainers.QwenLora(new QwenLoraTrainer.Options { ModelPath = _bench.BaseFolder }).Fit(
            _bench.Rows);

        Assert.Equivalent(fully.Model with { Adapter = shortly.Adapter }, shortly.Model, strict: true);
        Assert.Equal(fully.Adapter.ToSafetensors(), shortly.Adapter.ToSafetensors());
        Assert.Equal(fully.Adapter.ToPeftConfigJson(), shortly.Adapter.ToPeftConfigJson());
    }

    [Fact]
    public void An_instruction_file_becomes_a_view()
    {
        File.WriteAllText(_bench.PathOf("rows.json"), """[{"instruction":"什么","input":"甲","output":"一"},{"instruction":"why","output":"2"}]""");
        IDataView rows = _bench.Context.Data.LoadFromInstructionFile(_bench.PathOf("rows.json"));
        using QwenLoraTransformer model = _bench.Trainer().Fit(rows);

        Assert.Equal(["Instruction", "Input", "Output"], rows.Schema.Select(column => column.Name));
        Assert.Equal([("什么", "甲", "一"), ("why", null, "2")], TrainingRows.Read(rows, _bench.TrainerOptions().Columns, "training",
            default).Select(row => (row.Instruction!.Instruction, row.Instruction.Input, row.Instruction.Output)));
    }

    private static IEnumerable<string> Answers(QwenLoraTransformer model, IDataView rows, string column = "Answer")
    {
        IDataView answers = model.Transform(rows);
        return answers.GetColumn<string>(answers.Schema[column]);
    }
}
