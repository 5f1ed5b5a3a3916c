using System.Text.Json;
using MLNetLora.Cli.Output;

namespace MLNetLora.Cli.Tests;

/// <summary>A small adapter, trained once for all tests that answer.</summary>
public sealed class TrainedFixture : IAsyncLifetime, IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public string Output => _folder.At("out");

    public string Adapter => Output;

    public string Zip => Path.Combine(Output, "model.zip");

    public async Task InitializeAsync() => (await Cli.Run("train", "-m", Repository.Nano, "-d", Repository.Data, "-o", Output, "--rank", "4", "--max-steps",
        "1",
        "--system-prompt", "Be brief.", "--set", "max_new_tokens=5")).Succeeded();

    public Task DisposeAsync() => Task.CompletedTask;

    public void Dispose() => _folder.Dispose();
}

public sealed class AnswerTests(TrainedFixture trained) : IClassFixture<TrainedFixture>, IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_question_is_answered_by_base_adapter_and_zip_alike()
    {
        string zip = (await Cli.Run("generate", "-m", trained.Zip, "Hello")).Succeeded().Out;
        Assert.NotEmpty(zip.Trim());
        Assert.Equal(zip, (await Cli.Run("generate", "-m", trained.Adapter, "--max-new-tokens", "5", "Hello")).Succeeded().Out);
        Assert.Equal(zip, (await Cli.Run("generate", "-m", Repository.Nano, "-a", trained.Adapter, "--max-new-tokens", "5", "Hello")).Succeeded().Out);
        string config = _folder.Write("run.yaml", $"model_name_or_path: {Repository.Nano}\noutput_dir: {trained.Output}\nlora_rank: 4\nmax_new_tokens: 5\n");
        Assert.Equal(zip, (await Cli.Run("generate", "-c", config, "Hello")).Succeeded().Out);
    }

    [Fact]
    public async Task Json_has_reason_and_counts()
    {
        Outcome run = (await Cli.Run("generate", "-m", trained.Zip, "--json", "--input", "world", "Hello")).Succeeded();
        using JsonDocument json = JsonDocument.Parse(run.Lines.Single());
        Assert.Equal("Hello", json.RootElement.GetProperty("instruction").GetString());
        Assert.Equal("world", json.RootElement.GetProperty("input").GetString());
        Assert.Equal(5, json.RootElement.GetProperty("new_tokens").GetInt32()); // as it was saved
        Assert.Equal("length", json.RootElement.GetProperty("finish_reason").GetString());
        using JsonDocument shorter = JsonDocument.Parse((await Cli.Run("generate", "-m", trained.Zip, "--json", "--max-new-tokens", "2",
            "Hello")).Succeeded().Out);
        Assert.Equal(2, shorter.RootElement.GetProperty("new_tokens").GetInt32());
    }

    [Fact]
    public async Task Json_has_log_probabilities_where_they_are_asked_for()
    {
        string[] line = ["generate", "-m", trained.Zip, "--json", "--max-new-tokens", "3", "Hello"];
        using JsonDocument json = JsonDocument.Parse((await Cli.Run([.. line, "--top-logprobs", "2"])).Succeeded().Out);
        JsonElement[] tokens = [.. json.RootElement.GetProperty("tokens").EnumerateArray()];
        Assert.Equal(json.RootElement.GetProperty("answer").GetString(), string.Concat(tokens.Select(token => token.GetProperty("token").GetString())));
        Assert.All(tokens, token =>
        {
            Assert.Equal(2, token.GetProperty("top").GetArrayLength());
            Assert.Equal(token.GetProperty("logprob").GetDouble(), token.GetProperty("top")[0].GetProperty("logprob").GetDouble());
            Assert.Equal(token.GetProperty("id").GetInt32(), token.GetProperty("top")[0].GetProperty("id").GetInt32());
        });
        using JsonDocument none = JsonDocument.Parse((await Cli.Run([.. line, "--top-logprobs", "0"])).Succeeded().Out);
        Assert.False(none.RootElement.GetProperty("tokens")[0].TryGetProperty("top", out _));
        Assert.DoesNotContain("\"tokens\"", (await Cli.Run(line)).Succeeded().Out, StringComparison.Ordinal);
        int first = tokens[0].GetProperty("id").GetInt32();
        string other = (await Cli.Run([.. line, "--top-logprobs", "0", "--logit-bias", $"{{{first}: -100}}"])).Succeeded().Out;
        Assert.NotEqual(first, JsonDocument.Parse(other).RootElement.GetProperty("tokens")[0].GetProperty("id").GetInt32());
        using JsonDocument stopped = JsonDocument.Parse((await Cli.Run([.. line, "--stop-token-ids", $"{first}"])).Succeeded().Out);
        Assert.Equal(("", "stop"), (stopped.RootElement.GetProperty("answer").GetString(), stopped.RootElement.GetProperty("finish_reason").GetString()));
    }

    [Theory]
    [InlineData("{x: 1}", "x is 1; it must be behind a token id")]
    [InlineData("{1: many}", "1 is many; it must be a number")]
    [InlineData("7", "--logit-bias is 7; it must be token ids with numbers, such as {151667: -100}")]
    [InlineData("{1: 101}", "--logit-bias is 101 for token 1; it must be between -100 and 100")]
    public async Task A_bias_that_makes_no_sense_is_named(string bias, string message)
    {
        Outcome run = await Cli.Run("generate", "-m", trained.Zip, "--logit-bias", bias, "Hello");
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Contains(message, run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_row_that_ends_with_the_assistant_is_gone_on_with_where_that_is_asked_for()
    {
        const string Begun = """{"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "我"}]}""";
        string rows = _folder.Write("begun.jsonl", Begun);
        string[] line = ["generate", "-m", trained.Zip, "--in", rows];
        using JsonDocument asked = JsonDocument.Parse((await Cli.Run(line)).Succeeded().Out);
        using JsonDocument begun = JsonDocument.Parse((await Cli.Run([.. line, "--continue-final-message"])).Succeeded().Out);
        Assert.Equal(1, asked.RootElement.GetProperty("messages").GetArrayLength());
        Assert.Equal(2, begun.RootElement.GetProperty("messages").GetArrayLength());
        Assert.True(begun.RootElement.TryGetProperty("answer", out _));
    }

    [Fact]
    public async Task Each_line_that_is_piped_in_is_a_question()
    {
        Outcome run = (await Cli.RunWith("你好\n\nHello\n", "generate", "-m", trained.Zip, "--json")).Succeeded();
        Assert.Equal(["你好", "Hello"], run.Lines.Select(line => JsonDocument.Parse(line).RootElement.GetProperty("instruction").GetString()));
        Assert.Contains("你好", run.Out, StringComparison.Ordinal);
        string plain = (await Cli.Run("generate", "-m", trained.Zip, "Hello")).Succeeded().Out.Trim();
        Assert.Equal(plain, (await Cli.RunWith("Hello\n", "generate", "-m", trained.Zip)).Succeeded().Out.Trim());
    }

    [Fact]
    public async Task Rows_of_a_file_are_answered_into_another()
    {
        string answers = _folder.At("deep/answers.jsonl");
        Outcome run = (await Cli.Run("generate", "-m", trained.Zip, "--in", Repository.Data, "--out", answers, "--generation-batch-size", "10")).Succeeded();
        string[] lines = File.ReadAllLines(answers);
        Assert.Equal(24, lines.Length);
        using JsonDocument first = JsonDocument.Parse(lines[0]);
        Assert.Equal("我们公司叫什么名字？", first.RootElement.GetProperty("instruction").GetString());
        Assert.Equal("我们公司叫青岚温室科技。", first.RootElement.GetProperty("output").GetString());
        Assert.Contains($"24 answers are in {answers}", run.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(answers + ".partial"));
        Assert.Empty(run.Out);
    }

    [Fact]
    public async Task Conversations_are_asked_without_the_answer_that_they_end_with()
    {
        string rows = _folder.Write("rows.jsonl",
            """{"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}""");
        Outcome run = (await Cli.Run("generate", "-m", trained.Zip, "--in", rows)).Succeeded();
        JsonElement messages = JsonDocument.Parse(run.Lines.Single()).RootElement.GetProperty("messages");
        Assert.Equal(1, messages.GetArrayLength());
    }

    [Theory]
    [InlineData("rows.jsonl", """{"instruction": "Hello"}""")]
    [InlineData("rows.jsonl", """{"question": "Hello", "answer": ""}""")]
    [InlineData("rows.jsonl", """{"prompt": "Hello"}""")]
    [InlineData("rows.json", """[{"messages": [{"role": "user", "content": "Hello"}]}]""")]
    [InlineData("rows.json", """[{"conversations": [{"from": "human", "value": "Hello"}]}]""")]
    [InlineData("rows.csv", "instruction\nHello\n")]
    [InlineData("rows.txt", "Hello\n")]
    public async Task Questions_need_no_answers(string name, string rows)
    {
        string answered = (await Cli.Run("generate", "-m", trained.Zip, "Hello")).Succeeded().Out.Trim();
        Outcome run = (await Cli.Run("generate", "-m", trained.Zip, "--in", _folder.Write(name, rows))).Succeeded();
        Assert.Equal(answered, JsonDocument.Parse(run.Lines.Single()).RootElement.GetProperty("answer").GetString()!.Trim());
    }

    [Fact]
    public async Task A_row_that_cannot_be_answered_is_said_and_the_others_are_answered()
    {
        string rows = _folder.Write("rows.jsonl", $$"""
            {"instruction": "{{string.Concat(Enumerable.Repeat("word ", 600))}}"}
            {"instruction": "Hello"}
            """);
        Outcome run = await Cli.Run("generate", "-m", trained.Zip, "--in", rows);
        Assert.Equal(ExitCode.Failure, run.Code);
        Assert.Contains("nothing is left for an answer", JsonDocument.Parse(run.Lines[0]).RootElement.GetProperty("error").GetString(),
            StringComparison.Ordinal);
        Assert.NotEmpty(JsonDocument.Parse(run.Lines[1]).RootElement.GetProperty("answer").GetString()!);
        Assert.Contains("1 of 2 rows could not be answered", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_was_answered_before_an_interruption_is_kept()
    {
        using Interruption interruption = new();
        using StringWriter error = new();
        interruption.Interrupt(ExitCode.Interrupted);
        string answers = _folder.At("answers.jsonl");
        Screen screen = new() { In = TextReader.Null, Out = TextWriter.Null, Error = error, Interruption = interruption };
        int code = await CommandLine.RunAsync(["generate", "-m", trained.Zip, "--in", Repository.Data, "--out", answers], screen);
        Assert.Equal(ExitCode.Interrupted, code);
        Assert.False(File.Exists(answers));
        Assert.Contains($"answers so far are in {answers}.partial", error.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("one of them must go", "--in", "rows.json", "Hello")]
    [InlineData("--out is for the rows of --in", "--out", "rows.json", "Hello")]
    [InlineData("--temperature is -1", "--temperature", "-1", "Hello")]
    public async Task What_makes_no_sense_is_refused(string expected, params string[] arguments)
    {
        Outcome run = await Cli.Run(["generate", "-m", Repository.Nano, .. arguments]);
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Contains(expected, run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_chat_remembers_and_forgets()
    {
        const string question = "And then?";
        string[] alone = (await Chat($"{question}\n")).Lines;
        string[] reset = (await Chat($"Hello\n/reset\n{question}\n")).Lines;
        string[] asked = (await Chat($"My name is Anna.\n{question}\n/exit\nnever read\n")).Lines;
        Assert.Single(alone);
        Assert.Equal(alone[0], reset[1]);
        Assert.Equal(2, asked.Length);
        Assert.NotEqual(asked[1], alone[0]); // the model knows what was said before
    }

    [Fact]
    public async Task A_chat_takes_a_system_message_and_names_what_it_does_not_know()
    {
        Outcome run = await Chat("/nope\n/system Answer in Chinese.\nHello\n");
        Assert.Contains("/nope is no command of the chat", run.Error, StringComparison.Ordinal);
        Assert.Single(run.Lines);
        Assert.NotEqual(run.Lines[0], (await Chat("Hello\n")).Lines[0]);
    }

    [Fact]
    public async Task A_chat_in_a_terminal_shows_a_prompt()
    {
        using StringWriter output = new();
        Screen screen = new() { In = new StringReader("/exit\n"), Out = output, Error = TextWriter.Null, IsInteractive = true };
        Assert.Equal(0, await CommandLine.RunAsync(["chat", "-m", Repository.Nano], screen));
        Assert.Contains("/reset forgets", output.ToString(), StringComparison.Ordinal);
        Assert.EndsWith("> ", output.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Measures_come_as_a_table_and_as_json()
    {
        Outcome run = (await Cli.Run("evaluate", "-m", trained.Zip, "-d", Repository.Data, "--maximum-rows", "3", "--json")).Succeeded();
        JsonElement json = JsonDocument.Parse(run.Out).RootElement;
        Assert.Equal(3, json.GetProperty("rows").GetInt32());
        double loss = json.GetProperty("loss").GetDouble();
        Assert.Equal(Math.Exp(loss), json.GetProperty("perplexity").GetDouble(), 1e-9 * Math.Exp(loss));
        Assert.InRange(json.GetProperty("token_accuracy").GetDouble(), 0, 1);
        Assert.InRange(json.GetProperty("rouge_l").GetDouble(), 0, 1);
        Assert.Equal(0, json.GetProperty("failed_rows").GetInt32());
        Outcome table = (await Cli.Run("evaluate", "-m", trained.Adapter, "-d", Repository.Data, "--maximum-rows", "3", "--loss-only")).Succeeded();
        Assert.Matches(@"perplexity +[\d.]+", table.Out);
        Assert.DoesNotContain("rouge", table.Out, StringComparison.Ordinal);
        JsonElement plain = JsonDocument.Parse(
            (await Cli.Run("evaluate", "-m", Repository.Nano, "-d", Repository.Data, "--maximum-rows", "3", "--loss-only",
                "--json")).Succeeded().Out).RootElement;
        Assert.NotEqual(loss, plain.GetProperty("loss").GetDouble());
    }

    [Theory]
    [InlineData("float32", "F32")]
    [InlineData("bf16", "BF16")]
    [InlineData("float16", "F16")]
    public async Task A_merge_has_the_type_that_is_asked_for(string type, string stored)
    {
        string merged = _folder.At("merged");
        (await Cli.Run("merge", "--base", Repository.Nano, "--adapter", trained.Adapter, "--out", merged, "--dtype", type)).Succeeded();
        JsonElement found = JsonDocument.Parse((await Cli.Run("inspect", merged, "--json")).Succeeded().Out).RootElement;
        Assert.Equal([stored], found.GetProperty("types").EnumerateArray().Select(item => item.GetProperty("type").GetString()!));
        Assert.Contains(stored switch { "F32" => "float32", "BF16" => "bfloat16", _ => "float16" }, File.ReadAllText(Path.Combine(merged, "config.json")),
            StringComparison.Ordinal);
        Assert.Equal(
            (await Cli.Run("generate", "-m", trained.Zip, "Hello")).Succeeded().Out,
            (await Cli.Run("generate", "-m", merged, "--max-new-tokens", "5", "Hello")).Succeeded().Out);
    }

    [Fact]
    public async Task A_checkpoint_an_adapter_and_a_zip_are_looked_at()
    {
        Outcome model = (await Cli.Run("inspect", Repository.Nano)).Succeeded();
        Assert.Matches(@"model type +qwen3", model.Out);
        Assert.Matches(@"parameters +4,393,728", model.Out);
        Assert.Matches(@"down_proj +4 +704 +256", model.Out);
        JsonElement adapter = JsonDocument.Parse((await Cli.Run("inspect", trained.Adapter, "--json")).Succeeded().Out).RootElement;
        Assert.Equal((4, 14336), (adapter.GetProperty("r").GetInt32(), adapter.GetProperty("parameters").GetInt32()));
        Assert.Equal("Be brief.", adapter.GetProperty("prompt").GetProperty("system_prompt").GetString());
        JsonElement zip = JsonDocument.Parse((await Cli.Run("inspect", trained.Zip, "--json")).Succeeded().Out).RootElement;
        Assert.Equal("model zip", zip.GetProperty("kind").GetString());
        Assert.Equal(5, zip.GetProperty("generation").GetProperty("maximum_new_tokens").GetInt32());
        string broken = _folder.Write("broken.zip", "no zip");
        Outcome wrong = await Cli.Run("inspect", broken);
        Assert.Equal(ExitCode.Usage, wrong.Code);
        Assert.Contains("broken.zip is not a zip", wrong.Error, StringComparison.Ordinal);
    }

    private static async Task<Outcome> Chat(string input) =>
        (await Cli.RunWith(input, "chat", "-m", Repository.Nano, "--max-new-tokens", "12")).Succeeded();
}
