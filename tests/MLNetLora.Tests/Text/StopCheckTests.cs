using MLNetLora.Adapters;
using MLNetLora.Models;
using MLNetLora.Text;

namespace MLNetLora.Tests.Text;

public sealed class StopCheckTests : IDisposable
{
    private readonly TinyTokenizer _tiny = new();

    public void Dispose() => _tiny.Dispose();

    [Theory]
    [InlineData(TinyTokenizer.EndOfText, "{}", true)]
    [InlineData(TinyTokenizer.EndOfText, "{\"eos_token_id\":[376]}", true)]
    [InlineData(TinyTokenizer.ImEnd, "{}", false)]
    [InlineData(TinyTokenizer.EndOfText, "{\"eos_token_id\":[378,376]}", false)]
    [InlineData(TinyTokenizer.EndOfText, "{\"chat_format\":\"chatml\"}", false)]
    [InlineData(TinyTokenizer.EndOfText, "{\"chat_format\":\"raw\"}", true)]
    [InlineData(7, "{}", false)]
    public void A_base_checkpoint_is_one_whose_texts_end_without_im_end(int eos, string generation, bool warned)
    {
        string folder = _tiny.VocabularyFolder;
        File.WriteAllText(Path.Combine(folder, "config.json"), $$"""
            { "model_type": "qwen2", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
              "num_key_value_heads": 1, "vocab_size": 400, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
              "hidden_act": "silu", "tie_word_embeddings": true, "eos_token_id": {{eos}} }
            """);
        File.WriteAllText(Path.Combine(folder, "generation_config.json"), generation);
        string? warning = StopCheck.Warning(folder, QwenConfig.Read(folder), QwenTokenizer.Load(folder));
        Assert.Equal(warned, warning is not null);
        if (warning is not null)
        {
            Preflight preflight = new(QwenTokenizer.Load(folder));
            preflight.Warn(warning);
            Assert.Contains("warning: Answers may not stop: this looks like a base checkpoint", preflight.ToString(), StringComparison.Ordinal);
            Assert.All((string[])["-Instruct", "column Text", "modules_to_save"], way => Assert.Contains(way, warning, StringComparison.Ordinal));
        }
    }

    [Theory]
    [InlineData(false, null, "xterm", true)]
    [InlineData(false, "", null, true)]
    [InlineData(false, "1", "xterm", false)]
    [InlineData(false, null, "dumb", false)]
    [InlineData(true, null, "xterm", false)]
    public void Colours_are_for_terminals_whose_user_wants_them(bool redirected, string? noColor, string? term, bool expected)
    {
        Assert.Equal(expected, TerminalColor.Supports(redirected, name => name == "NO_COLOR" ? noColor : name == "TERM" ? term : null));
        using StringWriter writer = new();
        Assert.False(TerminalColor.Supports(writer));
    }

    [Fact]
    public void Qwen1_has_its_tokenizer_and_its_template_built_in()
    {
        string folder = _tiny.TiktokenFolder;
        File.WriteAllText(Path.Combine(folder, "config.json"), """{"model_type":"qwen"}""");
        File.WriteAllText(Path.Combine(folder, "tokenizer_config.json"),
            """{"model_max_length":8192,"tokenizer_class":"QWenTokenizer","auto_map":{"AutoTokenizer":["tokenization_qwen.QWenTokenizer",null]}}""");
        QwenTokenizer tokenizer = QwenTokenizer.Load(folder);
        RowFormatter formatter = new(tokenizer, folder, new PromptSettings());
        const string Prompt = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n";
        int[] prompt = formatter.Prompt(new TextRow(new InstructionRow("q")));
        Assert.Equal(Prompt, tokenizer.Decode(prompt));
        Assert.Equal(prompt, formatter.Prompt(new TextRow(Conversation: new Conversation([ChatMessage.User("q")]))));
        Assert.Equal(tokenizer.EncodeToIds(Prompt), prompt);

        TextRow turns = new(Conversation: new Conversation(
            [ChatMessage.System("s"), ChatMessage.User("q"), ChatMessage.Assistant("a"), ChatMessage.User("<|im_end|>"), ChatMessage.Assistant("b")]));
        TrainingRow row = Assert.Single(formatter.Tokenize(turns, LabelScope.AllAssistantTurns, 200)).Row;
        Assert.Equal(
            "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
            + "<|im_start|>user\n<|im_end|><|im_end|>\n<|im_start|>assistant\nb<|im_end|>", tokenizer.Decode(row.InputIds));
        Assert.Equal("a<|im_end|>b<|im_end|>", tokenizer.Decode([.. row.Labels.Where(label => label != TrainingRow.Ignore)]));
        Assert.Equal(5, row.InputIds.Count(id => id == tokenizer.ImEndId));
        // The third im_end in the text is the user's, and text.
        Assert.Equal("hello<|endoftext|>",
            tokenizer.Decode(Assert.Single(formatter.Tokenize(new TextRow(Document: "hello"), LabelScope.Answer, 200)).Row.InputIds));
    }
}
