using System.Reflection;
using System.Text.RegularExpressions;
using MLNetLora.Cli.Configuration;
using MLNetLora.Inference;
using MLNetLora.TextGeneration;

namespace MLNetLora.Cli.Tests;

/// <summary>What the library says of its options is said in the words of the command line: those of the table.</summary>
public sealed partial class OptionWordsTests : IDisposable
{
    // What no message names, since a program gives it.
    private static readonly string[] s_ofPrograms =
    [
        nameof(QwenLoraTrainer.Options.ProgressCallback), nameof(QwenLoraTrainer.Options.Callbacks), nameof(QwenLoraTrainer.Options.CancellationToken),
        nameof(QwenLoraTrainer.Options.Generation), nameof(GenerationOptions.Constraint),
    ];

    private readonly TemporaryFolder _folder = new();

    public static TheoryData<string> Options => [.. typeof(QwenLoraTrainer.Options).GetProperties().Concat(typeof(GenerationOptions).GetProperties())
        .Where(property => property.SetMethod?.IsPublic == true).Select(property => property.Name).Distinct().Except(s_ofPrograms)];

    public static TheoryData<string> Numbers => [.. SettingsTable.Of(CommandKinds.Train).Where(IsNumber).Select(setting => setting.Name)];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_run_that_diverges_again_is_gone_on_with_from_a_checkpoint_that_is_named()
    {
        string[] line = ["train", "-m", Repository.Nano, "-d", Repository.Data, "-o", _folder.At("out"), "--max-steps", "20", "--lr", "1e18", "--rank", "4",
            "--optimizer", "sgd", "--max-grad-norm", "0", "--gradient-accumulation-steps", "1", "--save-steps", "1", "--resume"];
        foreach (int _ in (int[])[1, 2])
        {
            Outcome run = await Cli.Run(line);
            Assert.Equal(ExitCode.Failure, run.Code);
            Assert.Contains("give it with --resume-from in the place of --resume, add --resume-with-changes, and change", run.Error, StringComparison.Ordinal);
        }
    }

    [Theory]
    [MemberData(nameof(Options))]
    public void An_option_of_the_library_is_said_as_it_may_be_written(string name)
    {
        Dictionary<string, Decision> none = [];
        foreach (CommandKinds command in (CommandKinds[])[CommandKinds.Train, CommandKinds.Generate])
        {
            OptionWords words = new(command, none);
            string word = words.Say($"{name} is 0");
            Assert.EndsWith(" is 0", word, StringComparison.Ordinal);
            word = word[..^" is 0".Length];
            Assert.Contains(word, SettingsTable.All.SelectMany(other => (string[])[other.Said, other.Key]));
            Assert.Equal($"{word} is 0; it must be 1 when {word} is 2.", words.Say($"{name} is 0; it must be 1 when LoraOptions.{name} is 2."));
            Assert.Equal($"Lower {word}, or give less ({word}).", words.Say($"Lower {name}, or give less ({name})."));
            Assert.Equal($"There is no '{name}' in /data/{name}/{name}.json, {name}s and My{name}.",
                words.Say($"There is no '{name}' in /data/{name}/{name}.json, {name}s and My{name}."));
        }

        Assert.StartsWith("--", new OptionWords(CommandKinds.Train, none).Say($"QwenLoraTrainer.Options.{name}."), StringComparison.Ordinal);
    }

    [Fact]
    public void Words_that_only_look_like_options_stay()
    {
        OptionWords words = new(CommandKinds.Train, new Dictionary<string, Decision>());
        foreach (string text in (string[])["Device memory ran out.", "It ended. Precision alone does not help.", "data/Rank.json: row 3", "the Ranking"])
        {
            Assert.Equal(text, words.Say(text));
        }

        Assert.Equal("Lower --generation-batch-size or --max-new-tokens.", words.Say("Lower the generation's BatchSize or MaximumNewTokens."));
        Assert.Equal("It ended. And more.", OptionWords.Commands(
            "It ended. The adapter of step 3 is kept in this exception: e.LastGoodAdapter.SaveAsPeft(\"folder\") saves it. And more."));
        Assert.Equal("Get it with 'mlnetlora download'.", OptionWords.Commands("Get it with ModelHub.DownloadAsync."));
        Assert.Equal("too long (--max-length)", words.Say("too long (option MaximumSequenceLength)"));
        Assert.Equal("--cuda-graphs is true; --tf32.", words.Say("CudaDevice.Graphs is true; CudaDevice.Tf32."));
    }

    [Fact]
    public void What_is_to_be_set_to_a_value_is_the_option_that_takes_one()
    {
        SettingsReader reader = new(CommandKinds.Train);
        reader.Add([new Given("--resume", new ScalarValue("true", IsQuoted: false, Place.CommandLine))]);
        OptionWords words = new(CommandKinds.Train, reader.Decisions);
        Assert.Equal("--resume is out. Go on: set --resume-from to out/checkpoint-2.",
            words.Say("ResumeFrom is out. Go on: set ResumeFrom to out/checkpoint-2."));
    }

    [Fact]
    public async Task What_a_file_says_is_named_with_its_key_and_line()
    {
        string config = _folder.Write("run.yaml", "# comment\nlora_rank: 0\nmax_new_tokens: 0\n");
        string[] line = ["train", config, "-m", Repository.Nano, "-d", Repository.Data, "-o", _folder.At("out")];
        Assert.Contains($"--max-new-tokens ({config}:3) is 0", (await Cli.Run(line)).Error, StringComparison.Ordinal);
        string rank = (await Cli.Run([.. line, "--max-new-tokens", "5"])).Error;
        Assert.Contains($"--rank (lora_rank, {config}:2) is 0; it must be at least 1.", rank, StringComparison.Ordinal);
        Assert.Contains("--alpha (lora_alpha) is 0", (await Cli.Run([.. line, "--max-new-tokens", "5", "--rank", "1", "--set", "lora_alpha=0"])).Error,
            StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Numbers))]
    public async Task A_number_that_makes_no_sense_is_refused_by_the_name_it_was_given(string name)
    {
        Setting setting = SettingsTable.All.Single(other => other.Name == name);
        if (name is "Seed" or "GenerationSeed")
        {
            return; // any will do
        }

        Outcome run = await Cli.Run("train", "-m", Repository.Nano, "-d", Repository.Data, "-o", _folder.At("out"), setting.Option, "-7", "--dry-run");
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Matches($@"({setting.Option}|{setting.Said})\b", run.Error);
        Assert.DoesNotMatch(Pascal(), run.Error);
    }

    [Fact]
    public void Every_option_that_the_library_s_messages_name_is_known()
    {
        HashSet<string> known = [.. SettingsTable.All.SelectMany(setting => setting.LibraryNames).Select(name => name.Split('.')[^1]), .. s_ofPrograms];
        HashSet<string> options = [.. typeof(QwenLoraTrainer).Assembly.GetTypes().Where(type => type.Name.EndsWith("Options", StringComparison.Ordinal)
            && !type.Name.StartsWith("Hub", StringComparison.Ordinal) && type != typeof(EngineOptions))
            .SelectMany(type => type.GetProperties(BindingFlags.Public | BindingFlags.Instance | BindingFlags.DeclaredOnly))
            .Where(property => property.SetMethod?.IsPublic == true && !property.DeclaringType!.IsNested
            | property.DeclaringType == typeof(QwenLoraTrainer.Options)).Select(property => property.Name)];
        string[] named = [.. Directory.EnumerateFiles(Repository.At("src", "MLNetLora"), "*.cs", SearchOption.AllDirectories)
            .Where(path => !path.Contains($"{Path.DirectorySeparatorChar}obj{Path.DirectorySeparatorChar}", StringComparison.Ordinal))
            .SelectMany(path => NameOf().Matches(File.ReadAllText(path))).Select(match => match.Groups[1].Value).Distinct()];
        Assert.True(named.Length > 40, "no names were found");
        Assert.Empty(named.Where(options.Contains).Except(known));
    }

    private static bool IsNumber(Setting setting)
    {
        Type type = Nullable.GetUnderlyingType(setting.Type) ?? setting.Type;
        return type == typeof(int) || type == typeof(double) || type == typeof(float);
    }

    [GeneratedRegex(@"\b[A-Z][a-z]+[A-Z]\w+")]
    private static partial Regex Pascal();

    [GeneratedRegex(@"nameof\((?:\w+\.)*(\w+)\)")]
    private static partial Regex NameOf();
}
