using MLNetLora.Cli.Configuration;

namespace MLNetLora.Cli.Tests;

public sealed class ConfigFileTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("long.yaml", "", "key{0}: 1\n", "")]
    [InlineData("long.json", "{", "\"key{0}\": 1,\n", "}")]
    public void Many_keys_are_read_and_the_second_of_one_is_found(string name, string begin, string line, string end)
    {
        const int count = 60_000; // as many as fit; comparing each with each would take minutes
        string lines = string.Concat(Enumerable.Range(0, count).Select(i => line.Replace("{0}", $"{i}", StringComparison.Ordinal)));
        MapValue map = ConfigFile.Read(_folder.Write(name, begin + lines + end));
        Assert.Equal((count, count), (map.Items.Count, map.Items[^1].Value.Place.Line));
        string twice = begin + lines + line.Replace("{0}", "7", StringComparison.Ordinal) + end;
        string message = Assert.Throws<ConfigException>(() => ConfigFile.Read(_folder.Write(name, twice))).Message;
        Assert.EndsWith(":60001: key7 is there twice; it is in line 8 too.", message, StringComparison.Ordinal);
    }

    [Fact]
    public void Yaml_and_json_say_the_same_and_know_their_lines()
    {
        MapValue yaml = ConfigFile.Read(_folder.Write("a.yaml",
            "# comment\nrank: 8\n\ntarget_modules:\n  - q_proj\n  - v_proj\nlearning_rate: 1e-4\nname: \"7\"\n"));
        MapValue json = ConfigFile.Read(_folder.Write("a.json",
            "{\n  \"rank\": 8, // comment\n\n  \"target_modules\": [\"q_proj\",\n    \"v_proj\"],\n  \"learning_rate\": 1e-4,\n\t\"name\": \"7\",\n}\n"));
        Assert.Equal(yaml.Items.Select(item => item.Key), json.Items.Select(item => item.Key));
        Assert.Equal([2, 4, 7, 8], yaml.Items.Select(item => item.Value.Place.Line));
        Assert.Equal([2, 4, 6, 7], json.Items.Select(item => item.Value.Place.Line));
        Assert.Equal(8, Values.To(typeof(int), new Given("rank", json.Items[0].Value)));
        Assert.Equal(["q_proj", "v_proj"], Values.Texts(new Given("target_modules", yaml.Items[1].Value)));
        Assert.Equal(1e-4, Values.To(typeof(double), new Given("learning_rate", yaml.Items[2].Value)));
        Assert.Throws<ConfigException>(() => Values.To(typeof(int), new Given("name", yaml.Items[3].Value)));
        Assert.Throws<ConfigException>(() => Values.To(typeof(int), new Given("name", json.Items[3].Value)));
    }

    [Theory]
    [InlineData("a.yaml", "rank: 8\nalpha: 2\nrank: 9\n", "a.yaml:3: rank is there twice; it is in line 1 too")]
    [InlineData("a.json", "{\n\"rank\": 8,\n\"rank\": 9}", "a.json:3: rank is there twice; it is in line 2 too")]
    [InlineData("a.yaml", "rank: [8\n", "this is not YAML")]
    [InlineData("a.json", "{\"rank\": }", "this is not JSON")]
    [InlineData("a.yaml", "a: &x [1]\nb: *x\n", "a.yaml:2: aliases (*name) are not read")]
    [InlineData("a.yaml", "rank: 8\n---\nrank: 9\n", "second document")]
    [InlineData("a.yaml", "", "is empty")]
    [InlineData("a.yaml", "# nothing\n", "is empty")]
    [InlineData("a.yaml", "- rank\n", "must be keys and values")]
    [InlineData("a.yaml", "a: [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]\n", "nested deeper")]
    public void What_is_wrong_with_a_file_is_said_with_its_line(string name, string text, string expected)
    {
        ConfigException error = Assert.Throws<ConfigException>(() => ConfigFile.Read(_folder.Write(name, text)));
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        Assert.Contains(name, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_missing_file_a_folder_and_a_long_file_are_named()
    {
        Assert.Contains("nowhere.yaml", Assert.Throws<ConfigException>(() => ConfigFile.Read(_folder.At("nowhere.yaml"))).Message, StringComparison.Ordinal);
        Assert.Contains("is a folder", Assert.Throws<ConfigException>(() => ConfigFile.Read(_folder.Path)).Message, StringComparison.Ordinal);
        string path = _folder.Write("long.yaml", "a: " + new string('x', 1 << 20));
        Assert.Contains("more than 1048576 bytes", Assert.Throws<ConfigException>(() => ConfigFile.Read(path)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("true", true)]
    [InlineData("True", true)]
    [InlineData("yes", true)]
    [InlineData("off", false)]
    public void Flags_are_those_of_YAML(string text, bool expected) => Assert.Equal(expected, Values.Flag(Word(text)));

    [Theory]
    [InlineData("3", 3)]
    [InlineData("3.0", 3)]
    [InlineData("1e3", 1000)]
    public void Whole_numbers_may_have_a_point(string text, int expected) => Assert.Equal(expected, Values.To(typeof(int), Word(text)));

    [Theory]
    [InlineData(typeof(int), "3.5", "a whole number")]
    [InlineData(typeof(int), "99999999999", "at most 2147483647")]
    [InlineData(typeof(double), "nan", "a number")]
    [InlineData(typeof(double), "1,5", "a number")]
    [InlineData(typeof(bool), "maybe", "true or false")]
    [InlineData(typeof(Adapters.LoraBias), "some", "none, all or lora_only")]
    [InlineData(typeof(Runtime.Device), "tpu", "cpu, cuda or cuda:N")]
    public void A_value_of_another_kind_is_an_error_that_says_what_is_expected(Type type, string text, string expected)
    {
        ConfigException error = Assert.Throws<ConfigException>(() => Values.To(type,
            new Given("some_key", new ScalarValue(text, false, new Place("run.yaml", 7)))));
        Assert.StartsWith($"run.yaml:7: some_key is {text}; it must be {expected}", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("all", "all-linear")]
    [InlineData("all-linear", "all-linear")]
    [InlineData("q_proj", "[q_proj]")]
    [InlineData("q_proj, v_proj", "[q_proj, v_proj]")]
    [InlineData(@".*\.[0-3]\..*q_proj", @".*\.[0-3]\..*q_proj")]
    public void Targets_are_names_all_or_an_expression(string text, string expected) => Assert.Equal(expected, Values.Show(Values.Targets(Word(text))));

    private static Given Word(string text) => new("key", new ScalarValue(text, IsQuoted: false, Place.CommandLine));
}
