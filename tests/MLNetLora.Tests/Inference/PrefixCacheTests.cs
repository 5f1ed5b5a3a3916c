using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Tests.Runtime;

namespace MLNetLora.Tests.Inference;

/// <summary>Beginnings of prompts that are computed once.</summary>
[Collection(Alone.Name)]
public sealed class PrefixCacheTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly Random _random = new(3);

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("qwen2")]
    [InlineData("qwen3")]
    [InlineData("qwen")]
    [InlineData("qwen3_5_text")]
    public async Task Answers_are_the_same_with_and_without_it(string modelType)
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), modelType, positions: 1024);
        using CausalLanguageModel with = new(checkpoint, threads: 1);
        using CausalLanguageModel without = new(checkpoint, threads: 1, engine: new EngineOptions { PrefixCacheBytes = 0 });
        GenerationOptions options = with.Prepare(new GenerationOptions { MaximumNewTokens = 20, Temperature = 0 });
        int[] common = Ids(200);
        int[][] prompts = [.. Enumerable.Range(0, 16).Select(i => (int[])[.. common.Take(i % 4 * 60), .. Ids(3 + (i * 7))])];
        GeneratedIds[] plain = await Task.WhenAll(prompts.Select(prompt => without.Answer(prompt, options, null, 0, default)));
        for (int round = 0; round < 2; round++)
        {
            GeneratedIds[] cached = await Task.WhenAll(prompts.Select(prompt => with.Answer(prompt, options, null, 0, default)));
            Assert.Equal(plain.Select(answer => answer.Ids), cached.Select(answer => answer.Ids));

            // Not where layers are recurrent, and not where a long prompt is rotated otherwise than a short one (dynamic NTK of Qwen1).
            Assert.Equal(modelType is "qwen2" or "qwen3", cached.Any(answer => answer.KnownPromptTokens > 0));
            Assert.All(cached.Zip(prompts), pair => Assert.InRange(pair.First.KnownPromptTokens, 0, pair.Second.Length - 1));
        }

        Assert.All(plain, answer => Assert.Equal(0, answer.KnownPromptTokens));
    }

    [Fact]
    public async Task Prompts_that_come_together_and_begin_alike_are_read_once()
    {
        using CausalLanguageModel lm = new(TinyModel.WriteCheckpoint(_folder.File("model"), positions: 1024), threads: 1);
        GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 20, Temperature = 0 });
        int[] common = Ids(200);
        Task<GeneratedIds>[] answers = [.. Enumerable.Range(0, 5).Select(i => lm.Answer([.. common, i + 3, .. Ids(64)], options, null, 0, default))];
        Assert.Equal([0, 200, 200, 200, 200], (await Task.WhenAll(answers)).Select(answer => answer.KnownPromptTokens));
    }

    [Fact]
    public async Task A_conversation_goes_on_behind_its_last_answer()
    {
        using CausalLanguageModel lm = new(TinyModel.WriteCheckpoint(_folder.File("model"), positions: 1024), threads: 1);
        GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 100, Temperature = 0 });
        int[] turn = Ids(40);
        GeneratedIds first = await lm.Answer(turn, options, null, 0, default);
        GeneratedIds second = await lm.Answer([.. turn, .. first.Ids, .. Ids(30)], options, null, 0, default);
        Assert.Equal(first.Ids.Count > 90 ? 128 : 0, second.KnownPromptTokens); // 40 and 99 that were read
    }

    [Fact]
    public async Task What_was_not_used_for_long_goes_first_and_the_limit_holds()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), positions: 1024);
        long block = StateCache.BytesOfRow(checkpoint.Architecture.States(checkpoint.Config), MLNetLora.Onnx.ElementType.Float32, 64);
        using CausalLanguageModel lm = new(checkpoint, threads: 1, engine: new EngineOptions { PrefixCacheBytes = (4 * block) + 1 });
        GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 2, Temperature = 0 });
        (int[] a, int[] b, int[] c) = (Ids(161), Ids(161), Ids(161));
        Assert.Equal(0, await Known(a));
        Assert.Equal(0, await Known(b));
        Assert.Equal(128, await Known(a));
        NativeCounts full = NativeCounts.Now;
        Assert.Equal(0, await Known(c)); // for which b goes
        Assert.Equal(128, await Known(a));
        Assert.Equal(128, await Known(c));
        Assert.Equal(0, await Known(b)); // for which a goes
        Assert.Equal(0, await Known(a));
        Assert.Equal(full, NativeCounts.Now);
        Assert.Equal(0, await Known(Ids(900))); // the beginning of what does not fit is kept
        Assert.Equal(full, NativeCounts.Now);

        async Task<int> Known(int[] prompt) => (await lm.Answer(prompt, options, null, 0, default)).KnownPromptTokens;
    }

    [Fact]
    public async Task Each_adapter_has_its_own_and_takes_it_away()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), positions: 1024);
        LoraAdapter adapter = LoraAdapter.Create(new LoraOptions { Rank = 2, TargetModules = ["q_proj"] }, checkpoint, 1);
        using CausalLanguageModel lm = new(checkpoint, threads: 1, engine: new EngineOptions { AdapterModules = ["q_proj"] });
        GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 2, Temperature = 0 });
        int[] prompt = Ids(162);
        lm.Attach(adapter).Dispose();
        NativeCounts before = NativeCounts.Now;
        for (int i = 0; i < 2; i++)
        {
            using CausalLanguageModel attached = lm.Attach(adapter);
            Assert.Equal(0, await Known(attached)); // the place is the same, the adapter is another
            Assert.Equal(128, await Known(attached));
        }

        Assert.Equal(before, NativeCounts.Now);
        Assert.Equal(0, await Known(lm));
        Assert.Equal(128, await Known(lm));

        async Task<int> Known(CausalLanguageModel model) => (await model.Answer(prompt, options, null, 0, default)).KnownPromptTokens;
    }

    [Fact]
    public async Task Only_requests_of_one_salt_find_each_other_s_prompts()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), positions: 1024);
        using CausalLanguageModel lm = new(checkpoint, threads: 1);
        int[] prompt = Ids(162);
        foreach (string? salt in (string?[])[null, "a", "b"])
        {
            Assert.Equal(0, await Known(salt));
            Assert.Equal(128, await Known(salt));
        }

        Assert.Equal(128, await Known("a"));
        Assert.Equal([0, 0, 128], (await Task.WhenAll(
            lm.Answer(Prompt(), Options("c"), null, 0, default),
            lm.Answer(Prompt(), Options("d"), null, 0, default), // which does not wait for the other
            lm.Answer(Prompt(), Options("c"), null, 0, default))).Select(answer => answer.KnownPromptTokens));

        int[] Prompt() => prompt;

        async Task<int> Known(string? salt) => (await lm.Answer(prompt, Options(salt), null, 0, default)).KnownPromptTokens;

        GenerationOptions Options(string? salt) => lm.Prepare(new GenerationOptions { MaximumNewTokens = 2, Temperature = 0, CacheSalt = salt });
    }

    [Fact]
    public async Task Nothing_is_left_of_salts_whose_prompts_have_gone()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), positions: 1024);
        long block = StateCache.BytesOfRow(checkpoint.Architecture.States(checkpoint.Config), MLNetLora.Onnx.ElementType.Float32, 64);
        using CausalLanguageModel lm = new(checkpoint, threads: 1, engine: new EngineOptions { PrefixCacheBytes = (4 * block) + 1 });
        for (int i = 0; i < 20; i++)
        {
            await lm.Answer(Ids(162), lm.Prepare(new GenerationOptions { MaximumNewTokens = 2, Temperature = 0, CacheSalt = $"{i}" }), null, 0, default);
        }

        Assert.Equal((2, 4 * block), (lm.Prefixes.Roots, lm.Prefixes.Bytes));
    }

    private int[] Ids(int count) => TinyModel.Row(_random, count).InputIds;
}
