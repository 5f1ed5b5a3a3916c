using System.CommandLine;
using System.Diagnostics;
using MLNetLora.Cli.NewCheckpoint;
using MLNetLora.Cli.Output;

namespace MLNetLora.Cli.Commands;

/// <summary>new-checkpoint: random weights of a published model's sizes.</summary>
internal static class NewCheckpointCommand
{
    private const string Description = """
        Writes a checkpoint with random weights at the sizes of a published model: for measuring speed and memory without a download.

        Examples:
          mlnetlora new-checkpoint --size Qwen2.5-0.5B --out random
          mlnetlora new-checkpoint --size Qwen3-0.6B --layers 2 --vocab-size 4000 --dtype bf16 --tokenizer FOLDER --out small
        """;

    public static Command Create(Screen screen)
    {
        Option<string> size = new("--size") { Required = true, HelpName = "NAME", Description = string.Join(", ", ModelSize.Published.Select(size => size.Name)) };
        size.CompletionSources.Add([.. ModelSize.Published.Select(size => size.Name)]);
        Option<string> target = new("--out", "--output", "-o") { Required = true, HelpName = "FOLDER", Description = "Folder to write; it must not exist" };
        Option<string> type = new("--dtype") { HelpName = "fp32|bf16|fp16", Description = "Type of the weights [fp32]", DefaultValueFactory = _ => "fp32" };
        Option<ulong> seed = new("--seed") { HelpName = "N", Description = "Same seed, same weights, in every dtype and sharding [42]", DefaultValueFactory = _ => 42 };
        Option<double> shard = new("--shard-size") { HelpName = "MB", Description = "Largest file in MB (1,000,000 bytes) [5000]", DefaultValueFactory = _ => 5000 };
        Option<string?> tokenizer = new("--tokenizer") { HelpName = "FOLDER", Description = "Folder whose tokenizer files are copied" };
        Option<int?> layers = new("--layers") { HelpName = "N", Description = "Fewer or more layers than the published model" };
        Option<int?> vocabulary = new("--vocab-size") { HelpName = "N", Description = "Another vocabulary size" };
        Option<int?> hidden = new("--hidden-size") { HelpName = "N", Description = "Another hidden size" };
        Option<int?> heads = new("--heads") { HelpName = "N", Description = "Another number of query heads" };
        Option<int?> keyHeads = new("--key-heads") { HelpName = "N", Description = "Another number of key and value heads" };
        Option<int?> intermediate = new("--intermediate-size") { HelpName = "N", Description = "Another intermediate size; of a mixture of experts that of an expert" };
        Option<int?> experts = new("--experts") { HelpName = "N", Description = "Experts of a layer, where the model has some" };
        Option<int?> perToken = new("--experts-per-token") { HelpName = "N", Description = "Experts of a token, where the model has some" };
        Option<bool> sparse = new("--sparse") { Description = "Weights of zero as holes in the files, which take no room on a disk" };
        Command command = new("new-checkpoint", Description)
        {
            size, target, type, seed, shard, tokenizer, layers, vocabulary, hidden, heads, keyHeads, intermediate, experts, perToken, sparse,
        };
        command.SetAction((parsed, _) => Task.Run(() =>
        {
            ModelSize model = ModelSize.Find(parsed.GetValue(size)!);
            model = model with
            {
                Layers = parsed.GetValue(layers) ?? model.Layers,
                VocabularySize = parsed.GetValue(vocabulary) ?? model.VocabularySize,
                HiddenSize = parsed.GetValue(hidden) ?? model.HiddenSize,
                Heads = parsed.GetValue(heads) ?? model.Heads,
                KeyValueHeads = parsed.GetValue(keyHeads) ?? model.KeyValueHeads,
            };
            (int? inner, int? count, int? each) = (parsed.GetValue(intermediate), parsed.GetValue(experts), parsed.GetValue(perToken));
            model = model.Experts is { } mixture
                ? model with
                {
                    Experts = mixture with
                    {
                        Count = count ?? mixture.Count,
                        PerToken = each ?? mixture.PerToken,
                        IntermediateSize = inner ?? mixture.IntermediateSize,
                    },
                }
                : count is null && each is null
                    ? model with { IntermediateSize = inner ?? model.IntermediateSize }
                    : throw new OptionException($"--experts and --experts-per-token: {model.Name} has no experts");
            ElementType element = ElementType.Find(parsed.GetValue(type)!);
            string folder = parsed.GetValue(target)!;
            long started = Stopwatch.GetTimestamp();
            new CheckpointWriter(model, element)
            {
                Seed = parsed.GetValue(seed),
                ShardBytes = (long)(parsed.GetValue(shard) * 1e6),
                IsSparse = parsed.GetValue(sparse),
                TokenizerFolder = parsed.GetValue(tokenizer),
            }.Write(folder);
            TimeSpan elapsed = Stopwatch.GetElapsedTime(started);
            screen.Out.WriteLine(FormattableString.Invariant($"{folder}: {model.Name}, {model.Parameters:N0} parameters in {element.Option}, ")
                + FormattableString.Invariant($"{model.Parameters * element.Size / 1e6:N0} MB in {elapsed.TotalSeconds:F1} s"));
            return ExitCode.Success;
        }));
        return command;
    }
}
