using System.Runtime.CompilerServices;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Runtime;
using MLNetLora.Tests.Runtime;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference;

/// <summary>Requests that come and go between the steps of the engine.</summary>
[Collection(Alone.Name)]
public sealed class GenerationEngineTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("qwen2", 0f)]
    [InlineData("qwen3", 0.9f)]
    [InlineData("qwen3_5_text", 0f)]
    [InlineData("qwen", 0.9f)]
    public async Task Who_joins_and_leaves_between_the_tokens_gets_what_each_gets_alone(string modelType, float temperature)
    {
        using CausalLanguageModel lm = new(TinyModel.WriteCheckpoint(_folder.File("model"), modelType, positions: 512), threads: 1);
        Random random = new(5);
        int[][] prompts = [.. Enumerable.Range(0, 12).Select(i => TinyModel.Row(random, 2 + random.Next(i % 3 == 0 ? 300 : 20)).InputIds)];
        GenerationOptions[] options =
            [.. prompts.Select((_, i) => lm.Prepare(new GenerationOptions { MaximumNewTokens = 3 + (7 * i % 40), Temperature = temperature, Seed = 3 + i }))];
        GeneratedIds[] alone = new GeneratedIds[prompts.Length];
        for (int i = 0; i < prompts.Length; i++)
        {
            alone[i] = await lm.Answer(prompts[i], options[i], null, 0, default);
        }

        // Each third token of anybody brings the next one.
        List<Task<GeneratedIds>> together = [];
        int tokens = 0;
        Begin();
        while (together.Count < prompts.Length || !together.All(answer => answer.IsCompleted))
        {
            await Task.Delay(5);
        }

        Assert.Equal(alone.Select(answer => answer.Ids), together.Select(answer => answer.Result.Ids));
        Assert.True(alone.Select(answer => answer.Ids.Count).Distinct().Count() > 3);

        void Begin()
        {
            int i = together.Count;
            together.Add(lm.Answer(prompts[i], options[i], OnToken, 0, default));
        }

        bool OnToken(int token)
        {
            tokens++;
            if ((tokens % 3 == 1 || together.Count < 3) && together.Count < prompts.Length)
            {
                Begin();
            }

            return false;
        }
    }

    [Fact]
    public async Task A_long_prompt_is_read_beside_the_answers_of_others()
    {
        using CausalLanguageModel lm = new(TinyModel.WriteCheckpoint(_folder.File("model"), positions: 4096), threads: 1);
        GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 40, Temperature = 1, Seed = 2 });
        int[] longer = TinyModel.Row(new Random(1), 2000).InputIds;
        int before = 0; // tokens of the short one until the long one has its first
        Task<GeneratedIds>? second = null;
        int first = 0;
        GeneratedIds answer = await lm.Answer([3, 4, 5], options, OnToken, 0, default);
        Assert.True(before > 5, $"{before}"); // of 8 parts
        Assert.Equal((await lm.Answer(longer, options, null, 0, default)).Ids, (await second!).Ids);
        Assert.Equal((await lm.Answer([3, 4, 5], options, null, 0, default)).Ids, answer.Ids);

        bool OnToken(int token)
        {
            first++;
            second ??= lm.Answer(longer, options, _ =>
            {
                before = before == 0 ? first : before;
                return false;
            }, 0, default);
            return false;
        }
    }

    [Fact]
    public async Task Requests_wait_for_their_share_of_the_memory()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), positions: 4096);
        long bytes = StateCache.BytesOfRow(checkpoint.Architecture.States(checkpoint.Config), MLNetLora.Onnx.ElementType.Float32, 30);
        using CausalLanguageModel lm = new(checkpoint, threads: 1, engine: new EngineOptions { MaximumCacheBytes = 2 * bytes });
        (int now, int most) = (0, 0);
        GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 20, Temperature = 1, Seed = 2 });
        int[] prompt = TinyModel.Row(new Random(1), 10).InputIds;
        Task<GeneratedIds>[] answers = [.. Enumerable.Range(0, 7).Select(_ =>
        {
            int tokens = 0;
            return lm.Answer(prompt, options, _ =>
            {
                now += ++tokens == 1 ? 1 : 0;
                most = Math.Max(most, now);
                now -= tokens == 20 ? 1 : 0;
                return false;
            }, 0, default);
        })];
        OptionException refused = await Assert.ThrowsAsync<OptionException>(
            () => lm.Answer([.. prompt, .. prompt, .. prompt, .. prompt, .. prompt], options, null, 0, default));
        Assert.Contains("MaximumCacheBytes", refused.Message);
        Assert.All(await Task.WhenAll(answers), answer => Assert.Equal(20, answer.Ids.Count));
        Assert.Equal(2, most);
        Assert.Throws<OptionException>(() => new CausalLanguageModel(checkpoint, engine: new EngineOptions { MaximumCacheBytes = 0 }));
        Assert.Throws<OptionException>(() => new CausalLanguageModel(checkpoint, engine: new EngineOptions { PrefixCacheBytes = -1 }));
    }

    [Fact]
    public async Task Whoever_goes_away_or_fails_leaves_the_others_alone()
    {
        using CausalLanguageModel lm = new(TinyModel.WriteCheckpoint(_folder.File("model"), positions: 4096), threads: 1);
        GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 60, Temperature = 1, Seed = 2 });
        IReadOnlyList<int> alone = (await lm.Answer([3, 4, 5], options, null, 0, default)).Ids;
        using CancellationTokenSource source = new();
        int seen = 0;
        Task<GeneratedIds> stays = lm.Answer([3, 4, 5], options, null, 0, default);
        Task<GeneratedIds> goes = lm.Answer([6, 7], options, _ =>
        {
            if (++seen == 2)
            {
                source.Cancel();
            }

            return false;
        }, 0, source.Token);
        Task<GeneratedIds> fails = lm.Answer([8], options, _ => throw new InvalidDataException("mine"), 0, default);
        Assert.Equal(source.Token, (await Assert.ThrowsAnyAsync<OperationCanceledException>(() => goes)).CancellationToken);
        Assert.Equal("mine", (await Assert.ThrowsAsync<InvalidDataException>(() => fails)).Message);
        Assert.Equal(alone, (await stays).Ids);
        Assert.Equal(2, seen); // it was gone at the next token
    }

    [Fact]
    public async Task More_requests_than_rows_wait_for_one()
    {
        using CausalLanguageModel lm = new(
            TinyModel.WriteCheckpoint(_folder.File("model"), positions: 512), threads: 1, engine: new EngineOptions { MaximumRows = 3 });
        GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 10, Temperature = 1, Seed = 2 });
        int open = 0;
        int most = 0;
        Task<GeneratedIds>[] answers = [.. Enumerable.Range(2, 10).Select(i =>
        {
            int tokens = 0;
            return lm.Answer([i, 5], options, _ =>
            {
                open += ++tokens == 1 ? 1 : 0;
                most = Math.Max(most, open);
                open -= tokens == 5 ? 1 : 0;
                return tokens == 5;
            }, 0, default);
        })];
        await Task.WhenAll(answers);
        Assert.Equal(3, most);
    }

    [Fact]
    public async Task Whoever_goes_away_while_he_waits_is_told_at_once()
    {
        using CausalLanguageModel lm = new(
            TinyModel.WriteCheckpoint(_folder.File("model"), positions: 512), threads: 1, engine: new EngineOptions { MaximumRows = 1 });
        GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 10, Temperature = 1, Seed = 2 });
        using CancellationTokenSource source = new();
        Task<GeneratedIds>? waits = null;
        bool wasTold = false;
        Task<GeneratedIds> first = lm.Answer([3, 4], options, _ =>
        {
            if (waits is null)
            {
                waits = lm.Answer([5, 6], options, null, 0, source.Token);
                source.Cancel();
                wasTold = waits.IsCanceled; // the row is still taken
            }

            return false;
        }, 0, default);
        await first;
        Assert.True(wasTold);
        Assert.Equal(2, (await lm.Answer([7], lm.Prepare(new GenerationOptions { MaximumNewTokens = 2, Temperature = 1 }), _ => false, 0, default)).Ids.Count);
    }

    [Fact]
    public async Task Whoever_has_left_while_he_waited_is_not_begun_and_not_held()
    {
        using CausalLanguageModel lm = new(
            TinyModel.WriteCheckpoint(_folder.File("model"), positions: 512), threads: 1, engine: new EngineOptions { MaximumRows = 1 });
        GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 10, Temperature = 1, Seed = 2 });
        using CancellationTokenSource source = new();
        (int ends, int begun) = (0, 0);
        WeakReference? left = null;
        bool isHeld = true;
        await lm.Answer([3, 4], options, _ =>
        {
            if (left is null)
            {
                left = Begin();
                source.Cancel();
                GC.Collect();
                isHeld = left.IsAlive; // the row is still taken, and somebody else's
            }

            return false;
        }, 0, default);
        await lm.Answer([7], options, null, 0, default);
        Assert.False(isHeld);
        Assert.Equal((1, 0), (ends, begun));

        [MethodImpl(MethodImplOptions.NoInlining)]
        WeakReference Begin()
        {
            int[] prompt = [5, 6];
            lm.Begin(prompt, options, _ => ++begun < 0, 0, source.Token, () => ends++);
            return new WeakReference(prompt);
        }
    }

    [Fact]
    public void A_request_that_ends_before_it_listens_to_its_token_does_not_listen()
    {
        using CancellationTokenSource source = new();
        int called = 0;
        GenerationRequest ended = Request();
        ended.Complete(FinishReason.Stop);
        ended.WhenCancelled(_ => called++);
        GenerationRequest endsLater = Request();
        endsLater.WhenCancelled(_ => called++);
        endsLater.Complete(FinishReason.Stop);
        GenerationRequest waits = Request();
        waits.WhenCancelled(_ => called += 10);
        source.Cancel();
        Assert.Equal(10, called);

        GenerationRequest Request() => new([1], new GenerationOptions { Temperature = 0 }, 10, 5, null, () => { }, source.Token);
    }

    [Fact]
    public void A_failure_that_nobody_looks_at_is_not_one_that_was_overlooked()
    {
        List<string> overlooked = [];
        EventHandler<UnobservedTaskExceptionEventArgs> handler = (_, e) => overlooked.Add(e.Exception.InnerException?.Message ?? "");
        TaskScheduler.UnobservedTaskException += handler;
        try
        {
            Fail();
            for (int i = 0; i < 3; i++)
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
            }
        }
        finally
        {
            TaskScheduler.UnobservedTaskException -= handler;
        }

        Assert.DoesNotContain("of this test", overlooked);

        [MethodImpl(MethodImplOptions.NoInlining)]
        static void Fail() => new GenerationRequest([1], new GenerationOptions { Temperature = 0 }, 10, 5, null, () => { }, default)
            .Fail(new OptionException("of this test"));
    }

    [Fact]
    public void Whoever_takes_his_time_holds_nobody_up()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        GenerationOptions options = new() { MaximumNewTokens = 12 };
        using ManualResetEventSlim other = new();
        bool waited = false;
        GeneratedText slow = generator.Generate([new InstructionRow("Who are you?")], options, (_, _) =>
        {
            if (!waited)
            {
                waited = true;
                Task answer = Task.Run(() => generator.Generate([new InstructionRow("What is this?")], options));
                Assert.True(answer.Wait(TimeSpan.FromMinutes(1)));
            }
        })[0];
        Assert.True(waited);
        Assert.Equal(generator.Generate([new InstructionRow("Who are you?")], options)[0].Text, slow.Text);
    }

    [Fact]
    public async Task Memory_is_freed_when_nobody_asks()
    {
        using CausalLanguageModel lm = new(TinyModel.WriteCheckpoint(_folder.File("model"), positions: 512), threads: 1);
        NativeCounts before = NativeCounts.Settled();
        GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 10 });
        await Task.WhenAll(Enumerable.Range(2, 10).Select(i => lm.Answer([i, 5], options, null, 0, default)));
        Assert.Equal(before, NativeCounts.Now);
    }
}

/// <summary>Awaitable answers for tests.</summary>
internal static class Answers
{
    public static Task<GeneratedIds> Answer(this CausalLanguageModel lm, int[] prompt, GenerationOptions options, Func<int, bool>? onToken, int limit,
        CancellationToken cancellation) =>
        lm.Begin(prompt, options, onToken is null ? null : token => onToken(token.Id), limit, cancellation).Answer;
}
