using System.Text.Json.Nodes;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>DoRA, trained tokens and initializations: what no golden case shows.</summary>
public sealed class LoraVariantsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<LoraInitialization> Initializations => [.. Enum.GetValues<LoraInitialization>()];

    [Theory]
    [MemberData(nameof(Initializations))]
    public void A_fresh_adapter_changes_nothing_but_a_random_one(LoraInitialization how)
    {
        foreach (bool dora in (bool[])[false, true])
        {
            Checkpoint checkpoint = Base();
            LoraAdapter fresh = LoraAdapter.Create(Options(how).With(o => o.UseDora = dora), checkpoint, 1);
            float[] without = Logits(checkpoint, null);
            float[] with = Logits(checkpoint, fresh);
            double change = GoldenFile.RelativeError(with, without);
            Assert.True(how == LoraInitialization.Random ? change > 1e-3 : change < 1e-5, $"{how}, DoRA {dora}: {change}");
        }
    }

    [Theory]
    [MemberData(nameof(Initializations))]
    public void What_was_trained_is_what_answers_and_what_is_merged(LoraInitialization how)
    {
        foreach (WeightPrecision precision in (WeightPrecision[])[WeightPrecision.Checkpoint, WeightPrecision.Int8, WeightPrecision.Nf4])
        {
            foreach (bool dora in (bool[])[false, true])
            {
                Checkpoint checkpoint = Base();
                TrainingOptions options = Training(precision);
                LoraOptions lora = Options(how).With(o =>
                {
                    o.UseDora = dora;
                    o.Dropout = 0;
                });
                TrainingRow[] rows = Rows();
                (LoraAdapter trained, TrainingSummary summary) = LoraTraining.Train(checkpoint, lora, rows, options, validation: rows[..1]);
                string name = $"{how}, DoRA {dora}, {precision}";
                Assert.True(summary.Steps[^1].Loss < 0.9 * summary.Steps[0].Loss, $"{name}: {summary.Steps[0].Loss} to {summary.Steps[^1].Loss}");

                // The validation loss at the end is that of the adapter that came out, attached to the base as it is.
                Checkpoint seen = precision == WeightPrecision.Nf4 ? FourBitCache.Open(checkpoint, precision) : checkpoint;
                Batch batch = Batch.Of(rows[..1], 1);
                double loss = LogitsRun.Run(seen, trained, batch).Loss / batch.LabelIds.Length;
                Assert.Equal(summary.Steps[^1].ValidationLoss!.Value, loss, 1e-5 * loss);
                trained.SaveAsPeft(_folder.File($"adapter {name}"));
                LoraAdapter read = LoraAdapter.LoadPeft(_folder.File($"adapter {name}"), checkpoint);
                Assert.Equal(Logits(checkpoint, trained), Logits(checkpoint, read));
                Merge.Save(checkpoint, read, _folder.File($"merged {name}"));
                Assert.InRange(
                    GoldenFile.RelativeError(Logits(Checkpoint.Open(_folder.File($"merged {name}")), null), Logits(checkpoint, trained)), 0, 1e-5);
            }
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void PiSSA_takes_the_largest_singular_values(bool rsLora)
    {
        Checkpoint checkpoint = Base();
        LoraOptions options = Options(LoraInitialization.Pissa).With(o => o.UseRsLora = rsLora);
        foreach (LoraFactors f in LoraAdapter.Create(options, checkpoint, 1, CancellationToken.None).Factors)
        {
            (int inputs, int outputs, int rank) = (f.Module.Module.In, f.Module.Module.Out, f.Module.Rank);
            float[] w = checkpoint.Tensors[f.Module.Module.Name + ".weight"].ReadFloat32();
            double[] gram = new double[inputs * inputs]; // Wᵀ W
            for (int i = 0; i < inputs; i++)
            {
                for (int j = 0; j < inputs; j++)
                {
                    gram[(i * inputs) + j] = Enumerable.Range(0, outputs).Sum(o => (double)w[(o * inputs) + i] * w[(o * inputs) + j]);
                }
            }

            double[] squares = SymmetricEigen.Of(gram, inputs).Values;
            double[] residual = [.. w.Select(value => (double)value)];
            for (int o = 0; o < outputs; o++)
            {
                for (int i = 0; i < inputs; i++)
                {
                    residual[(o * inputs) + i] -= f.Module.Scaling * Enumerable.Range(0, rank).Sum(r => (double)f.B[(o * rank) + r] * f.A[(r * inputs) + i]);
                }
            }

            // What is left are the other singular values (Eckart and Young): no approximation of this rank is better.
            double best = squares.Skip(rank).Sum();
            Assert.Equal(best, residual.Sum(value => value * value), (1e-4 * best) + 1e-6);

            // Each takes half of a singular value: s·|A_r|·|B_r| is the value, and |A_r| = |B_r|.
            for (int r = 0; r < rank; r++)
            {
                double a = Math.Sqrt(Enumerable.Range(0, inputs).Sum(i => Math.Pow(f.A[(r * inputs) + i], 2)));
                double b = Math.Sqrt(Enumerable.Range(0, outputs).Sum(o => Math.Pow(f.B[(o * rank) + r], 2)));
                Assert.Equal(Math.Sqrt(squares[r]), f.Module.Scaling * a * b, 1e-4);
                Assert.Equal(a, b, 1e-4);
            }
        }
    }

    [Fact]
    public void PiSSA_comes_out_as_an_ordinary_adapter_of_twice_the_rank()
    {
        Checkpoint checkpoint = Base();
        LoraOptions lora = Options(LoraInitialization.Pissa).With(o => o.RankPattern = new Dictionary<string, int> { ["v_proj"] = 2 });
        LoraAdapter trained = LoraTraining.Train(checkpoint, lora, Rows(), Training()).Adapter;
        Assert.Equal(8, trained.Options.Rank);
        Assert.Equal(LoraInitialization.Default, trained.Options.Initialization);
        Assert.Equal([8, 4, 8], trained.Factors.Take(3).Select(f => f.Module.Rank));
        Assert.All(trained.Factors, f => Assert.Null(f.Initial));
        IReadOnlyList<LoraModule> before = LoraTargets.Resolve(lora, checkpoint.Architecture, checkpoint.Config);
        Assert.All(LoraTargets.Resolve(trained.Options, checkpoint.Architecture, checkpoint.Config).Zip(before),
            pair => Assert.Equal(pair.Second.Scaling, pair.First.Scaling, 1e-12));
    }

    [Fact]
    public void A_fresh_PiSSA_adapter_that_is_saved_or_merged_changes_nothing()
    {
        Checkpoint checkpoint = Base();
        LoraAdapter fresh = LoraAdapter.Create(Options(LoraInitialization.Pissa), checkpoint, 1);
        fresh.SaveAsPeft(_folder.File("adapter"));
        float[] without = Logits(checkpoint, null);
        Assert.InRange(GoldenFile.RelativeError(Logits(checkpoint, LoraAdapter.LoadPeft(_folder.File("adapter"), checkpoint)), without), 0, 1e-5);
        Merge.Save(checkpoint, fresh, _folder.File("merged"));
        Assert.InRange(GoldenFile.RelativeError(Logits(Checkpoint.Open(_folder.File("merged")), null), without), 0, 1e-5);
    }

    [Fact]
    public void Initializations_that_a_rank_does_not_suit_are_refused()
    {
        Checkpoint checkpoint = Base();
        string orthogonal = Assert.Throws<OptionException>(
            () => LoraAdapter.Create(Options(LoraInitialization.Orthogonal).With(o => o.Rank = 3), checkpoint, 1)).Message;
        Assert.Contains("it must be even", orthogonal, StringComparison.Ordinal);
        string pissa = Assert.Throws<OptionException>(
            () => LoraAdapter.Create(Options(LoraInitialization.Pissa).With(o => o.Rank = 17), checkpoint, 1)).Message;
        Assert.Contains("only 16 singular values", pissa, StringComparison.Ordinal);
    }

    [Fact]
    public void Random_numbers_have_the_size_that_PEFT_gives_them()
    {
        Checkpoint checkpoint = Base();
        float[] gaussian = A(LoraInitialization.Gaussian, 16);
        Assert.InRange(Deviation(gaussian), 0.9 / 16, 1.1 / 16);
        Assert.InRange(Deviation(A(LoraInitialization.Orthogonal, 16)), 0.085 * Math.Sqrt(0.5), 0.115 * Math.Sqrt(0.5));
        LoraFactors random = LoraAdapter.Create(Options(LoraInitialization.Random).With(o => o.Rank = 16), checkpoint, 1).Factors[0];
        Assert.InRange(random.B.Max(), 0.95 / 4, 1.0 / 4);
        Assert.InRange(random.A.Max(), 0.95 / 4, 1.0 / 4);
        LoraAdapter other = LoraAdapter.Create(Options(LoraInitialization.Gaussian).With(o => o.Rank = 16), checkpoint, 2);
        Assert.NotEqual(gaussian, [.. other.Factors.SelectMany(f => f.A)]);

        float[] A(LoraInitialization how, int rank) =>
            [.. LoraAdapter.Create(Options(how).With(o => o.Rank = rank), checkpoint, 1).Factors.SelectMany(f => f.A)];

        static double Deviation(float[] values) => Math.Sqrt(values.Average(value => (double)value * value));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Trained_tokens_are_learned_answered_with_and_merged(bool tied)
    {
        Checkpoint checkpoint = Base(tied);
        LoraOptions lora = Options(LoraInitialization.Default).With(o => o.TrainableTokenIndices = [7, 2, 23]);
        TrainingRow[] rows = [.. Rows(), new TrainingRow([7, 2, 3, 23, 7], [-100, 2, 3, 23, 7])];
        LoraAdapter trained = LoraTraining.Train(checkpoint, lora, rows, Training()).Adapter;
        float[] embedding = checkpoint.Tensors["model.embed_tokens.weight"].ReadFloat32();
        float[] tokens = trained.Tokens!.Values;
        for (int i = 0; i < 3; i++)
        {
            Assert.NotEqual(embedding.AsSpan(lora.TrainableTokenIndices[i] * 16, 16).ToArray(), tokens.AsSpan(i * 16, 16).ToArray());
        }

        trained.SaveAsPeft(_folder.File("adapter"));
        LoraAdapter read = LoraAdapter.LoadPeft(_folder.File("adapter"), checkpoint);
        Merge.Save(checkpoint, read, _folder.File("merged"));
        Checkpoint merged = Checkpoint.Open(_folder.File("merged"));
        float[] rowsOfMerged = merged.Tensors["model.embed_tokens.weight"].ReadFloat32();
        for (int id = 0; id < TinyModel.Vocabulary; id++)
        {
            int place = lora.TrainableTokenIndices.ToList().IndexOf(id);
            float[] expected = place < 0 ? embedding.AsSpan(id * 16, 16).ToArray() : tokens.AsSpan(place * 16, 16).ToArray();
            Assert.Equal(expected, rowsOfMerged.AsSpan(id * 16, 16).ToArray());
        }

        foreach (WeightPrecision precision in (WeightPrecision[])[WeightPrecision.Checkpoint, WeightPrecision.Int8])
        {
            using CausalLanguageModel attached = new(checkpoint, read, threads: 1, precision);
            using CausalLanguageModel whole = new(merged, threads: 1, precision: precision);
            double error = GoldenFile.RelativeError(attached.Logits([7, 3, 23, 2]), whole.Logits([7, 3, 23, 2]));
            Assert.InRange(error, 0, precision == WeightPrecision.Int8 ? 2e-2 : 1e-5);
        }
    }

    [Fact]
    public void Token_indices_are_read_as_PEFT_writes_them()
    {
        Checkpoint checkpoint = Base();
        LoraAdapter.Create(Options(LoraInitialization.Default).With(o => o.TrainableTokenIndices = [5, 1]), checkpoint, 1).SaveAsPeft(_folder.File("adapter"));
        string file = _folder.File("adapter/adapter_config.json");
        JsonObject config = JsonNode.Parse(File.ReadAllText(file))!.AsObject();
        Assert.Equal("[5,1]", config["trainable_token_indices"]!.ToJsonString());
        Read("""{"embed_tokens":[5,1]}""");
        Assert.Equal([5, 1], LoraAdapter.LoadPeft(_folder.File("adapter"), checkpoint).Options.TrainableTokenIndices);
        Read("""{"embed_tokens":[5,1],"lm_head":[5]}""");
        Refused("names embed_tokens, lm_head");
        Read("""[5,5]""");
        Refused("the token 5 twice");
        Read("""[5,24]""");
        Refused("names the token 24; this model has the tokens 0 to 23");
        Read("""[5,1,3]""");
        Refused("has the shape [2, 16]");
        Read("""["5"]""");
        Refused("value of the wrong type");

        void Read(string value)
        {
            config["trainable_token_indices"] = JsonNode.Parse(value);
            File.WriteAllText(file, config.ToJsonString());
        }

        void Refused(string why) => Assert.Contains(
            why, Assert.Throws<AdapterException>(() => LoraAdapter.LoadPeft(_folder.File("adapter"), checkpoint)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_whole_embedding_and_some_of_its_rows_are_one_too_many()
    {
        LoraOptions options = Options(LoraInitialization.Default).With(o =>
        {
            o.ModulesToSave = ["embed_tokens"];
            o.TrainableTokenIndices = [1];
        });
        Assert.Contains("name one of the two", Assert.Throws<AdapterException>(() => LoraAdapter.Create(options, Base(tied: false), 1)).Message,
            StringComparison.Ordinal);
    }

    private static LoraOptions Options(LoraInitialization how) => new()
    {
        Rank = 4,
        Alpha = 6,
        Dropout = 0.1,
        Initialization = how,
        TargetModules = ["q_proj", "v_proj", "down_proj"],
    };

    private static TrainingOptions Training(WeightPrecision precision = WeightPrecision.Checkpoint) => new()
    {
        LearningRate = 2e-2,
        MaximumSteps = 12,
        GradientAccumulationSteps = 1,
        BatchSize = 2,
        Threads = 1,
        Seed = 3,
        Precision = precision,
    };

    private static TrainingRow[] Rows() => [.. Enumerable.Range(0, 4).Select(r => new TrainingRow(
        [.. Enumerable.Range(0, 8).Select(i => ((r * 5) + (i * 3)) % 22)], [.. Enumerable.Range(0, 8).Select(i => i < 3 ? -100 : ((r * 5) + (i * 3)) % 22)]))];

    private static float[] Logits(Checkpoint checkpoint, LoraAdapter? adapter)
    {
        using CausalLanguageModel model = new(checkpoint, adapter, threads: 1);
        return model.Logits([3, 1, 4, 1, 5]);
    }

    private Checkpoint Base(bool tied = true) => TinyModel.WriteCheckpoint(_folder.File("base"), "qwen2", tied);
}
