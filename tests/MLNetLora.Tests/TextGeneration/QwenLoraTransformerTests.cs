using System.Collections.Concurrent;
using Microsoft.ML;
using Microsoft.ML.Data;
using Microsoft.ML.Transforms;
using MLNetLora.Inference;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

public sealed class QwenLoraTransformerTests : IDisposable
{
    private readonly Workbench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void Answers_come_in_order_and_in_batches()
    {
        List<int> read = [];
        IDataView rows = _bench.Context.Data.LoadFromEnumerable(Read());
        using QwenLoraTransformer model = _bench.Model(options => options.Generation.BatchSize = 2);
        IDataView view = model.Transform(rows);
        List<string> answers = [];
        List<int> readAhead = [];
        foreach (string answer in view.GetColumn<string>("Answer"))
        {
            answers.Add(answer);
            readAhead.Add(read.Count);
        }

        Assert.Equal(3, answers.Distinct().Count());
        Assert.Equal(_bench.Answers, answers);
        Assert.Equal([2, 2, 3], readAhead);

        IEnumerable<Row> Read()
        {
            foreach (Row row in (Row[])[new("what", "a", "1"), new("why", "", "2"), new("who", "c", "3")])
            {
                read.Add(read.Count);
                yield return row;
            }
        }
    }

    [Fact]
    public void Nothing_is_generated_unless_the_answer_is_asked_for()
    {
        using QwenLoraTransformer model = _bench.Model();
        IDataView view = model.Transform(_bench.Rows);

        Assert.Equal(["Instruction", "Input", "Output", "Answer"], view.Schema.Select(column => column.Name));
        Assert.Equal(3, view.GetRowCount() ?? _bench.Rows.GetRowCount());
        Assert.Equal(["what", "why", "who"], view.GetColumn<string>("Instruction"));
        using (DataViewRowCursor cursor = view.GetRowCursor(view.Schema))
        {
            // Active, and on a row, but not read.
            Assert.True(cursor.MoveNext());
        }

        Assert.False(model.IsOpen);
        Assert.Equal(_bench.Answers, view.GetColumn<string>("Answer"));
        Assert.True(model.IsOpen);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(100)]
    public void Other_columns_pass_through_unharmed(int batchSize)
    {
        Wide[] rows = [.. Enumerable.Range(0, 5).Select(i => new Wide
        {
            Instruction = $"q{i}",
            Number = i * 1.5,
            Dense = [.. Enumerable.Range(0, i).Select(j => (float)(i * 10 + j))],
            Words = [$"w{i}", "x"],
            Kind = (uint)(i % 3 + 1),
            When = new DateTime(2020, 1, 1 + i),
        })];
        IDataView sparse = _bench.Context.Transforms.Conversion.MapKeyToVector("OneHot", "Kind").Fit(_bench.Context.Data.LoadFromEnumerable(rows))
            .Transform(_bench.Context.Data.LoadFromEnumerable(rows));
        using QwenLoraTransformer model = _bench.Model(options => options.Generation.BatchSize = batchSize);
        IDataView view = model.Transform(sparse);

        Wide[] before = [.. _bench.Context.Data.CreateEnumerable<Wide>(sparse, reuseRowObject: false)];
        Wide[] after = [.. _bench.Context.Data.CreateEnumerable<Wide>(view, reuseRowObject: false)];
        Assert.Equal(5, after.Length);
        Assert.Equivalent(before, after, strict: true);
        Assert.Equal(rows.Select(row => _bench.Answer(row.Instruction)), view.GetColumn<string>("Answer"));
        Assert.Equal(sparse.GetColumn<float[]>("OneHot"), view.GetColumn<float[]>("OneHot"));

        // A reader that keeps its buffers must not find them changed by later rows, nor change those of the cursor.
        List<VBuffer<float>> kept = [];
        using DataViewRowCursor cursor = view.GetRowCursor(view.Schema);
        ValueGetter<VBuffer<float>> dense = cursor.GetGetter<VBuffer<float>>(view.Schema["Dense"]);
        while (cursor.MoveNext())
        {
            VBuffer<float> value = default;
            dense(ref value);
            kept.Add(value);
        }

        Assert.Equal(rows.Select(row => row.Dense), kept.Select(value => value.DenseValues().ToArray()));
    }

    [Fact]
    public void Row_ids_and_positions_are_those_of_the_input()
    {
        using QwenLoraTransformer model = _bench.Model(options => options.Generation.BatchSize = 2);
        IDataView filtered = _bench.Context.Data.SkipRows(_bench.Rows, 1);
        IDataView view = model.Transform(filtered);

        Assert.Equal(Ids(filtered), Ids(view));
        using DataViewRowCursor cursor = view.GetRowCursor(view.Schema);
        Assert.Equal(-1, cursor.Position);
        Assert.Throws<InvalidOperationException>(() => Read(cursor));
        Assert.True(cursor.MoveNext());
        Assert.Equal((0, _bench.Answer("why")), (cursor.Position, Read(cursor)));
        Assert.True(cursor.MoveNext());
        Assert.Equal((1, _bench.Answer("who", "c")), (cursor.Position, Read(cursor)));
        Assert.False(cursor.MoveNext());
        Assert.Equal(-1, cursor.Position);

        static List<DataViewRowId> Ids(IDataView view)
        {
            List<DataViewRowId> ids = [];
            using DataViewRowCursor cursor = view.GetRowCursor(view.Schema);
            ValueGetter<DataViewRowId> getter = cursor.GetIdGetter();
            while (cursor.MoveNext())
            {
                DataViewRowId id = default;
                getter(ref id);
                ids.Add(id);
            }

            return ids;
        }

        string Read(DataViewRow row)
        {
            ReadOnlyMemory<char> value = default;
            row.GetGetter<ReadOnlyMemory<char>>(view.Schema["Answer"])(ref value);
            return value.ToString();
        }
    }

    [Fact]
    public void A_column_named_like_the_answer_is_hidden_but_still_passed_on()
    {
        IDataView rows = _bench.Context.Data.LoadFromEnumerable([new { Instruction = "what", Output = "1", Answer = "old" }]);
        using QwenLoraTransformer model = _bench.Model();
        IDataView view = model.Transform(rows);

        Assert.Equal([_bench.Answer("what")], view.GetColumn<string>("Answer"));
        Assert.Equal(["old"], view.GetColumn<string>(view.Schema[2]));
    }

    [Fact]
    public void A_wrong_column_name_or_type_is_told_by_the_getter()
    {
        using QwenLoraTransformer model = _bench.Model();
        IDataView view = model.Transform(_bench.Rows);
        using DataViewRowCursor cursor = view.GetRowCursor([view.Schema["Answer"]]);
        Assert.True(cursor.MoveNext());

        Assert.Contains("Column 'Answer' is of type String",
            Assert.Throws<InvalidOperationException>(() => cursor.GetGetter<float>(view.Schema["Answer"])).Message);
        Assert.Contains("Column 'Output' was not asked for",
            Assert.Throws<InvalidOperationException>(() => cursor.GetGetter<ReadOnlyMemory<char>>(view.Schema["Output"])).Message);
        IDataView other = _bench.Context.Data.LoadFromEnumerable([new { Text = "what" }]);
        Assert.Contains("The data has no column 'Instruction' (option InstructionColumnName). Its columns are: Text.",
            Assert.Throws<ArgumentOutOfRangeException>(() => model.Transform(other)).Message);
    }

    [Fact]
    public void A_prediction_engine_generates_one_row_once()
    {
        // Two getters of the answer for the same row, the engine's own and the copying transformer's: sampled without a seed, two answers would be two texts.
        QwenLoraTransformer model = _bench.Model(Sampled);
        TransformerChain<ITransformer> chain = new(model, _bench.Context.Transforms.CopyColumns("Again", "Answer").Fit(model.Transform(_bench.Rows)));
        using PredictionEngine<Question, Twice> engine = _bench.Context.Model.CreatePredictionEngine<Question, Twice>(chain);

        Twice first = engine.Predict(new Question { Instruction = "what", Input = "a" });
        Twice second = engine.Predict(new Question { Instruction = "why" });
        Assert.Equal((first.Answer, "what"), (first.Again, first.Instruction));
        Assert.Equal((second.Answer, "why"), (second.Again, second.Instruction));
        Assert.NotEqual(first.Answer, second.Answer);
        Assert.NotEqual(second.Answer, engine.Predict(new Question { Instruction = "why" }).Answer);
    }

    [Fact]
    public void It_works_in_the_middle_of_a_chain_and_through_a_cache()
    {
        EstimatorChain<ColumnCopyingTransformer> chain = new EstimatorChain<ITransformer>()
            .Append(_bench.Context.Transforms.CopyColumns("Kept", "Instruction"))
            .Append(_bench.Trainer(Sampled))
            .AppendCacheCheckpoint(_bench.Context)
            .Append(_bench.Context.Transforms.Text.NormalizeText("Small", "Answer"))
            .Append(_bench.Context.Transforms.CopyColumns("Copy", "Answer"));
        using TransformerChain<ColumnCopyingTransformer> model = chain.Fit(_bench.Rows);

        // What is sampled without a seed comes twice from a cache alone.
        IDataView view = model.Transform(_bench.Rows);
        IDataView cached = _bench.Context.Data.Cache(view);
        string[] copies = [.. cached.GetColumn<string>("Copy")];
        Assert.Equal(copies, cached.GetColumn<string>("Copy"));
        Assert.NotEqual(copies, view.GetColumn<string>("Copy"));

        using PredictionEngine<Question, Normalized> engine = _bench.Context.Model.CreatePredictionEngine<Question, Normalized>(model);
        Assert.NotEmpty(engine.Predict(new Question { Instruction = "who", Input = "c" }).Small);
    }

    [Fact]
    public void A_cursor_set_without_the_answer_reads_every_row_once()
    {
        using QwenLoraTransformer model = _bench.Model();
        IDataView view = model.Transform(_bench.Rows);
        foreach (string name in (string[])["Output", "Answer"])
        {
            DataViewSchema.Column column = view.Schema[name];
            List<string> values = [];
            foreach (DataViewRowCursor cursor in view.GetRowCursorSet([column], 2))
            {
                using (cursor)
                {
                    ValueGetter<ReadOnlyMemory<char>> getter = cursor.GetGetter<ReadOnlyMemory<char>>(column);
                    ReadOnlyMemory<char> value = default;
                    while (cursor.MoveNext())
                    {
                        getter(ref value);
                        values.Add(value.ToString());
                    }
                }
            }

            Assert.Equal((name == "Output" ? ["1", "2", "3"] : _bench.Answers).Order(), values.Order());
        }
    }

    [Fact]
    public void Engines_on_many_threads_share_one_transformer()
    {
        using QwenLoraTransformer model = _bench.Model();
        string[] expected = [.. Enumerable.Range(0, 4).Select(thread => _bench.Answer($"t{thread}", "i"))];
        ConcurrentBag<string> wrong = [];
        Thread[] threads = [.. Enumerable.Range(0, 4).Select(thread => new Thread(() =>
        {
            MLContext context = new();
            PredictionEngineOptions shared = new() { OwnsTransformer = false };
            using PredictionEngine<Question, Reply> engine = context.Model.CreatePredictionEngine<Question, Reply>(model, shared);
            for (int i = 0; i < 10; i++)
            {
                string answer = Catch(() => engine.Predict(new Question { Instruction = $"t{thread}", Input = "i" }).Answer);
                if (answer != expected[thread])
                {
                    wrong.Add(answer);
                }
            }
        }))];
        Array.ForEach(threads, thread => thread.Start());
        Array.ForEach(threads, thread => thread.Join());

        Assert.Empty(wrong);

        static string Catch(Func<string> ask)
        {
            try
            {
                return ask();
            }
            catch (Exception exception)
            {
                return exception.Message;
            }
        }
    }

    [Fact]
    public void After_disposal_everything_but_saving_says_so()
    {
        QwenLoraTransformer model = _bench.Model();
        IDataView view = model.Transform(_bench.Rows);
        Assert.Equal(_bench.Answer("what", "a"), model.Generate("what", "a"));
        model.Dispose();
        model.Dispose();

        Assert.False(model.IsOpen);
        Assert.Contains(nameof(QwenLoraTransformer), Assert.Throws<ObjectDisposedException>(() => model.Generate("what")).Message);
        Assert.Throws<ObjectDisposedException>(() => model.Transform(_bench.Rows));
        Assert.Throws<ObjectDisposedException>(() => view.GetColumn<string>("Answer").ToArray());
        Assert.Throws<ObjectDisposedException>(() => _bench.Context.Model.CreatePredictionEngine<Question, Reply>(model));
        Assert.Throws<ObjectDisposedException>(() => model.MergeAndSave(_bench.PathOf("merged")));
        Assert.True(new FileInfo(_bench.Save(model)).Length > 0);
        Assert.NotEmpty(model.Adapter.ToSafetensors());
    }

    [Fact]
    public void A_prediction_engine_and_a_chain_dispose_it()
    {
        QwenLoraTransformer model = _bench.Model();
        using (PredictionEngine<Question, Reply> engine =
            _bench.Context.Model.CreatePredictionEngine<Question, Reply>(new TransformerChain<ITransformer>(model)))
        {
            Assert.Equal(_bench.Answer("what"), engine.Predict(new Question { Instruction = "what" }).Answer);
        }

        Assert.Throws<ObjectDisposedException>(() => model.Generate("what"));
        Assert.False(model.IsOpen);
    }

    private static void Sampled(QwenLoraTrainer.Options options) => options.Generation = new GenerationOptions { MaximumNewTokens = 6, Temperature = 1.5f };

    public sealed class Wide
    {
        public string Instruction { get; set; } = "";

        public double Number { get; set; }

        public float[] Dense { get; set; } = [];

        public string[] Words { get; set; } = [];

        [KeyType(3)]
        public uint Kind { get; set; }

        public DateTime When { get; set; }
    }

    public sealed class Twice
    {
        public string Instruction { get; set; } = "";

        public string Answer { get; set; } = "";

        public string Again { get; set; } = "";
    }

    public sealed class Normalized
    {
        public string Small { get; set; } = "";
    }
}
