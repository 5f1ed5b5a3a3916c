using MLNetLora.Inference;
using MLNetLora.Inference.Constraints;
using MLNetLora.Models;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference.Constraints;

/// <summary>Constraints in the hands of a model.</summary>
[Collection(Alone.Name)]
public sealed class ConstrainedGenerationTests
{
    private static readonly InstructionRow[] s_rows = [.. "abcdefgh".Select(letter => new InstructionRow($"Say {letter}."))];

    [Theory]
    [InlineData(0f, 1f)]
    [InlineData(1.5f, 1.3f)]
    public void What_a_model_answers_is_what_is_asked_for(float temperature, float penalty)
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        const string Schema = """
            {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
             "tags": {"type": "array", "items": {"enum": ["x", "y"]}, "maxItems": 3}}, "required": ["name", "age", "tags"]}
            """;
        GenerationOptions options = new()
        {
            Constraint = OutputConstraint.JsonSchema(Schema),
            Temperature = temperature,
            RepetitionPenalty = penalty,
            TopK = 0,
            Seed = 1,
            BatchSize = 3,
            MaximumNewTokens = 400,
        };
        foreach (GeneratedText answer in generator.Generate(s_rows, options))
        {
            Assert.Null(answer.Error);
            Assert.Equal(FinishReason.Stop, answer.Reason);
            Assert.Null(SchemaValidator.Error(Schema, answer.Text));
        }

        options.MaximumNewTokens = 3;
        GeneratedText cut = generator.Generate(s_rows[..1], options)[0];
        Assert.Equal(FinishReason.Length, cut.Reason);
        Assert.StartsWith("{", cut.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_stream_ends_where_its_constraint_does()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        GenerationOptions options = new() { Constraint = OutputConstraint.Regex("(yes|no), sir"), MaximumNewTokens = 50 };
        string text = "";
        GeneratedText? whole = null;
        await foreach (GeneratedChunk chunk in generator.GenerateAsync(s_rows[0], options))
        {
            text += chunk.Text;
            whole = chunk.Answer;
        }

        Assert.Contains(text, (string[])["yes, sir", "no, sir"]);
        Assert.Equal(FinishReason.Stop, whole!.Reason);
        Assert.Equal(text, whole.Text);
        Assert.True(whole.NewTokens < 10);
    }

    [Fact]
    public void A_model_whose_vocabulary_ends_before_the_tokens_that_are_asked_for_is_told_so()
    {
        QwenTokenizer tokenizer = RandomAnswers.OverNano.Tokenizer;
        ITokenMask mask = OutputConstraint.JsonObject.Begin(tokenizer, [], ThinkingPart.None);
        Assert.Contains("vocabulary", Assert.Throws<ConstraintException>(() => mask.Apply(new float[5])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_other_options_ask_for_does_not_break_it()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        GenerationOptions options = new()
        {
            Constraint = OutputConstraint.Regex("a{3,20}b"),
            MinimumNewTokens = 30,
            MaximumNewTokens = 30,
            IgnoreEndOfText = true,
            TopK = 1,
            LogitBias = new Dictionary<int, float> { [RandomAnswers.OverNano.Tokenizer.ImEndId!.Value] = 100 },
        };

        GeneratedText answer = generator.Generate(s_rows[..1], options)[0];
        Assert.Matches("^a{3,20}b$", answer.Text);
        Assert.Equal(FinishReason.Stop, answer.Reason);
    }

    [Theory]
    [InlineData(ThinkingPart.None, "7", true)]
    [InlineData(ThinkingPart.None, "<think>x</think>\n\n7", false)]
    [InlineData(ThinkingPart.Optional, "7", true)]
    [InlineData(ThinkingPart.Optional, "<think>\nAny <tag> { at all 😀\n</think>\n\n7", true)]
    [InlineData(ThinkingPart.Optional, "<think></think>7", true)]
    [InlineData(ThinkingPart.Optional, "<think>x</think>\n\nseven", false)]
    [InlineData(ThinkingPart.Optional, "<think>x", false)]
    [InlineData(ThinkingPart.Optional, "<thin7", false)]
    [InlineData(ThinkingPart.Rest, "x </thin </think>\n\n7", true)]
    [InlineData(ThinkingPart.Rest, "</think>7", true)]
    [InlineData(ThinkingPart.Rest, "7", false)]
    [InlineData(ThinkingPart.Rest, "x</think>\n\n\n7", false)]
    internal void Thinking_is_free_and_the_answer_behind_it_is_not(ThinkingPart thinking, string text, bool isAllowed) =>
        Assert.Equal(isAllowed, RandomAnswers.OverNano.Allows(OutputConstraint.Regex("[0-9]"), text, thinking));

    [Theory]
    [InlineData("qwen3", null, ThinkingPart.Optional)]
    [InlineData("qwen3", false, ThinkingPart.None)]
    [InlineData("qwen3_instruct_2507", null, ThinkingPart.None)]
    [InlineData("qwen2_5", null, ThinkingPart.None)]
    [InlineData("qwen3_5_think", null, ThinkingPart.Rest)]
    internal void Templates_say_whether_a_model_thinks(string template, bool? enableThinking, ThinkingPart expected)
    {
        QwenTokenizer tokenizer = QwenTokenizer.Load(Path.Combine(Golden.Committed, "tokenizers", "qwen3"));
        ConversationFormatter formatter = new(
            tokenizer, ChatTemplate.Parse(File.ReadAllText(Path.Combine(Golden.Committed, "templates", template + ".jinja"))));
        ThinkingPart found = formatter.OpensThinking(enableThinking) ? ThinkingPart.Rest
            : formatter.MayThink(enableThinking) ? ThinkingPart.Optional
            : ThinkingPart.None;
        Assert.Equal(expected, found);
    }
}
