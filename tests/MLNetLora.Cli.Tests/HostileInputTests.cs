using System.IO.Compression;
using System.Text.RegularExpressions;
using MLNetLora.Cli.Configuration;

namespace MLNetLora.Cli.Tests;

/// <summary>Values and files that nobody would write are answered in our words, not in .NET's.</summary>
public sealed partial class HostileInputTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("--maximum-rows is 0; it must be 1 or more.", "--maximum-rows", "0")]
    [InlineData("it must be 0 or more, and at most 2147483647", "--validation-size", "1e18")]
    [InlineData("--save-steps is -1; it must be 0 or more.", "--save-steps", "-1")]
    [InlineData("--rank is 1e300; it must be at most 2147483647.", "--rank", "1e300")]
    [InlineData("--resume-from is empty; it must be the folder of a run", "--resume-from", "")]
    [InlineData("--resume-from is empty; it must be the folder of a run", "--resume-from", "   ")]
    [InlineData("The name of the configuration is empty", "")]
    [InlineData("holds the character NUL", "--model", "a\0b")]
    [InlineData("--output", "--output", "")]
    [InlineData("--data", "--data", "")]
    [InlineData("--initial-adapter is empty", "--initial-adapter", "")]
    public async Task A_value_that_makes_no_sense_is_refused_for_the_right_reason(string expected, params string[] arguments)
    {
        string[] output = arguments.Contains("--output") ? [] : ["-o", _folder.At("out")];
        string[] model = arguments.Contains("--model") ? [] : ["-m", Repository.Nano];
        string[] data = arguments.Contains("--data") ? [] : ["-d", Repository.Data];
        Outcome run = await Cli.Run(["train", .. arguments, .. model, .. data, .. output]);
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Contains(expected, run.Error, StringComparison.Ordinal);
        AssertOurs(run);
    }

    [Theory]
    [InlineData("run.json", "{\n \"system_prompt\": \"\\ud800\"}", ":2: this is no text")]
    [InlineData("run.json", "{\n \"\\ud800\": 1}", ":2: this is no text")]
    [InlineData("run.json", "{\"output\": \"a\\u0000b\"}", "NUL")]
    [InlineData("run.yaml", "output: \"a\\0b\"", "NUL")]
    [InlineData("run.yaml", "data: [\"a\\0b\"]", "NUL")]
    [InlineData("run.json", "{\"rank\": 1e999}", "it must be")]
    [InlineData("run.json", "[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]", "this is not JSON")]
    public void A_configuration_that_nobody_would_write_is_refused(string name, string text, string expected)
    {
        string path = _folder.Write(name, text);
        MLNetLoraException error = Assert.ThrowsAny<MLNetLoraException>(() =>
        {
            SettingsReader reader = new(CommandKinds.Train);
            reader.AddFile(path);
            reader.Settings();
        });
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        Assert.Contains(path, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_a_terminal_would_obey_is_shown()
    {
        const string escape = "\e]0;owned\a\e[2J\u009b31m\u202e";
        string shown = Output.Visible.Of(escape);
        Assert.Equal("␛]0;owned␇␛[2J\\u009b31m\\u202e", shown);
        Assert.Equal("a\nb\tc", Output.Visible.Of("a\nb\tc"));
        Assert.Equal("a\nb␍c", Output.Visible.Of("a\r\nb\rc"));
        Assert.Equal("a␊b␉c", Output.Visible.OnOneLine("a\nb\tc"));
        string key = _folder.Write("key.yaml", "\"\\e[2Jrank\": 4\n");
        string value = _folder.Write("value.yaml", "rank: \"\\e[2J4\"\n");
        string foreign = _folder.Write("foreign.yaml", "stage: \"\\e[2Jsft\"\n");
        string[][] lines =
        [
            ["train", key], ["train", value], ["train", foreign], ["train", escape], [escape], ["train", "--" + escape], ["inspect", escape],
            ["train", "-m", Repository.Nano, "-d", escape, "-o", _folder.At("out")], ["generate", "-m", escape, "Hello"],
            ["train", "-m", Repository.Nano, "-d", Repository.Data, "-o", _folder.At("out"), "--system-prompt", escape, "--dry-run"],
            ["merge", "--base", escape, "--adapter", escape, "--out", _folder.At("m")], ["completion", escape], ["download", escape],
            ["new-checkpoint", "--size", escape, "--out", "o"],
            ["preflight", "-m", Repository.Nano, "-d", _folder.Write("rows.jsonl", """{"instruction": "\u001b[2J", "output": "\u0007 \u202e"}""")],
        ];
        foreach (string[] line in lines)
        {
            Outcome run = await Cli.Run(line);
            Assert.DoesNotContain(run.Out + run.Error, letter => letter is '\e' or '\a' or '\u009b' or '\u202e');
        }

        using StringWriter colored = new();
        Output.Screen screen = new() { In = TextReader.Null, Out = colored, Error = TextWriter.Null, HasColor = true };
        Assert.Equal(ExitCode.Success, await CommandLine.RunAsync(lines[^1], screen));
        Assert.Contains("␛[2J", colored.ToString(), StringComparison.Ordinal);
        Assert.Contains("\e[32m", colored.ToString(), StringComparison.Ordinal);
        Assert.Contains("␛[2Jrank", (await Cli.Run("train", key)).Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("[]")]
    [InlineData("nothing")]
    [InlineData("{\"r\": {\"a\": []}, \"lora_alpha\": [1e999, true], \"target_modules\": 5, \"rank_pattern\": [{\"a\": 1}, 7]}")]
    [InlineData("{\"r\": 99999999999999999999999999, \"base_model_name_or_path\": {\"a\": {\"b\": [[]]}}}")]
    [InlineData("{\"r\": 1, \"r\": 2}")]
    [InlineData("{\"target_modules\": [{\"a\": \"\\ud800\"}], \"r\": \"\\ud800\"}")]
    [InlineData("DEEP")]
    [InlineData("{\"base_model_name_or_path\": \"\\u001b]0;owned\\u0007\"}")]
    public async Task An_adapter_s_file_that_nobody_would_write_is_looked_at_or_refused(string json)
    {
        json = json == "DEEP" ? $"{{\"r\": {new string('[', 100)}{new string(']', 100)}}}" : json;
        string adapter = _folder.At("adapter");
        Directory.CreateDirectory(adapter);
        File.WriteAllText(Path.Combine(adapter, "adapter_config.json"), json);
        File.WriteAllBytes(Path.Combine(adapter, "adapter_model.safetensors"), [2, 0, 0, 0, 0, 0, 0, 0, (byte)'{', (byte)'}']);
        string zip = _folder.At("model.zip");
        foreach (string record in (string[])[json, "{\"base\": [], \"has_adapter\": \"yes\"}",
            "{\"base\": {\"location\": {}}, \"has_adapter\": 5, \"prompt\": 7}", "{\"has_adapter\": false, \"generation\": [1e999]}"])
        {
            File.Delete(zip);
            using (ZipArchive archive = ZipFile.Open(zip, ZipArchiveMode.Create))
            {
                Add(archive, "model/mlnetlora.json", record);
                Add(archive, "model/adapter_config.json", json);
                archive.CreateEntryFromFile(Path.Combine(adapter, "adapter_model.safetensors"), "model/adapter_model.safetensors");
            }

            foreach (string path in (string[])[adapter, zip])
            {
                foreach (string[] more in (string[][])[[], ["--json"]])
                {
                    Outcome run = await Cli.Run(["inspect", path, .. more]);
                    Assert.True(run.Code is ExitCode.Success or ExitCode.Usage, run.Error);
                    Assert.DoesNotContain('\e', run.Out + run.Error);
                    AssertOurs(run);
                }
            }
        }
    }

    private static void Add(ZipArchive archive, string name, string text)
    {
        using StreamWriter writer = new(archive.CreateEntry(name).Open());
        writer.Write(text);
    }

    private static void AssertOurs(Outcome run)
    {
        Assert.DoesNotContain("--verbose shows", run.Error, StringComparison.Ordinal);
        Assert.DoesNotMatch(Raw(), run.Error);
    }

    // What .NET's own messages say of its types, parameters and resources.
    [GeneratedRegex(@"System\.|\(Parameter '|Exception\)|The node must be|cannot be converted|Null character")]
    private static partial Regex Raw();
}
