using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference;

/// <summary>Rows that fail alone, and answers as they come, on the nano checkpoint with its context of 512 tokens.</summary>
public sealed class TextGeneratorTests : IDisposable
{
    /// <summary>Opens a thinking block for the model, so that all it says is thinking.</summary>
    private const string Opened =
        "{%- for m in messages %}{%- if m.content == 'refuse' %}{{- raise_exception('no') }}{%- endif %}{{- '<|im_start|>' + m.role + '\\n' + m.content + "
        + "'<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}";

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(PromptOverflow.Error)]
    [InlineData(PromptOverflow.EmptyAnswer)]
    [InlineData(PromptOverflow.TruncateLeft)]
    public void A_row_whose_prompt_is_too_long_fails_alone(PromptOverflow policy)
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        InstructionRow[] rows = [.. Enumerable.Range(1,
            40).Select(i => new InstructionRow(i == 21 ? string.Concat(Enumerable.Repeat("and on and ", 400)) + "Say yes." : $"Say {i}."))];
        GenerationOptions options = new() { MaximumNewTokens = 4, WhenPromptTooLong = policy };

        IReadOnlyList<GeneratedText> answers = generator.Generate(rows, options);

        Assert.Equal(40, answers.Count);
        IEnumerable<GeneratedText> others = answers.Where((_, i) => i != 20);
        Assert.All(others, answer => Assert.True(answer is { Error: null, NewTokens: > 0 }));
        Assert.Equal(generator.Generate([rows[39]], options)[0], answers[39]);
        GeneratedText tooLong = answers[20];
        switch (policy)
        {
            case PromptOverflow.Error:
                string message = Assert.IsType<PromptException>(tooLong.Error).Message;
                Assert.StartsWith("Row 21: the prompt has ", message, StringComparison.Ordinal);
                Assert.Contains("context is 512", message, StringComparison.Ordinal);
                Assert.Equal(("", 0), (tooLong.Text, tooLong.NewTokens));
                break;
            case PromptOverflow.EmptyAnswer:
                Assert.Equal(("", FinishReason.Length, 0, null), (tooLong.Text, tooLong.Reason, tooLong.NewTokens, tooLong.Error));
                Assert.True(tooLong.PromptTokens >= 512);
                break;
            default:
                Assert.True(tooLong is { Error: null, NewTokens: > 0 });
                Assert.InRange(tooLong.PromptTokens, 500, 508);
                break;
        }
    }

    [Fact]
    public void What_cannot_be_cut_is_not_said_to_be_cut_by_the_option_that_is_set()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        InstructionRow row = new("Say yes.", System: string.Concat(Enumerable.Repeat("and on and ", 400)));
        GenerationOptions options = new() { WhenPromptTooLong = PromptOverflow.TruncateLeft };
        string message = generator.Generate([row], options)[0].Error!.Message;
        Assert.Contains("What must stay", message);
        Assert.DoesNotContain("TruncateLeft", message);
    }

    [Fact]
    public void A_row_that_the_template_refuses_fails_alone()
    {
        using TextGenerator generator = new(Checkpoint.Open(NanoWith(Opened)), threads: 1);

        IReadOnlyList<GeneratedText> answers = generator.Generate(
            [new TextRow(new InstructionRow("Say yes.")), new TextRow(new InstructionRow("refuse"))], new GenerationOptions { MaximumNewTokens = 3 },
            onChunk: null, default, firstNumber: 9);

        Assert.Null(answers[0].Error);
        Assert.StartsWith("Row 10: The chat template cannot render", Assert.IsType<TemplateException>(answers[1].Error).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_template_that_cannot_be_used_is_refused_before_any_row() =>
        Assert.Throws<TemplateException>(() => new TextGenerator(Checkpoint.Open(NanoWith("{{ messages }}")), threads: 1));

    [Fact]
    public void A_tokenizer_of_another_checkpoint_is_refused_at_once()
    {
        string folder = NanoWith(Opened);
        string file = Path.Combine(folder, "tokenizer_config.json");
        File.WriteAllText(file, File.ReadAllText(file).Replace("\"5631\"", "\"151645\"", StringComparison.Ordinal));
        File.Delete(Path.Combine(folder, "tokenizer.json"));

        string message = Assert.Throws<TokenizerException>(() => new TextGenerator(Checkpoint.Open(folder), threads: 1)).Message;

        Assert.Contains("has <|im_end|> as token 151645, but the checkpoint's embedding ends at", message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_streamed_answer_is_the_whole_one_in_pieces()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        GenerationOptions options = new() { MaximumNewTokens = 40 };
        GeneratedText whole = generator.Generate([new("公司在哪里？")], options)[0];

        List<GeneratedChunk> pieces = [];
        await foreach (GeneratedChunk piece in generator.GenerateAsync(new InstructionRow("公司在哪里？"), options))
        {
            pieces.Add(piece);
        }

        Assert.True(pieces.Count > 3);
        Assert.Equal(whole, pieces[^1].Answer);
        Assert.Equal(whole.Text, string.Concat(pieces.Select(piece => piece.Text)));
        Assert.All(pieces[..^1], piece => Assert.True(piece is { Answer: null, IsThinking: false } && UnicodeText.UnpairedSurrogates(piece.Text) == 0));
    }

    [Fact]
    public async Task Thinking_is_streamed_as_such_and_may_be_cut_off()
    {
        using TextGenerator generator = new(Checkpoint.Open(NanoWith(Opened)), threads: 1);
        List<GeneratedChunk> pieces = [];
        await foreach (
            GeneratedChunk piece in generator.GenerateAsync(new Conversation([ChatMessage.User("Say yes.")]), new GenerationOptions { MaximumNewTokens = 6 }))
        {
            pieces.Add(piece);
        }

        GeneratedText answer = pieces[^1].Answer!;
        Assert.All(pieces[..^1], piece => Assert.True(piece.IsThinking));
        Assert.Equal("", answer.Text);
        Assert.Equal(answer.Thinking, string.Concat(pieces.Select(piece => piece.Text)));
        Assert.NotNull(answer.Thinking);
    }

    [Fact]
    public async Task A_stream_ends_with_its_token_with_its_reader_and_with_the_rows_error()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        // Nothing ends these answers but their length.
        GenerationOptions options = new() { MaximumNewTokens = 480, Temperature = 5, TopK = 0, TopP = 1, Seed = 1 };
        InstructionRow row = new("Say yes.");

        using CancellationTokenSource source = new();
        int read = 0;
        OperationCanceledException cancelled = await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (GeneratedChunk _ in generator.GenerateAsync(row, options, source.Token))
            {
                read++;
                await source.CancelAsync();
            }
        });
        Assert.Equal((1, source.Token), (read, cancelled.CancellationToken));

        await using (IAsyncEnumerator<GeneratedChunk> abandoned = generator.GenerateAsync(row, options).GetAsyncEnumerator())
        {
            Assert.True(await abandoned.MoveNextAsync());
        }

        PromptException tooLong = await Assert.ThrowsAsync<PromptException>(async () =>
        {
            await foreach (GeneratedChunk _ in generator.GenerateAsync(new InstructionRow(new string('x', 4000)), options))
            {
            }
        });
        Assert.StartsWith("The prompt has ", tooLong.Message, StringComparison.Ordinal); // there is no other row
        Assert.Throws<OptionException>(() => generator.GenerateAsync(row, new GenerationOptions { MaximumNewTokens = 0 }));
    }

    [Fact]
    public void Options_that_are_null_are_said()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        Assert.Throws<ArgumentNullException>(() => generator.Generate([new InstructionRow("a")], null!));
        Assert.Throws<ArgumentNullException>(() => generator.Reply([new Conversation([ChatMessage.User("a")])], null!));
        Assert.Throws<ArgumentNullException>(() => generator.GenerateAsync(new InstructionRow("a"), null!));
    }

    [Fact]
    public async Task Many_streams_share_one_model()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        GenerationOptions options = new() { MaximumNewTokens = 12 };
        InstructionRow[] rows = [new("Who are you?"), new("公司在哪里？"), new("Say yes.")];
        string[] expected = [.. rows.Select(row => generator.Generate([row], options)[0].Text)];

        string[] streamed = await Task.WhenAll(Enumerable.Range(0, 9).Select(async i =>
        {
            string text = "";
            await foreach (GeneratedChunk piece in generator.GenerateAsync(rows[i % 3], options))
            {
                text += piece.Text;
            }

            return text;
        }));

        Assert.Equal(Enumerable.Range(0, 9).Select(i => expected[i % 3]), streamed);
    }

    private string NanoWith(string template)
    {
        string folder = Directory.CreateDirectory(_folder.File("model")).FullName;
        foreach (string file in Directory.EnumerateFiles(Repository.Nano))
        {
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)), overwrite: true);
        }

        File.WriteAllText(Path.Combine(folder, "chat_template.jinja"), template);
        return folder;
    }
}
