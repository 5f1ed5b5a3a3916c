using System.Text.RegularExpressions;
using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.Tests;

/// <summary>What the two READMEs say is so: their code compiles and runs, their commands name projects that exist.</summary>
public sealed partial class ReadmeTests
{
    public static TheoryData<string> Readmes => ["README.md", "README.zh-CN.md"];

    [Theory]
    [MemberData(nameof(Readmes))]
    public void The_code_is_the_examples_that_the_tests_compile(string name)
    {
        string[] examples = [nameof(ReadmeExample), nameof(ReadmeTokenizerExample)];
        Assert.Equal(
            examples.Select(Example),
            CSharpBlock().Matches(Read(name)).Select(block => WithoutComments(block.Groups[1].Value.TrimEnd())));
    }

    [Fact]
    public async Task The_code_runs()
    {
        using TemporaryFolder folder = new();
        File.Copy(Path.Combine(Repository.Root, "samples", "CompanyQa", "company_data.json"), folder.File("company_data.json"));
        await ReadmeExample.Run(name => name.StartsWith("Qwen/", StringComparison.Ordinal) ? Repository.Nano : folder.File(name));
        Assert.True(File.Exists(folder.File("qwen_company_lora/adapter_model.safetensors")));
        Assert.Equal("qwen3", Checkpoint.Open(folder.File("qwen_company_merged")).Config.ModelType);
        ReadmeTokenizerExample.Run(name => Path.Combine(Repository.Root, name));
    }

    [Theory]
    [MemberData(nameof(Readmes))]
    public void The_commands_name_projects_that_exist(string name)
    {
        string[] projects = [.. Project().Matches(Read(name)).Select(match => match.Groups[1].Value)];
        Assert.Contains("samples/CompanyQa", projects);
        Assert.All(projects, project => Assert.True(Directory.Exists(Path.Combine(Repository.Root, project)), project));
        Assert.Contains("\ndotnet test -c Release\n", Read(name), StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Readmes))]
    public void The_types_that_are_named_can_be_used(string name)
    {
        Dictionary<string, bool> types = typeof(Checkpoint).Assembly.GetTypes()
            .Where(type => !type.IsNested)
            .GroupBy(type => type.Name)
            .ToDictionary(types => types.Key, types => types.Any(type => type.IsVisible));
        string[] named = [.. Code().Matches(Read(name)).Select(match => match.Groups[1].Value).Distinct()];
        Assert.Contains("QwenTokenizer", named);
        Assert.DoesNotContain(named, type => types.TryGetValue(type, out bool isVisible) && !isVisible);
    }

    /// <summary>The code of an example between its marks, as a page shows it.</summary>
    internal static string Example(string example)
    {
        string source = File.ReadAllText(Path.Combine(Repository.Root, "tests", "MLNetLora.Tests", example + ".cs"));
        string[] lines = source.Split("// README begin")[1].Split("// README end")[0].Split('\n');
        string usings = string.Join('\n', source.Split('\n').TakeWhile(line => line.StartsWith("using ", StringComparison.Ordinal)));
        return WithoutComments(usings + "\n\n" + string.Join('\n', lines[1..^1].Select(line => Wrapped().Replace(line.Length > 8 ? line[8..] : "", "$1"))));
    }

    private static string Read(string name) => File.ReadAllText(Path.Combine(Repository.Root, name)).ReplaceLineEndings("\n");

    // The Chinese README has Chinese comments.
    internal static string WithoutComments(string code) => Comment().Replace(code.ReplaceLineEndings("\n"), "");

    [GeneratedRegex(@"In\((""[^""]*"")\)")]
    private static partial Regex Wrapped();

    [GeneratedRegex(@"`([A-Z]\w+)(?:`|\(|\.(?!cs`))")] // the name of a file is none of a type
    private static partial Regex Code();

    [GeneratedRegex(@"```csharp\n(.*?)```", RegexOptions.Singleline)]
    internal static partial Regex CSharpBlock();

    [GeneratedRegex(@" // .*")]
    private static partial Regex Comment();

    [GeneratedRegex(@"--project ([\w./-]+)")]
    private static partial Regex Project();
}
