using MLNetLora.Inference;
using MLNetLora.Inference.Constraints;
using MLNetLora.Models;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference.Constraints;

/// <summary>Constraints whose states are new with every token: found out on the thread that all answers share.</summary>
public sealed class WorkBudgetTests
{
    /// <summary>Each of its states knows where letters of eight kinds were among the last characters, and hardly any text ends it.</summary>
    private static readonly string s_slow = "(" + string.Join('|', ((string[])["a-m", "aeiou", "bcdf", "ghjk", "lmnp", "qrst", "a-f", "s-z"]).Select(
        (letters, i) => $@"[\s\S]*[{letters}][\s\S]{{{18 + (2 * i)}}}")) + ")zzzzqqqqzzzz";

    /// <summary>Tokens that lead to a state that is new.</summary>
    private static readonly int[] s_words = [.. Enumerable.Range(0, RandomAnswers.OverNano.Tokenizer.VocabularySize).Where(
        id => RandomAnswers.OverNano.Tokenizer.Decode([id], skipSpecialTokens: true) is { Length: > 3 } text && text.All(char.IsAsciiLetterLower))];

    [Fact]
    public void An_answer_that_takes_too_much_token_after_token_ends_and_says_what_to_do()
    {
        QwenTokenizer tokenizer = RandomAnswers.OverNano.Tokenizer;
        ITokenMask mask = OutputConstraint.Regex(s_slow).Begin(tokenizer, [], ThinkingPart.None);
        Random random = new(1);
        int tokens = 0;
        string message = Assert.Throws<ConstraintException>(() =>
        {
            for (; tokens < 480; tokens++)
            {
                mask.Apply(new float[tokenizer.VocabularySize]);
                Assert.True(mask.Accept(s_words[random.Next(s_words.Length)]));
            }
        }).Message;
        Assert.True(tokens > 3, $"{tokens}");
        Assert.Contains("token after token", message, StringComparison.Ordinal);
        Assert.Contains("counters smaller", message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_one_answer_takes_is_not_taken_from_others()
    {
        Grammar grammar = GrammarCache.New(store => JsonNodes.Of(store.Repeat(store.Literal("ab"), 1, 300)));
        QwenTokenizer tokenizer = RandomAnswers.OverNano.Tokenizer;
        TokenMask mask = new(grammar, tokenizer, [], ThinkingPart.None);
        grammar.Store.WorkLeft = 0; // another answer has used up its own
        Assert.True(mask.Accept(Assert.Single(tokenizer.Encode("a"))));
        mask.Apply(new float[tokenizer.VocabularySize]);
        grammar.Store.WorkLeft = 0;
        Assert.True(new TokenMask(grammar, tokenizer, [], ThinkingPart.Optional).Accept(Assert.Single(tokenizer.Encode("a"))));
    }

    [Fact]
    public void Little_for_each_token_may_go_on_for_ever()
    {
        TermStore store = new();
        WorkBudget budget = new(store);
        for (int i = 0; i < 1000; i++)
        {
            budget.ForToken(() => store.Spend(15_000));
        }

        Assert.Throws<ConstraintException>(() => budget.ForToken(() => store.Spend(5_000_000))); // for one token
        _ = Assert.Throws<ConstraintException>(() =>
        {
            for (int i = 0; i < 10; i++)
            {
                budget.ForToken(() => store.Spend(2_000_000)); // for several
            }
        });
    }

    [Fact]
    public async Task Others_get_their_answers_beside_one_that_takes_too_much()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        GenerationOptions slow = new()
        {
            Constraint = OutputConstraint.Regex(s_slow + "x"),
            MaximumNewTokens = 480,
            Temperature = 5,
            TopK = 0,
            TopP = 1,
            Seed = 1,
            LogitBias = s_words.ToDictionary(id => id, _ => 100f),
        };
        GenerationOptions options = new() { MaximumNewTokens = 60 };
        string alone = generator.Generate([new("Who are you?")], options)[0].Text;
        Task<ConstraintException> ended = Assert.ThrowsAsync<ConstraintException>(async () =>
        {
            await foreach (GeneratedChunk _ in generator.GenerateAsync(new InstructionRow("Say yes."), slow))
            {
            }
        });
        Assert.Equal(alone, generator.Generate([new("Who are you?")], options)[0].Text);
        Assert.Contains("token after token", (await ended).Message, StringComparison.Ordinal);
        Assert.Equal(alone, generator.Generate([new("Who are you?")], options)[0].Text);
    }
}
