using System.Diagnostics;
using System.Text.Json;
using MLNetLora.Text;

namespace MLNetLora.Tests.Text;

public sealed class ChatTemplateTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public static TheoryData<int> Cases => [.. Enumerable.Range(0, JinjaCases.All.Length)];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Cases))]
    public void Templates_render_as_jinja_renders_them(int number)
    {
        (string template, string expected) = JinjaCases.All[number];
        Dictionary<string, object?> variables = Json(JinjaCases.Context).EnumerateObject().ToDictionary(field => field.Name, field => (object?)field.Value);
        Assert.Equal(expected, ChatTemplate.Parse(template).Render(Json("[]"), variables: variables).Text);
    }

    [Theory]
    [InlineData("a\n{% if x %}b", "line 2: {% endif %} is missing")]
    [InlineData("{% for x in y %}{% endif %}", "line 1: {% endif %} closes nothing")]
    [InlineData("\n\n{{ a", "line 3: a {{ is not closed with }}")]
    [InlineData("{# a", "line 1: a comment {# is not closed")]
    [InlineData("{% raw %}{{", "is not closed with {% endraw %}")]
    [InlineData("{{ 'a }}", "a string is not closed with '")]
    [InlineData("{{ a ? b }}", "the character '?' has no meaning here")]
    [InlineData("{{ (a] }}", "']' closes nothing")]
    [InlineData("{{ a b }}", "}} is expected, not 'b'")]
    [InlineData("{{ }}", "}} stands where a value is expected")]
    [InlineData("{% include 'x' %}", "the tag {% include %} is not known")]
    [InlineData("{% extends 'x' %}", "the tag {% extends %} is not known")]
    [InlineData("{% break %}", "{% break %} stands outside a loop")]
    [InlineData("{% set true = 1 %}", "'true' cannot be given a value")]
    [InlineData("{{ 99999999999999999999 }}", "is too large")]
    [InlineData("{{ f(a=1, 2) }}", "an argument without a name stands behind one with a name")]
    public void What_is_not_jinja_is_refused_with_its_line(string template, string expected) =>
        Assert.Contains(expected, Assert.Throws<TemplateException>(() => ChatTemplate.Parse(template)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("\n{{ missing.field }}", "line 2: 'missing' is undefined")]
    [InlineData("{{ missing() }}", "'missing' is undefined")]
    [InlineData("{{ missing + 'a' }}", "'missing' is undefined")]
    [InlineData("{{ 'a' + none }}", "'+' does not join a text and a none")]
    [InlineData("{{ 'a' < 1 }}", "a text and a whole number have no order")]
    [InlineData("{{ raise_exception('No user query.') }}", "line 1: No user query.")]
    [InlineData("{% set x = [] %}{{ x.append(1) }}", "'append' would change a value")]
    [InlineData("{% set x = {} %}{% set x.y = 1 %}", "'x' is not a namespace")]
    [InlineData("{{ ''.__class__ }}{{ ''.__class__.__mro__ }}", "'__class__' is undefined")]
    [InlineData("{{ 1 | nonsense }}", "the filter 'nonsense' is not known")]
    [InlineData("{{ 1 is nonsense }}", "the test 'nonsense' is not known")]
    [InlineData("{{ 1 // 0 }}", "division by 0")]
    [InlineData("{{ 9223372036854775807 + 1 }}", "a number is too large")]
    [InlineData("{{ [1, 2] | map('upper') | length }}", "a generator has no length")]
    [InlineData("{% for a, b in [[1]] %}{% endfor %}", "1 values cannot be given to 2 names")]
    [InlineData("{{ 5 | list }}", "a whole number has no elements to loop over")]
    [InlineData("{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "the macro m takes 1 arguments, not 2")]
    [InlineData("{{ {[1]: 2} }}", "a list cannot be a key")]
    public void What_a_template_cannot_do_is_said_with_its_line(string template, string expected) =>
        Assert.Contains(expected, Fails(template), StringComparison.Ordinal);

    [Theory]
    [InlineData("{% set n = namespace(s='aaaaaaaa') %}{% for i in range(100) %}{% set n.s = n.s ~ n.s %}{% endfor %}")]
    [InlineData("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")]
    [InlineData("{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}")]
    [InlineData("{{ 'x' * 9223372036854775807 }}")]
    [InlineData("{{ [0] * 999999999999 }}")]
    [InlineData("{{ range(9223372036854775807) }}")]
    [InlineData("{{ '%999999999d' % 1 }}")]
    [InlineData("{{ 'x' | center(99999999999) | center(99999999999) | length > 99999 and 1 // 0 }}")]
    [InlineData("{{ '1'.zfill(9999999999) }}")]
    [InlineData("{{ [1] | batch(2000000000, 0) | list }}")]
    [InlineData("{{ [1] | slice(2000000000) | list }}")]
    [InlineData("{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}")]
    [InlineData("{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x | tojson }}")]
    [InlineData("{% set n = namespace(x=[], y=[]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% set n.y = [n.y] %}{% endfor %}{{ n.x == n.y }}")]
    [InlineData("{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}")]
    [InlineData("{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}")]
    [InlineData("{% set n = namespace(x='a') %}{% for i in range(30) %}{% set n.x = n.x.replace('a', 'aaaa') %}{% endfor %}")]
    public void No_template_can_take_all_time_or_memory(string template)
    {
        Stopwatch watch = Stopwatch.StartNew();
        Assert.Contains("line 1", Fails(template), StringComparison.Ordinal);
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(20), $"{watch.Elapsed}");
    }

    [Fact]
    public void Nesting_ends_before_the_stack_does()
    {
        foreach (string template in (string[])[
            "{{ " + new string('(', 100_000) + "1", "{{ " + new string('[', 100_000), "{{ " + string.Concat(Enumerable.Repeat("not ", 100_000)) + "1 }}",
            "{{ " + new string('-', 100_000) + "1 }}", string.Concat(Enumerable.Repeat("{% if 1 %}", 100_000)), "{{ "
                + string.Concat(Enumerable.Repeat("1 if 1 else ", 100_000)) + "1 }}",
            "{{ 1" + string.Concat(Enumerable.Repeat("+1", 100_000)) + " }}", "{{ a" + string.Concat(Enumerable.Repeat(".a", 100_000)) + " }}", "{{ 1"
                + string.Concat(Enumerable.Repeat("|d", 100_000)) + " }}",
            "{% filter d" + string.Concat(Enumerable.Repeat("|d", 100_000)) + " %}x{% endfilter %}", "{{ 1" + string.Concat(Enumerable.Repeat("**1", 100_000))
                + " }}"])
        {
            Assert.Throws<TemplateException>(() => ChatTemplate.Parse(template).Render([]));
        }
    }

    [Fact]
    public void Generation_marks_are_given_with_their_places()
    {
        ChatTemplate template = ChatTemplate.Parse("{% for m in messages %}<{{ m.role }}>{% generation %}{{ m.content }}{% endgeneration %}\n{% endfor %}");
        RenderedTemplate rendered = template.Render(Json("[{\"role\":\"user\",\"content\":\"\"},{\"role\":\"assistant\",\"content\":\"a\\ud83d\\ude00\"}]"));
        Assert.Equal(["", "a😀"], rendered.GenerationSpans.Select(span => rendered.Text.Substring(span.Start, span.Length)));
        Assert.Empty(ChatTemplate.Parse("{{ messages }}").Render(Json("[]")).GenerationSpans);
    }

    [Fact]
    public void Time_is_written_as_python_writes_it()
    {
        string text = ChatTemplate.Parse("{{ strftime_now('%Y-%m-%d|%-d %b %y|%B|%A|%j|%%') }}").Render([]);
        DateTimeOffset now = DateTimeOffset.Now;
        Assert.Equal(string.Create(System.Globalization.CultureInfo.InvariantCulture,
            $"{now:yyyy-MM-dd}|{now.Day} {now:MMM} {now:yy}|{now:MMMM}|{now:dddd}|{now.DayOfYear:000}|%"), text);
    }

    [Fact]
    public void Messages_get_the_field_names_of_transformers()
    {
        ChatMessage call = ChatMessage.Assistant("",
            "hm") with
        { ToolCalls = [new ToolCall("f", "{\"b\":1,\"a\":\"天\"}"), new ToolCall("g", "not json", "c1")] };
        string text = ChatTemplate.Parse("{{ messages | tojson }}{{ tools | tojson }}{{ x }}").Render([ChatMessage.User("q"), call], [Json("{\"t\":1}")],
            variables: new Dictionary<string, object?> { ["x"] = new[] { 1, 2 } });
        Assert.Equal(
            "[{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"\", \"reasoning_content\": \"hm\", \"tool_calls\": ["
            + "{\"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": {\"b\": 1, \"a\": \"天\"}}}, {\"id\": \"c1\", \"type\": \"function\", "
            + "\"function\": {\"name\": \"g\", \"arguments\": \"not json\"}}]}]"
            + "[{\"t\": 1}][1, 2]",
            text);
        Assert.Contains("is a Object", Assert.Throws<TemplateException>(
            () => ChatTemplate.Parse("").Render([], variables: new Dictionary<string, object?> { ["x"] = new object() })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_folder_gives_its_own_template()
    {
        Assert.Equal("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", Load());
        File.WriteAllText(_folder.File("config.json"), "{\"model_type\":\"qwen\"}");
        Assert.StartsWith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nq", Load(), StringComparison.Ordinal);
        File.WriteAllText(_folder.File("tokenizer_config.json"),
            "{\"eos_token\":{\"content\":\"<E>\"},\"bos_token\":null,\"add_bos_token\":false,\"chat_template\":\"c{{ eos_token }}{{ bos_token is defined "
            + "}}\"}");
        Assert.Equal("c<E>False", Load());
        File.WriteAllText(_folder.File("tokenizer_config.json"),
            "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"tools\"},{\"name\":\"default\",\"template\":\"plain\"}]}");
        Assert.Equal("plain", Load());
        Assert.Equal("tools", ChatTemplate.Load(_folder.Path).Render([ChatMessage.User("q")], [Json("{}")]));
        File.WriteAllText(_folder.File("chat_template.jinja"), "file");
        Assert.Equal("file", Load());
        File.WriteAllText(_folder.File("chat_template.jinja"), "a\n{% if %}");
        string message = Assert.Throws<TemplateException>(Load).Message;
        Assert.Contains(_folder.File("chat_template.jinja"), message, StringComparison.Ordinal);
        Assert.Contains("line 2", message, StringComparison.Ordinal);
        File.Delete(_folder.File("chat_template.jinja"));
        File.WriteAllText(_folder.File("tokenizer_config.json"), "{\"chat_template\":[{\"name\":\"rag\",\"template\":\"x\"}]}");
        Assert.Contains("has rag, but no \"default\"", Assert.Throws<TokenizerException>(Load).Message, StringComparison.Ordinal);
    }

    private string Load() => ChatTemplate.Load(_folder.Path).Render([ChatMessage.User("q")], addGenerationPrompt: true);

    private static string Fails(string template) => Assert.Throws<TemplateException>(() => ChatTemplate.Parse(template).Render([])).Message;

    private static JsonElement Json(string text)
    {
        using JsonDocument document = JsonDocument.Parse(text);
        return document.RootElement.Clone();
    }

    [Theory]
    [InlineData("""[{"name":"default","template":"a"},{"name":"default","template":"b"}]""")]
    [InlineData("""[{"name":null,"template":"a"}]""")]
    [InlineData("""[{"name":"default","template":null}]""")]
    [InlineData("""{"default":null}""")]
    [InlineData("""[7]""")]
    public void Named_templates_that_are_wrong_are_a_typed_error(string templates)
    {
        File.WriteAllText(_folder.File("tokenizer_config.json"), $$"""{"chat_template":{{templates}}}""");
        TokenizerException error = Assert.Throws<TokenizerException>(() => ChatTemplate.Load(_folder.Path));
        Assert.Contains("tokenizer_config.json", error.Message, StringComparison.Ordinal);
    }
}
