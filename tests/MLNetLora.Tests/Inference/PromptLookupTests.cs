using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Models;

namespace MLNetLora.Tests.Inference;

/// <summary>Tokens that are guessed from what was there before.</summary>
public sealed class PromptLookupTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void What_stood_behind_the_last_tokens_is_guessed()
    {
        PromptLookup lookup = new([1, 2, 3, 4, 5, 6, 7, 8, 9, 2, 3], 6);
        Assert.Equal([4, 5, 6, 7], lookup.Guess(100));
        Assert.Equal([4, 5], lookup.Guess(2));
        Assert.Empty(lookup.Guess(0));
        lookup.Add(4);
        Assert.Equal([5, 6, 7, 8], lookup.Guess(100)); // of three tokens
        lookup.Learn(4, 4);
        Assert.Equal([5, 6, 7, 8, 9, 2], lookup.Guess(100));
        lookup.Learn(6, 0);
        Assert.Equal([5, 6, 7, 8, 9], lookup.Guess(100));
        lookup.Add(11);
        Assert.Empty(lookup.Guess(100));
        Assert.Equal([3], new PromptLookup([3, 3, 3, 3], 4).Guess(5)); // behind itself
        Assert.Empty(new PromptLookup([3], 4).Guess(5));
    }

    [Theory]
    [InlineData("qwen2", 0f)]
    [InlineData("qwen3", 0.8f)]
    [InlineData("qwen", 0f)]
    [InlineData("qwen3_5_text", 0f)]
    public async Task Answers_are_the_same_with_and_without_guesses(string modelType, float temperature)
    {
        using CausalLanguageModel lm = new(TinyModel.WriteCheckpoint(_folder.File("model"), modelType, positions: 512), threads: 1);
        Random random = new(5);
        int guessed = 0;
        for (int i = 0; i < 12; i++)
        {
            int[] prompt = TinyModel.Row(random, 3 + (5 * i)).InputIds;
            prompt = [.. prompt, .. prompt, .. prompt];
            GeneratedIds plain = await lm.Answer(prompt, Options(0, i), null, 0, default);
            GeneratedIds faster = await lm.Answer(prompt, Options(8, i), null, 0, default);
            Assert.Equal(plain.Ids, faster.Ids);
            Assert.Equal(plain.Reason, faster.Reason);
            Assert.Equal(0, plain.GuessedTokens);
            guessed += faster.GuessedTokens;
        }

        Assert.Equal(modelType != "qwen3_5_text", guessed > 0); // whose state cannot go back

        GenerationOptions Options(int tokens, int seed) => lm.Prepare(
            new GenerationOptions { MaximumNewTokens = 60, Temperature = temperature, TopK = 2, Seed = seed, PromptLookupTokens = tokens });
    }

    [Fact]
    public async Task Who_joins_in_between_is_answered_as_ever_and_adapters_too()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), positions: 512);
        using CausalLanguageModel lm = new(checkpoint, threads: 1, engine: new EngineOptions { AdapterModules = ["q_proj", "down_proj"] });
        using CausalLanguageModel attached = lm.Attach(LoraAdapter.Create(new LoraOptions { Rank = 2, TargetModules = ["q_proj"] }, checkpoint, 1));
        int[] prompt = [.. Enumerable.Repeat<int[]>([5, 6, 7, 8], 10).SelectMany(ids => ids)];
        GenerationOptions plain = lm.Prepare(new GenerationOptions { MaximumNewTokens = 60, Temperature = 0 });
        GenerationOptions guessing = lm.Prepare(new GenerationOptions { MaximumNewTokens = 60, Temperature = 0, PromptLookupTokens = 8 });
        GeneratedIds alone = await attached.Answer(prompt, plain, null, 0, default);
        GeneratedIds other = await lm.Answer([3, 4], plain, null, 0, default);
        Task<GeneratedIds>? joined = null;
        int tokens = 0;
        GeneratedIds answer = await attached.Answer(prompt, guessing, _ =>
        {
            joined ??= ++tokens == 20 ? lm.Answer([3, 4], plain, null, 0, default) : null;
            return false;
        }, 0, default);
        Assert.Equal(alone.Ids, answer.Ids);
        Assert.Equal(other.Ids, (await joined!).Ids);
        Assert.True(answer.GuessedTokens > 0);
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(65)]
    public void The_option_is_checked(int tokens) =>
        Assert.Contains("PromptLookupTokens", Assert.Throws<OptionException>(() => new GenerationOptions { PromptLookupTokens = tokens }.Validate()).Message);
}
