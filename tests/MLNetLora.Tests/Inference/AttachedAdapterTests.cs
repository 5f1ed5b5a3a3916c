using System.Runtime.CompilerServices;
using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Tests.Runtime;

namespace MLNetLora.Tests.Inference;

/// <summary>Several adapters in one batch over one base.</summary>
[Collection(Alone.Name)]
public sealed class AttachedAdapterTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("qwen2", WeightPrecision.Checkpoint)]
    [InlineData("qwen3", WeightPrecision.Int8)]
    [InlineData("qwen3_5_text", WeightPrecision.Checkpoint)]
    [InlineData("qwen", WeightPrecision.Checkpoint)]
    [InlineData("qwen3_moe", WeightPrecision.Checkpoint)]
    public async Task Each_row_is_answered_with_its_own_adapter_as_if_it_were_alone(string modelType, WeightPrecision precision)
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), modelType, positions: 512);
        string[] names = [.. checkpoint.Architecture.Linears(checkpoint.Config).Select(linear => linear.Name)];
        TargetModules linear = modelType == "qwen3_moe" ? ["q_proj", "o_proj"] : TargetModules.AllLinear; // experts' stacks are not attached
        LoraAdapter[] adapters =
            [Adapter(checkpoint, 1, 2, linear), Adapter(checkpoint, 2, 5, [names[0]]), Adapter(checkpoint, 3, 8, [names[1], names[^2]])];
        using CausalLanguageModel lm = new(
            checkpoint, threads: 1, precision: precision, engine: new EngineOptions { AdapterModules = TargetModules.AllLinear });
        CausalLanguageModel[] models = [lm, .. adapters.Select(lm.Attach)];
        GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 12, Temperature = 0 });
        Random random = new(5);
        int[][] prompts = [.. Enumerable.Range(0, 9).Select(i => TinyModel.Row(random, 2 + random.Next(i % 3 == 0 ? 300 : 20)).InputIds)];

        // One after another, each in an engine of its own.
        List<IReadOnlyList<int>> alone = [];
        foreach (LoraAdapter? adapter in (LoraAdapter?[])[null, .. adapters])
        {
            using CausalLanguageModel own = new(checkpoint, adapter, threads: 1, precision: precision);
            foreach (int[] prompt in prompts)
            {
                alone.Add((await own.Answer(prompt, options, null, 0, default)).Ids);
            }
        }

        Task<GeneratedIds>[] together = [.. models.SelectMany(model => prompts.Select(prompt => model.Answer(prompt, options, null, 0, default)))];
        GeneratedIds[] answers = await Task.WhenAll(together);
        Assert.Equal(alone, answers.Select(answer => answer.Ids));
        Assert.True(Enumerable.Range(0, models.Length).Select(i => string.Join(' ', alone[i * prompts.Length])).Distinct().Count() > 1);
        Array.ForEach(models, model => model.Dispose());
    }

    [Fact]
    public async Task Adapters_come_and_go_while_others_are_used()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), positions: 512);
        using CausalLanguageModel lm = new(checkpoint, threads: 1, engine: new EngineOptions { AdapterModules = TargetModules.AllLinear });
        GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 200, Temperature = 0 });
        using CausalLanguageModel stays = lm.Attach(Adapter(checkpoint, 1, 3, ["q_proj", "down_proj"]));
        IReadOnlyList<int> alone = (await stays.Answer([3, 4, 5], options, null, 0, default)).Ids;
        int seen = 0;
        List<IReadOnlyList<int>> others = [];
        List<Task<GeneratedIds>> pending = [];
        Task<GeneratedIds> answer = stays.Answer([3, 4, 5], options, _ =>
        {
            seen++;
            if (seen % 20 == 0)
            {
                // More of them than places, of larger ranks each time; it is disposed while it is asked.
                using CausalLanguageModel other = lm.Attach(Adapter(checkpoint, seen, 1 + (seen / 10), TargetModules.AllLinear));
                pending.Add(other.Answer([7, 8], lm.Prepare(new GenerationOptions { MaximumNewTokens = 30, Temperature = 0 }), null, 0, default));
            }

            return false;
        }, 0, default);
        Assert.Equal(alone, (await answer).Ids);
        for (int i = 0; i < pending.Count; i++)
        {
            int seed = 20 * (i + 1);
            using CausalLanguageModel own = new(checkpoint, Adapter(checkpoint, seed, 1 + (seed / 10), TargetModules.AllLinear), threads: 1);
            GenerationOptions shorter = own.Prepare(new GenerationOptions { MaximumNewTokens = 30, Temperature = 0 });
            Assert.Equal((await own.Answer([7, 8], shorter, null, 0, default)).Ids, (await pending[i]).Ids);
        }

        Assert.Equal(10, pending.Count);
    }

    [Fact]
    public async Task A_run_does_not_wait_for_an_adapter_that_comes()
    {
        LoraAdapter adapter = Adapter(TinyModel.WriteCheckpoint(_folder.File("model"), positions: 64), 1, 2, ["q_proj"]);
        using AdapterStack stack = new([.. adapter.Factors.Select(layer => layer.Module.Module)], null);
        using ManualResetEventSlim comes = new();
        using ManualResetEventSlim goesOn = new();
        Thread adding = new(() =>
        {
            NativeCalls.Before = _ =>
            {
                comes.Set();
                goesOn.Wait();
            };
            stack.Add(adapter);
        });
        adding.Start();
        comes.Wait();
        List<NativeTensor> owned = [];
        try
        {
            await Task.Run(() => stack.AddTo([0, 0], 1, 1, [], owned)).WaitAsync(TimeSpan.FromMinutes(1));
        }
        finally
        {
            goesOn.Set();
            adding.Join();
            owned.ForEach(value => value.Dispose());
        }
    }

    [Fact]
    public async Task Nobody_waits_while_an_adapter_that_has_gone_is_given_back()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), positions: 512);
        using CausalLanguageModel lm = new(checkpoint, threads: 1, engine: new EngineOptions { AdapterModules = TargetModules.AllLinear });
        CausalLanguageModel goes = lm.Attach(Adapter(checkpoint, 1, 3, ["q_proj"]));
        GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 100, IgnoreEndOfText = true });
        GenerationOptions shorter = lm.Prepare(new GenerationOptions { MaximumNewTokens = 5, IgnoreEndOfText = true });
        using ManualResetEventSlim comes = new();
        using ManualResetEventSlim goesOn = new();
        CausalLanguageModel? other = null;
        Thread adding = new(() =>
        {
            NativeCalls.Before = _ =>
            {
                comes.Set();
                goesOn.Wait();
            };
            other = lm.Attach(Adapter(checkpoint, 2, 5, ["q_proj"])); // one comes or goes at a time
        });
        Task<GeneratedIds>? last = null;
        Task<GeneratedIds> stays = lm.Answer([3, 4, 5], options, _ =>
        {
            if (last is null)
            {
                last = goes.Answer([6, 7], shorter, null, 0, default);
                goes.Dispose();
                adding.Start();
                comes.Wait();
            }

            return false;
        }, 0, default);
        try
        {
            Assert.Equal(100, (await stays.WaitAsync(TimeSpan.FromMinutes(1))).Ids.Count);
            Assert.False(last!.IsCompleted);
        }
        finally
        {
            goesOn.Set();
            adding.Join();
            other?.Dispose();
        }

        Assert.Equal(5, (await last).Ids.Count);
    }

    [Fact]
    public async Task All_memory_is_given_back_in_any_order()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), positions: 64);
        NativeCounts before = NativeCounts.Now;
        for (int order = 0; order < 2; order++)
        {
            CausalLanguageModel lm = new(checkpoint, threads: 1, engine: new EngineOptions { AdapterModules = TargetModules.AllLinear });
            CausalLanguageModel attached = lm.Attach(Adapter(checkpoint, 1, 4, ["q_proj"]));
            GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 5, Temperature = 0 });
            (order == 0 ? lm : attached).Dispose();
            CausalLanguageModel left = order == 0 ? attached : lm;
            Assert.Equal(5, (await left.Answer([3, 4], options, null, 0, default)).Ids.Count);
            Assert.Throws<ObjectDisposedException>(() => (order == 0 ? lm : attached).Prepare(options));
            left.Dispose();
        }

        Assert.Equal(before, NativeCounts.Now);
    }

    [Fact]
    public void A_large_adapter_costs_nothing_when_it_has_gone()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), positions: 64);
        LinearModule[] modules = [.. checkpoint.Architecture.Linears(checkpoint.Config)];
        NativeCounts none = NativeCounts.Now;
        using (AdapterStack stack = new(modules, null))
        {
            int small = stack.Add(Adapter(checkpoint, 1, 2, ["q_proj"]));
            float[][] alone = Factors(small);
            int large = stack.Add(Adapter(checkpoint, 2, 9, ["q_proj", "v_proj"]));
            int middle = stack.Add(Adapter(checkpoint, 3, 4, ["v_proj"]));
            Assert.NotEqual(alone.Select(values => values.Length), Factors(small).Select(values => values.Length));
            stack.Remove(large);
            stack.Remove(middle);
            Assert.Equal(alone, Factors(small));
            middle = stack.Add(Adapter(checkpoint, 3, 4, ["q_proj"]));
            float[][] both = Factors(middle);
            stack.Remove(small);
            Assert.Equal(both, Factors(middle));

            float[][] Factors(int place)
            {
                (Dictionary<string, NativeTensor> inputs, List<NativeTensor> owned) = ([], []);
                stack.AddTo([place], 1, 1, inputs, owned);
                float[][] values = [.. modules.SelectMany(module => (string[])[AdapterGroups.NameA(module), AdapterGroups.NameB(module)])
                    .Select(name => inputs[name].Span<float>().ToArray())];
                owned.ForEach(value => value.Dispose());
                return values;
            }
        }

        Assert.Equal(none, NativeCounts.Now);
    }

    [Fact]
    public void Adapters_that_are_dropped_with_their_base_leave_nothing()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), positions: 64);
        NativeCounts before = NativeCounts.Settled();
        Drop(checkpoint);
        Assert.Equal(before, NativeCounts.Settled());

        [MethodImpl(MethodImplOptions.NoInlining)]
        static void Drop(Checkpoint checkpoint)
        {
            CausalLanguageModel lm = new(checkpoint, threads: 1, engine: new EngineOptions { AdapterModules = ["q_proj"] });
            foreach (int rank in (int[])[8, 8, 2]) // the layer's block is as old as the first, and goes before the second
            {
                _ = lm.Attach(Adapter(checkpoint, rank, rank, ["q_proj"]));
            }
        }
    }

    [Fact]
    public void What_cannot_stand_beside_others_is_refused_in_words()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), positions: 64);
        using CausalLanguageModel closed = new(checkpoint, threads: 1);
        Assert.Contains("AdapterModules", Assert.Throws<AdapterException>(() => closed.Attach(Adapter(checkpoint, 1, 2, ["q_proj"]))).Message);
        using CausalLanguageModel lm = new(checkpoint, threads: 1, engine: new EngineOptions { AdapterModules = ["q_proj"] });
        lm.Attach(Adapter(checkpoint, 1, 2, ["q_proj"])).Dispose();
        Assert.Contains("v_proj", Assert.Throws<AdapterException>(() => lm.Attach(Adapter(checkpoint, 1, 2, ["q_proj", "v_proj"]))).Message);
        Assert.Contains("DoRA", Refused(new LoraOptions { Rank = 2, TargetModules = ["q_proj"], UseDora = true }));
        Assert.Contains("norm", Refused(new LoraOptions { Rank = 2, TargetModules = ["q_proj"], ModulesToSave = ["input_layernorm"] }));
        Assert.Contains("trainable_token_indices", Refused(new LoraOptions { Rank = 2, TargetModules = ["q_proj"], TrainableTokenIndices = [3] }));
        LoraAdapter bad = Adapter(checkpoint, 1, 2, ["q_proj"]);
        bad.Factors[0].B[1] = float.NaN;
        Assert.Throws<AdapterException>(() => lm.Attach(bad));
        Assert.Throws<OptionException>(() => new CausalLanguageModel(
            checkpoint, Adapter(checkpoint, 1, 2, ["q_proj"]), engine: new EngineOptions { AdapterModules = ["q_proj"] }));
        Assert.Throws<OptionException>(() => new CausalLanguageModel(checkpoint, engine: new EngineOptions { MaximumRows = 0 }));
        Assert.Throws<OptionException>(() => EngineOptions.ModulesOf([]));
        Assert.Throws<AdapterException>(() => new CausalLanguageModel(checkpoint, engine: new EngineOptions { AdapterModules = ["nothing_like_it"] }));

        string Refused(LoraOptions options) =>
            Assert.Throws<AdapterException>(() => lm.Attach(LoraAdapter.Create(options, checkpoint, 1))).Message;
    }

    private static LoraAdapter Adapter(Checkpoint checkpoint, int seed, int rank, TargetModules targets)
    {
        LoraAdapter adapter = LoraAdapter.Create(new LoraOptions { Rank = rank, Alpha = 3, Dropout = 0, TargetModules = targets }, checkpoint, seed);
        Random random = new(seed);
        foreach ((_, float[] values) in adapter.Tensors)
        {
            for (int i = 0; i < values.Length; i++)
            {
                values[i] += (random.NextSingle() - 0.5f) * 2; // B begins as zero
            }
        }

        return adapter;
    }
}
