using MLNetLora.Cli.Configuration;

namespace MLNetLora.Cli.Tests;

/// <summary>The recipes in samples/recipes are read, and make a training that begins.</summary>
public sealed class RecipeTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public static TheoryData<string> Recipes => [.. Directory.EnumerateFiles(Repository.At("samples", "recipes"), "*.yaml")
        .Select(path => Path.GetFileName(path))];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Recipes))]
    public async Task A_recipe_is_read_and_makes_sense(string name) =>
        (await Cli.Run("train", Repository.At("samples", "recipes", name), "--output", _folder.At("out"), "--dry-run")).Succeeded();

    [Theory]
    [InlineData("qwen2.5-0.5b-lora.yaml")]
    [InlineData("qlora-nf4.yaml")]
    [InlineData("llama-factory.yaml", "--dataset-folder", "samples/recipes", "--max-length", "256", "--lora-plus-ratio", "4")]
    public async Task A_recipe_trains(string name, params string[] more)
    {
        string[] data = more.Length > 0 ? [more[0], Repository.At("samples", "recipes"), .. more[2..]] : ["--data", Repository.Data];
        Outcome run = (await Cli.Run(["train", Repository.At("samples", "recipes", name), "--model", Repository.Nano, "--output", _folder.At("out"),
            "--max-steps", "1",
            .. data])).Succeeded();
        Assert.Matches(@"steps +1\b", run.Out);
        Assert.True(File.Exists(_folder.At("out/adapter_model.safetensors")));
    }

    [Fact]
    public void The_recipe_of_the_tutorials_is_that_of_the_sample()
    {
        RunSettings yaml = Settings(Repository.At("samples", "recipes", "qwen1-qlora.yaml"));
        RunSettings json = Settings(Repository.At("samples", "CompanyQa", "recipes", "qwen1-qlora.json"));
        foreach (Setting setting in SettingsTable.All.Where(setting => setting.Name is not ("ModelPath" or "Data" or "Output")))
        {
            Assert.Equal(Values.Show(setting.Get(json)), Values.Show(setting.Get(yaml)));
        }

        Assert.Equal("nf4", Values.Show(yaml.Training.Precision));
    }

    private static RunSettings Settings(string path)
    {
        SettingsReader reader = new(CommandKinds.Train);
        reader.AddFile(path);
        return reader.Settings();
    }
}
