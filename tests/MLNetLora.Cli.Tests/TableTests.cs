using System.CommandLine;
using MLNetLora.Adapters;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;
using MLNetLora.Inference;
using MLNetLora.Runtime;
using MLNetLora.TextGeneration;

namespace MLNetLora.Cli.Tests;

/// <summary>The table, the keys of files, the options of the line and the library say the same.</summary>
public sealed class TableTests
{
    // What a program sets, and no file can.
    private static readonly string[] s_ofPrograms =
    [
        nameof(QwenLoraTrainer.Options.ValidationSet), nameof(QwenLoraTrainer.Options.ProgressCallback), nameof(QwenLoraTrainer.Options.Callbacks),
        nameof(QwenLoraTrainer.Options.CancellationToken), nameof(QwenLoraTrainer.Options.Generation), nameof(QwenLoraTrainer.Options.OutputFolder),
    ];

    public static TheoryData<string> Settings => [.. SettingsTable.All.Select(setting => setting.Name)];

    [Fact]
    public void Every_option_of_the_library_is_in_the_table()
    {
        IEnumerable<string> training = typeof(QwenLoraTrainer.Options).GetProperties().Where(property => property.SetMethod?.IsPublic == true)
            .Select(property => property.Name).Except(s_ofPrograms);
        IEnumerable<string> answers = typeof(GenerationOptions).GetProperties().Select(property => property.Name is "Seed" or "BatchSize"
            ? "Generation" + property.Name
            : property.Name);
        Assert.Empty(training.Concat(answers).Except([nameof(GenerationOptions.Constraint)]).Except(SettingsTable.All.Select(setting => setting.Name)));
    }

    [Fact]
    public void Every_setting_of_the_command_line_s_own_is_in_the_table()
    {
        string[] between = [nameof(RunSettings.Generation), nameof(RunSettings.Evaluates), nameof(RunSettings.MixedPrecision)];
        Assert.Empty(typeof(RunSettings).GetProperties().Where(property => property.SetMethod is not null).Select(property => property.Name)
            .Except(SettingsTable.All.Select(setting => setting.Name)).Except(between));
    }

    [Fact]
    public void A_key_means_one_thing_to_a_command()
    {
        foreach (CommandKinds command in (CommandKinds[])[CommandKinds.Train, CommandKinds.Preflight, CommandKinds.Evaluate, CommandKinds.Generate,
            CommandKinds.Chat])
        {
            string[] names =
            [
                .. SettingsTable.Of(command).SelectMany(setting => setting.Aliases.Select(alias => alias.Key).Prepend(setting.Name)),
                .. ForeignKey.All.Select(foreign => foreign.Key),
            ];
            Assert.Empty(names.GroupBy(Casing.Bare).Where(group => group.Count() > 1).Select(group => group.Key));
        }

        string[] combined = [.. CombinedKeys.All.SelectMany(keys => keys.Keys).Select(Casing.Bare)];
        Assert.Equal(combined.Length, combined.Distinct().Count());
        Assert.Empty(combined.Intersect(ForeignKey.All.Select(foreign => Casing.Bare(foreign.Key))));
        Assert.Empty(combined.Intersect(SettingsTable.All.SelectMany(setting => setting.Aliases).Select(alias => Casing.Bare(alias.Key))));
    }

    [Theory]
    [InlineData("train", CommandKinds.Train)]
    [InlineData("preflight", CommandKinds.Preflight)]
    [InlineData("evaluate", CommandKinds.Evaluate)]
    [InlineData("generate", CommandKinds.Generate)]
    [InlineData("chat", CommandKinds.Chat)]
    internal async Task A_command_s_line_and_help_have_its_settings(string name, CommandKinds kind)
    {
        RootCommand root = CommandLine.Root(new Screen { In = TextReader.Null, Out = TextWriter.Null, Error = TextWriter.Null });
        SettingsCommand command = Assert.IsType<SettingsCommand>(root.Subcommands.Single(sub => sub.Name == name));
        Assert.Equal(
            SettingsTable.Of(kind).Select(setting => setting.Option),
            command.Options.Where(option => command.Settings.Of(option) is not null).Select(option => option.Name));
        string help = (await Cli.Run(name, "--help")).Succeeded().Out;
        Assert.All(SettingsTable.Of(kind), setting =>
        {
            Assert.Contains(setting.Option, help, StringComparison.Ordinal);
            Assert.Contains(setting.Description.Split(' ')[0], help, StringComparison.Ordinal);
        });
    }

    [Theory]
    [MemberData(nameof(Settings))]
    public void A_setting_can_be_said_in_a_file_and_on_the_line(string name)
    {
        Setting setting = SettingsTable.All.Single(other => other.Name == name);
        CommandKinds command = setting.On.HasFlag(CommandKinds.Train) ? CommandKinds.Train : CommandKinds.Generate;
        string text = Sample(setting);
        object? standard = setting.Get(new RunSettings());
        foreach (string spelling in (string[])[setting.Name, setting.Key, Casing.Kebab(setting.Name)])
        {
            using TemporaryFolder folder = new();
            SettingsReader file = new(command);
            file.AddFile(folder.Write("run.yaml", $"device: cuda\n{spelling}: {text}\n".Replace(setting.Key == "device" ? "device: cuda\n" : "\0", "")));
            RunSettings settings = new();
            file.Apply(settings);
            Assert.NotEqual(Values.Show(standard), Values.Show(setting.Get(settings)));

            SettingsReader line = new(command);
            line.Add([new Given(setting.Option, ConfigFile.Text(text))]);
            RunSettings other = new();
            line.Apply(other);
            Assert.Equal(Values.Show(setting.Get(settings)), Values.Show(setting.Get(other)));
        }
    }

    [Fact]
    public void Descriptions_are_sentences_of_their_own()
    {
        Assert.All(SettingsTable.All, setting =>
        {
            Assert.True(char.IsUpper(setting.Description[0]) || char.IsDigit(setting.Description[0]), setting.Description);
            Assert.False(setting.Description.EndsWith('.'), setting.Description);
        });
        Assert.All(ForeignKey.All, foreign => Assert.False(string.IsNullOrWhiteSpace(foreign.Reason)));
    }

    /// <summary>A value that is not the default.</summary>
    private static string Sample(Setting setting)
    {
        Type type = Nullable.GetUnderlyingType(setting.Type) ?? setting.Type;
        return setting.Name switch
        {
            nameof(QwenLoraTrainer.Options.Optimizer) => "lion",
            _ when type == typeof(bool) => setting.Default == "true" ? "false" : "true",
            _ when type == typeof(int) => "7",
            _ when type == typeof(double) || type == typeof(float) => "0.25",
            _ when type.IsEnum => Values.Names(type).Last(member => member != setting.Default && !(setting.Name == "Precision" && member == "int4")),
            _ when type == typeof(TargetModules) => "[k_proj]",
            _ when type == typeof(Device) => "cuda:1",
            _ when type == typeof(IReadOnlyList<int>) => "[1, 2]",
            _ when type == typeof(IReadOnlyDictionary<int, float>) => "{7: -1.5}",
            _ when type == typeof(IReadOnlyDictionary<string, int>) => "{k_proj: 4}",
            _ when type == typeof(IReadOnlyDictionary<string, double>) => "{k_proj: 4.5}",
            _ => "something",
        };
    }
}
