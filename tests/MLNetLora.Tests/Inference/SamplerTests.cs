using MLNetLora.Inference;

namespace MLNetLora.Tests.Inference;

public sealed class SamplerTests
{
    private static float[] Logits => [0f, 1f, 3f, 2f, 2.5f];

    [Fact]
    public void Greedy_takes_the_highest_even_in_a_wide_row()
    {
        Assert.Equal(2, new Sampler(new(), [], 5).Next(Logits));
        Random random = new(1);
        for (int width = 1; width < 200; width++)
        {
            float[] logits = [.. Enumerable.Range(0, width).Select(_ => random.NextSingle())];
            Assert.Equal(Array.IndexOf(logits, logits.Max()), new Sampler(new(), [], width).Next(logits));
        }
    }

    [Fact]
    public void Ids_beyond_the_limit_are_never_chosen() => Assert.Equal(1, new Sampler(new(), [], 2).Next(Logits));

    [Fact]
    public void A_repetition_penalty_divides_positive_and_multiplies_negative_logits_of_tokens_that_occurred()
    {
        Assert.Equal(4, new Sampler(new() { RepetitionPenalty = 1.5f }, [2], 5).Next(Logits));
        Assert.Equal(1, new Sampler(new() { RepetitionPenalty = 2f }, [0], 2).Next([-1f, -1.5f]));
        Sampler sampler = new(new() { RepetitionPenalty = 10f }, [], 5);
        Assert.Equal([2, 4, 3], Enumerable.Range(0, 3).Select(_ => sampler.Next(Logits)));
    }

    [Theory]
    [InlineData(1f)]
    [InlineData(0.5f)]
    public void Frequencies_follow_the_softmax_of_the_tempered_logits(float temperature)
    {
        double[] weights = [.. Logits.Select(logit => Math.Exp(logit / temperature))];
        int[] counts = Draw(new() { Temperature = temperature, Seed = 1 });
        for (int i = 0; i < 5; i++)
        {
            Assert.Equal(weights[i] / weights.Sum(), counts[i] / 20_000.0, 0.015);
        }
    }

    [Fact]
    public void Top_k_keeps_the_k_highest() => Assert.Equal([2, 4], Seen(new() { Temperature = 5, TopK = 2, Seed = 1 }));

    [Fact]
    public void Top_p_keeps_the_fewest_that_reach_p()
    {
        // Softmax: 0.024, 0.064, 0.474, 0.175, 0.287 (in order 2, 4, 3, 1, 0).
        Assert.Equal([2], Seen(new() { Temperature = 1, TopP = 0.4f, Seed = 1 }));
        Assert.Equal([2, 4], Seen(new() { Temperature = 1, TopP = 0.7f, Seed = 1 }));
        Assert.Equal([2, 3, 4], Seen(new() { Temperature = 1, TopP = 0.9f, Seed = 1 }));
    }

    [Fact]
    public void Min_p_keeps_those_that_have_a_share_of_the_likeliest_ones_probability()
    {
        // Beside the likeliest, 2: 4 has 0.607 of its probability, 3 has 0.368, 1 has 0.135, 0 has 0.050.
        Assert.Equal([2, 4], Seen(new() { Temperature = 1, MinP = 0.5f, Seed = 1 }));
        Assert.Equal([2, 3, 4], Seen(new() { Temperature = 1, MinP = 0.3f, Seed = 1 }));
        Assert.Equal([2], Seen(new() { Temperature = 1, MinP = 1, Seed = 1 }));
        Assert.Equal([2, 3, 4], Seen(new() { Temperature = 2, MinP = 0.5f, Seed = 1 })); // of the tempered probabilities
        Assert.Equal([2, 4], Seen(new() { Temperature = 1, MinP = 0.3f, TopK = 2, Seed = 1 }));
        Assert.Equal([2, 4], Seen(new() { Temperature = 1, MinP = 0.5f, TopK = 4, Seed = 1 }));
        Assert.Equal([2, 4], Seen(new() { Temperature = 1, MinP = 0.5f, TopP = 0.6f, Seed = 1 })); // after top-p: before it, 2 alone would reach 0.6
    }

    [Fact]
    public void A_presence_penalty_is_taken_off_what_the_answer_has_however_often()
    {
        Assert.Equal([2, 4, 2, 2], Greedy(new() { PresencePenalty = 0.6f }, [0, 2, 4], 4));
        Assert.Equal([1, 1], Greedy(new() { PresencePenalty = -2, LogitBias = new Dictionary<int, float> { [1] = 2.1f } }, [], 2));
    }

    [Fact]
    public void A_frequency_penalty_is_taken_off_for_each_time()
    {
        Assert.Equal([2, 4, 2, 3, 4, 2], Greedy(new() { FrequencyPenalty = 0.6f }, [2, 2, 2], 6));
        Assert.Equal([2, 4, 3, 2, 4], Greedy(new() { FrequencyPenalty = 0.6f, PresencePenalty = 0.5f }, [], 5));
    }

    [Fact]
    public void A_bias_is_added_before_everything_else()
    {
        Assert.Equal(1, new Sampler(new() { LogitBias = new Dictionary<int, float> { [1] = 100 } }, [], 5).Next(Logits));
        Assert.Equal(4, new Sampler(new() { LogitBias = new Dictionary<int, float> { [2] = -100 } }, [], 5).Next(Logits));
        Assert.Equal([3], Seen(new() { Temperature = 1, TopK = 1, LogitBias = new Dictionary<int, float> { [3] = 3 }, Seed = 1 }));
        Assert.Equal(1, new Sampler(new() { LogitBias = new Dictionary<int, float> { [4] = 100 } }, [], 2).Next(Logits)); // cannot be chosen at all
        GenerationOptions penalized = new() { LogitBias = new Dictionary<int, float> { [0] = 1 }, RepetitionPenalty = 2 };
        Assert.Equal(1, new Sampler(penalized, [0], 2).Next([1f, 1.2f]));
    }

    [Fact]
    public void What_is_forbidden_is_chosen_only_where_there_is_nothing_else()
    {
        Assert.Equal(4, new Sampler(new(), [], 5).Next(Logits, [2, 9]));
        Assert.Equal([0, 1, 3], Seen(new() { Temperature = 1, Seed = 1 }, [4, 2]));
        Assert.Equal(1, new Sampler(new(), [], 2).Next([float.NegativeInfinity, 1f], [1, 1]));
        Assert.Equal(3, new Sampler(new(), [], 5).Next(Logits, [2, 4]));
    }

    [Fact]
    public void Neighbouring_seeds_draw_numbers_that_have_nothing_to_do_with_one_another()
    {
        double[] first = [.. Enumerable.Range(0, 200).Select(seed => Sampler.Numbers(seed, [1, 2, 3]).NextDouble())];
        Assert.Equal(200, first.Distinct().Count());
        Assert.True(first.Zip(first.Skip(1), (a, b) => Math.Round((b - a + 1) % 1, 2)).Distinct().Count() > 60);
        Assert.NotEqual(Sampler.Numbers(0, []).Next(), Sampler.Numbers(-1, []).Next());
    }

    [Fact]
    public void A_seed_repeats_and_the_prompt_takes_part()
    {
        int[] Row(int seed, int[] prompt)
        {
            Sampler sampler = new(new() { Temperature = 2, Seed = seed }, prompt, 5);
            return [.. Enumerable.Range(0, 40).Select(_ => sampler.Next(Logits))];
        }

        Assert.Equal(Row(1, [1, 2]), Row(1, [1, 2]));
        Assert.NotEqual(Row(1, [1, 2]), Row(2, [1, 2]));
        Assert.NotEqual(Row(1, [1, 2]), Row(1, [2, 1]));
    }

    [Theory]
    [InlineData(0.7f, 20, 0.8f, 0f)]
    [InlineData(0.7f, 20, 1f, 0f)]
    [InlineData(1.3f, 5000, 0.95f, 0f)]
    [InlineData(0.7f, 0, 0.8f, 0f)]
    [InlineData(1f, 0, 0.999f, 0f)]
    [InlineData(50f, 0, 0.9f, 0f)]
    [InlineData(1f, 1, 1f, 0f)]
    [InlineData(1f, 100_000, 1f, 0f)]
    [InlineData(1f, 100_000, 1f, 0.2f)]
    [InlineData(5f, 5000, 0.95f, 0.5f)]
    [InlineData(5f, 0, 0.99f, 0.7f)]
    public void Drawn_are_the_same_tokens_as_after_a_full_sort(float temperature, int topK, float topP, float minP)
    {
        GenerationOptions options = new() { Temperature = temperature, TopK = topK, TopP = topP, MinP = minP, Seed = 3 };
        Sampler sampler = new(options, [], 20_000);
        Random logits = new(4);
        Random draws = Sampler.Numbers(3, []);
        for (int round = 0; round < 40; round++)
        {
            // Steps of an eighth make many ties, with the best among them, too.
            float[] scores = [
                .. Enumerable.Range(0, 20_000).Select(_ => MathF.Round((float)(logits.NextDouble() + logits.NextDouble() + logits.NextDouble()) * 40) / 8)];
            Assert.Equal(FullSort(scores, options, draws.NextDouble()), sampler.Next(scores));
        }
    }

    [Fact]
    public void What_is_drawn_does_not_depend_on_which_of_two_equals_is_the_better_by_a_bit()
    {
        GenerationOptions options = new() { Temperature = 1, TopK = 3, Seed = 1 };
        (Sampler one, Sampler other) = (new(options, [], 4), new(options, [], 4));
        for (int i = 0; i < 100; i++)
        {
            Assert.Equal(one.Next([1f, 1.000001f, -3f, 0.5f]), other.Next([1.000001f, 1f, -3f, 0.5f]));
        }
    }

    [Fact]
    public void A_token_allocates_nothing()
    {
        GenerationOptions options = new()
        {
            Temperature = 0.7f,
            TopK = 20,
            TopP = 0.8f,
            MinP = 0.01f,
            Seed = 1,
            RepetitionPenalty = 1.1f,
            FrequencyPenalty = 0.1f,
            LogitBias = new Dictionary<int, float> { [7] = 1 },
        };
        Sampler sampler = new(options, [], 150_000);
        int[] forbidden = [3, 5];
        Random random = new(1);
        float[] logits = [.. Enumerable.Range(0, 150_000).Select(_ => random.NextSingle() * 20)];
        float[] copy = new float[logits.Length];
        long before = 0;
        for (int i = 0; i < 60; i++)
        {
            before = i == 10 ? GC.GetAllocatedBytesForCurrentThread() : before;
            logits.CopyTo(copy, 0);
            sampler.Next(copy, forbidden);
        }

        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 10_000);
    }

    // The definition: all tokens sorted, the lower id first among equals; the first k of them; the fewest of these that reach p; of these those that have
    // min-p of the likeliest one's probability; one of those by its probability, the lower ids first.
    private static int FullSort(float[] logits, GenerationOptions options, double draw)
    {
        float highest = logits.Max();
        (int Id, double Weight)[] sorted = [.. logits.Select((logit, id) => (id,
            score: (logit - highest) / options.Temperature!.Value)).OrderByDescending(item => item.score).ThenBy(item => item.id)
            .Select(item => (item.id, (double)MathF.Exp(item.score))).Take(options.TopK > 0 ? options.TopK.Value : int.MaxValue)];
        double reach = options.TopP!.Value * sorted.Sum(item => item.Weight);
        int keep = 0;
        for (double sum = 0; keep < sorted.Length && (keep == 0 || sum < reach || options.TopP == 1); keep++)
        {
            sum += sorted[keep].Weight;
        }

        keep = Math.Max(1, sorted.Take(keep).Count(item => item.Weight >= options.MinP!.Value));
        double left = draw * sorted.Take(keep).Sum(item => item.Weight);
        return sorted.Take(keep).OrderBy(item => item.Id).First(item => (left -= item.Weight) < 0).Id;
    }

    private static int[] Greedy(GenerationOptions options, int[] prompt, int count)
    {
        Sampler sampler = new(options, prompt, 5);
        return [.. Enumerable.Range(0, count).Select(_ => sampler.Next(Logits))];
    }

    private static int[] Seen(GenerationOptions options, int[]? forbidden = null) =>
        [.. Draw(options, forbidden).Select((count, id) => (count, id)).Where(item => item.count > 0).Select(item => item.id)];

    private static int[] Draw(GenerationOptions options, int[]? forbidden = null)
    {
        Sampler sampler = new(options, [], 5);
        int[] counts = new int[5];
        for (int i = 0; i < 20_000; i++)
        {
            counts[sampler.Next(Logits, forbidden)]++;
        }

        return counts;
    }
}
