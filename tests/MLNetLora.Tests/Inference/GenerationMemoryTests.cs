using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Runtime;
using MLNetLora.Tests.Runtime;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference;

/// <summary>What the engine does where there is too little memory: the fewest requests end.</summary>
[Collection(Alone.Name)]
public sealed class GenerationMemoryTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Who_finds_no_memory_leaves_the_others_alone()
    {
        using CausalLanguageModel lm = new(TinyModel.WriteCheckpoint(_folder.File("model"), positions: 512), threads: 1);
        GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 40, Temperature = 1, Seed = 2 });
        IReadOnlyList<int> alone = lm.Generate([[3, 4, 5]], options)[0].Ids;
        int refused = 0;
        for (int failing = 1; failing <= 12; failing++)
        {
            int allocations = -1000;
            NativeCalls.Before = kind =>
            {
                if (kind == "allocation" && Interlocked.Increment(ref allocations) == failing)
                {
                    throw new InsufficientMemoryException("injected");
                }
            };
            try
            {
                GenerationRequest? second = null;
                IReadOnlyList<GeneratedIds> first = lm.Generate([[3, 4, 5]], options, (_, _) =>
                {
                    if (second is null)
                    {
                        allocations = 0; // those of the second, for its prompt and for its row
                        second = lm.Begin([6, 7], options, null, 0, default);
                    }

                    return false;
                });
                Assert.Equal(alone, first[0].Ids);
                refused += Record.Exception(() => lm.Result(second!)) is NativeMemoryException ? 1 : 0;
            }
            finally
            {
                NativeCalls.Before = null;
            }
        }

        Assert.InRange(refused, 6, 12); // 4 states each for the prompt and for the row
    }

    [Theory]
    [InlineData("qwen3", "allocation", true)]
    [InlineData("qwen3", "tensor", true)]
    [InlineData("qwen3", "run", true)]
    [InlineData("qwen3_5_text", "allocation", true)]
    [InlineData("qwen3_5_text", "run", false)] // its state may have gone half a step ahead
    public void Where_there_is_no_memory_for_the_next_token_the_longest_row_ends(string modelType, string kind, bool goesOn)
    {
        using CausalLanguageModel lm = new(
            TinyModel.WriteCheckpoint(_folder.File("model"), modelType, positions: 512), threads: 1, engine: new EngineOptions { PrefixCacheBytes = 0 });
        int[] prompt = TinyModel.Row(new Random(1), 200).InputIds; // whose cache has 320 tokens, then 384 or 400
        GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 200, Temperature = 1, Seed = 2, IgnoreEndOfText = true });
        GenerationOptions shorter = lm.Prepare(new GenerationOptions { MaximumNewTokens = 60, Temperature = 1, Seed = 3, IgnoreEndOfText = true });
        IReadOnlyList<int> alone = lm.Generate([[6, 7]], shorter)[0].Ids;
        GenerationRequest? second = null;
        (int tokens, int seconds, int left) = (0, 0, 0);
        NativeCalls.Before = called =>
        {
            // Runs fail once, and what grows fails until the row has gone for which it is to grow.
            if (called == kind && (kind == "run" ? left > 0 && seconds > 20 : left > 0 && seconds < 60 && tokens > 120))
            {
                left--;
                throw new InsufficientMemoryException("injected");
            }
        };
        try
        {
            GenerationRequest first = lm.Begin(prompt, options, _ =>
            {
                if (++tokens == 100)
                {
                    second = lm.Begin([6, 7], shorter, _ =>
                    {
                        left = ++seconds == 1 ? (kind == "allocation" ? 2 : 1) : left; // as much as is wanted, and as little as will do
                        return false;
                    }, 0, default);
                }

                return false;
            }, 0, default);
            Assert.Throws<NativeMemoryException>(() => lm.Result(first));
            if (goesOn)
            {
                Assert.Equal(alone, lm.Result(second!).Ids);
            }
            else
            {
                Assert.Throws<NativeMemoryException>(() => lm.Result(second!));
            }
        }
        finally
        {
            NativeCalls.Before = null;
        }

        Assert.Equal(0, left);
        Assert.InRange(tokens, 102, 180);
        Assert.Equal(alone, lm.Generate([[6, 7]], shorter)[0].Ids);
    }

    [Theory]
    [InlineData("allocation", 0)] // for the prompt
    [InlineData("run", 0)]
    [InlineData("allocation", 100)] // for the cache that grows
    [InlineData("run", 100)]
    [InlineData("allocation", -1)] // for who joins
    [InlineData("run", 100, true)] // of a guess
    public void What_is_kept_of_earlier_prompts_gives_way_before_a_request_fails(string kind, int at, bool guesses = false)
    {
        using CausalLanguageModel lm = new(TinyModel.WriteCheckpoint(_folder.File("model"), positions: 512), threads: 1);
        GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 200, Temperature = 1, Seed = 2, IgnoreEndOfText = true });
        (options.PromptLookupTokens, options.LogitBias) = guesses ? (4, new Dictionary<int, float> { [7] = 100 }) : (0, options.LogitBias);
        IReadOnlyList<int> alone = lm.Generate([[3, 4, 5]], options)[0].Ids; // 203 tokens, of which three blocks are kept
        long most = long.MaxValue;
        int refused = 0;
        NativeCalls.Before = called =>
        {
            if (called != kind)
            {
                return;
            }

            if (NativeBuffer.LiveBytes > Interlocked.Read(ref most))
            {
                refused++;
                throw new InsufficientMemoryException("injected");
            }

            Interlocked.Exchange(ref most, long.MaxValue);
        };
        try
        {
            (int tokens, int others) = (0, 0);
            GenerationRequest? other = null;
            most = at == 0 ? NativeBuffer.LiveBytes - 1 : most;
            IReadOnlyList<int> answer = lm.Generate([[3, 4, 5]], options, (_, _) =>
            {
                tokens++;
                if (tokens == at)
                {
                    most = NativeBuffer.LiveBytes - 1;
                }
                else if (at < 0 && tokens == 10)
                {
                    other = lm.Begin([3, 4, 5], options, _ =>
                    {
                        most = ++others == 1 ? NativeBuffer.LiveBytes - 1 : most; // it is read, and joins next
                        return false;
                    }, 0, default);
                }

                return false;
            })[0].Ids;
            Assert.Equal(alone, answer);
            Assert.Equal(alone, other is null ? alone : lm.Result(other).Ids);
        }
        finally
        {
            NativeCalls.Before = null;
        }

        Assert.InRange(refused, 1, 2);
    }

    [Fact]
    public async Task Rows_that_have_ended_take_nothing_while_a_prompt_is_read()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), positions: 1024);
        using CausalLanguageModel lm = new(checkpoint, threads: 1);
        GenerationOptions options = lm.Prepare(new GenerationOptions { MaximumNewTokens = 20, Temperature = 1, Seed = 2, IgnoreEndOfText = true });
        Task<GeneratedIds>? second = null;
        int readBeside = 0;
        List<EngineUse> alone = [];
        bool hasEnded = false;
        NativeCalls.Before = kind =>
        {
            if (kind == "run" && second is not null)
            {
                EngineUse use = lm.Use;
                readBeside += use.Rows == 2 ? 1 : 0;
                if (hasEnded && use.Rows == 1)
                {
                    alone.Add(use);
                }
            }
        };
        try
        {
            int tokens = 0;
            await lm.Answer(TinyModel.Row(new Random(1), 300).InputIds, options, _ =>
            {
                second ??= lm.Answer(TinyModel.Row(new Random(2), 700).InputIds, options, null, 0, default);
                return hasEnded = ++tokens == 4; // of the second's prompt some parts are read by then, and some are not
            }, 0, default);
            await second!;
        }
        finally
        {
            NativeCalls.Before = null;
        }

        Assert.True(readBeside > 0);
        Assert.Contains(alone, use => use.Tokens is > 0 and < 700);
        long most = StateCache.BytesOfRow(checkpoint.Architecture.States(checkpoint.Config), MLNetLora.Onnx.ElementType.Float32, 768);
        Assert.All(alone, use => Assert.InRange(use.Bytes, 1, most));
    }
}
