using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference;

/// <summary>Log probabilities: by hand, and of whole answers on the nano checkpoint.</summary>
public sealed class TokenLogprobsTests
{
    private static readonly InstructionRow s_row = new("公司在哪里？");

    [Fact]
    public void They_are_the_logarithms_of_the_softmax()
    {
        TokenLogprobs logprobs = new(2, limit: 4);
        float[] logits = [0f, 1f, 3f, 2f, 2.5f]; // the logarithm of the sum of their exponentials is 3.76989
        logprobs.Read(logits);
        Array.Clear(logits); // as whoever chooses may
        ChosenToken chosen = logprobs.Of(1);
        Assert.Equal(-2.76989f, chosen.Logprob, 1e-5f);
        Assert.Equal([2, 3], chosen.Top!.Select(top => top.Id)); // 4 cannot be chosen
        Assert.Equal(-0.76989f, chosen.Top![0].Logprob, 1e-5f);
        Assert.Equal(-1.76989f, chosen.Top![1].Logprob, 1e-5f);
    }

    [Fact]
    public void A_wide_row_with_large_scores_loses_nothing()
    {
        float[] logits = [.. Enumerable.Repeat(1000f, 150_000)];
        TokenLogprobs logprobs = new(0, logits.Length);
        logprobs.Read(logits);
        ChosenToken chosen = logprobs.Of(149_999);
        Assert.Equal(-Math.Log(150_000), chosen.Logprob, 1e-4);
        Assert.Empty(chosen.Top!);
    }

    [Fact]
    public void They_are_those_of_the_models_scores_and_of_every_token()
    {
        using CausalLanguageModel model = new(Checkpoint.Open(Repository.Nano), threads: 1);
        int[] prompt = [5, 6, 7];
        GenerationOptions options = new()
        {
            MaximumNewTokens = 1,
            TopLogprobs = 20,
            Temperature = 0.1f,
            TopK = 3,
            LogitBias = new Dictionary<int, float> { [9] = 100 },
        };
        ChosenToken chosen = default;
        GenerationRequest request = model.Begin(prompt, model.Prepare(options), token => (chosen = token).Id < 0, 0, default);
        Assert.Equal([9], model.Result(request).Ids);

        double[] scores = [.. model.Logits(prompt).Select(score => (double)score)];
        double sum = Math.Log(scores.Sum(Math.Exp));
        Assert.Equal(scores[9] - sum, chosen.Logprob, 1e-4); // and not 0, as the bias has it
        int[] best = [.. scores.Select((score, id) => (score, id)).OrderByDescending(item => item.score).Take(20).Select(item => item.id)];
        Assert.Equal(best, chosen.Top!.Select(top => top.Id));
        Assert.All(chosen.Top!, top => Assert.Equal(scores[top.Id] - sum, top.Logprob, 1e-4));
    }

    [Fact]
    public async Task An_answer_has_those_of_all_its_tokens_and_its_pieces_have_them_in_turn()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        QwenTokenizer tokenizer = QwenTokenizer.Load(Repository.Nano);
        GenerationOptions options = new() { MaximumNewTokens = 40, TopLogprobs = 3 };
        GeneratedText whole = generator.Generate([s_row], options)[0];
        Assert.Equal(whole.NewTokens, whole.Tokens!.Count);
        Assert.Equal(whole.Text, tokenizer.Decode([.. whole.Tokens.Select(token => token.Id)], skipSpecialTokens: true));
        Assert.All(whole.Tokens, token =>
        {
            Assert.Equal(3, token.Top.Count);
            Assert.Equal((token.Id, token.Logprob), (token.Top[0].Id, token.Top[0].Logprob)); // greedy
            Assert.Equal(token.Text, tokenizer.Decode([token.Id], skipSpecialTokens: false));
            Assert.InRange(token.Top.Sum(top => Math.Exp(top.Logprob)), 0, 1.0001);
        });
        Assert.Equal("<|im_end|>", whole.Tokens[^1].Text);
        Assert.Null(generator.Generate([s_row], new GenerationOptions { MaximumNewTokens = 4 })[0].Tokens);

        List<GeneratedToken> pieces = [];
        await foreach (GeneratedChunk piece in generator.GenerateAsync(s_row, options))
        {
            pieces.AddRange(piece.Tokens!);
            if (piece.Answer is null)
            {
                Assert.EndsWith(piece.Text, tokenizer.Decode([.. pieces.Select(token => token.Id)], skipSpecialTokens: true), StringComparison.Ordinal);
            }
        }

        Assert.Equal(whole.Tokens.Select(token => (token.Id, token.Logprob)), pieces.Select(token => (token.Id, token.Logprob)));
    }

    [Fact]
    public async Task A_piece_has_no_list_where_nobody_asks()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        await foreach (GeneratedChunk piece in generator.GenerateAsync(s_row, new GenerationOptions { MaximumNewTokens = 4 }))
        {
            Assert.Null(piece.Tokens);
        }
    }
}
