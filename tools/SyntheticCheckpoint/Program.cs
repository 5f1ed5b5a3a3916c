using System.CommandLine;
using System.Diagnostics;
using System.Globalization;

namespace MLNetLora.Tools.SyntheticCheckpoint;

/// <summary>Writes a checkpoint of a published model's sizes with random weights: for measuring speed and memory without a download.</summary>
internal static class Program
{
    private static readonly Option<string> s_size = new("--size")
    {
        Required = true,
        Description = string.Join(", ", ModelSize.Published.Select(size => size.Name)),
    };
    private static readonly Option<string> s_out = new("--out") { Required = true, Description = "Folder to write; it must not exist" };
    private static readonly Option<string> s_type = new("--dtype") { Description = "fp32, bf16 or fp16", DefaultValueFactory = _ => "fp32" };
    private static readonly Option<ulong> s_seed = new("--seed")
    {
        Description = "Same seed, same weights, in every dtype and sharding",
        DefaultValueFactory = _ => 42,
    };
    private static readonly Option<double> s_shard = new("--shard-size")
    {
        Description = "Largest file in MB (1,000,000 bytes)",
        DefaultValueFactory = _ => 5000,
    };
    private static readonly Option<string?> s_tokenizer = new("--tokenizer") { Description = "Folder whose tokenizer files are copied" };
    private static readonly Option<int?> s_layers = new("--layers") { Description = "Fewer or more layers than the published model" };
    private static readonly Option<int?> s_vocabulary = new("--vocab-size") { Description = "Another vocabulary size" };

    private static readonly Option<int?> s_hidden = new("--hidden-size") { Description = "Another hidden size" };
    private static readonly Option<int?> s_heads = new("--heads") { Description = "Another number of query heads" };
    private static readonly Option<int?> s_keyHeads = new("--key-heads") { Description = "Another number of key and value heads" };
    private static readonly Option<int?> s_intermediate = new("--intermediate-size")
    {
        Description = "Another intermediate size; of a mixture of experts that of an expert",
    };
    private static readonly Option<int?> s_experts = new("--experts") { Description = "Experts of a layer, where the model has some" };
    private static readonly Option<int?> s_perToken = new("--experts-per-token") { Description = "Experts of a token, where the model has some" };
    private static readonly Option<bool> s_sparse = new("--sparse") { Description = "Weights of zero as holes in the files, which take no room on a disk" };

    private static int Main(string[] arguments)
    {
        CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
        RootCommand root = new("Writes a Hugging Face checkpoint folder with random weights at real sizes")
        {
            s_size, s_out, s_type, s_seed, s_shard, s_tokenizer, s_layers, s_vocabulary, s_hidden, s_heads, s_keyHeads, s_intermediate,
            s_experts, s_perToken, s_sparse,
        };
        root.SetAction(Run);
        try
        {
            return root.Parse(arguments).Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
        }
        catch (Exception error) when (error is MLNetLoraException or IOException or UnauthorizedAccessException)
        {
            Console.Error.WriteLine($"error: {error.Message}");
            return 1;
        }
    }

    private static void Run(ParseResult parsed)
    {
        ModelSize size = ModelSize.Find(parsed.GetValue(s_size)!);
        size = size with { Layers = parsed.GetValue(s_layers) ?? size.Layers, VocabularySize = parsed.GetValue(s_vocabulary) ?? size.VocabularySize };
        size = size with
        {
            HiddenSize = parsed.GetValue(s_hidden) ?? size.HiddenSize,
            Heads = parsed.GetValue(s_heads) ?? size.Heads,
            KeyValueHeads = parsed.GetValue(s_keyHeads) ?? size.KeyValueHeads,
        };
        (int? inner, int? experts, int? perToken) = (parsed.GetValue(s_intermediate), parsed.GetValue(s_experts), parsed.GetValue(s_perToken));
        size = size.Experts is { } mixture
            ? size with
            {
                Experts = mixture with
                {
                    Count = experts ?? mixture.Count,
                    PerToken = perToken ?? mixture.PerToken,
                    IntermediateSize = inner ?? mixture.IntermediateSize,
                },
            }
            : experts is null && perToken is null
                ? size with { IntermediateSize = inner ?? size.IntermediateSize }
                : throw new OptionException($"--experts and --experts-per-token: {size.Name} has no experts");
        ElementType type = ElementType.Find(parsed.GetValue(s_type)!);
        string folder = parsed.GetValue(s_out)!;
        long started = Stopwatch.GetTimestamp();
        new CheckpointWriter(size, type)
        {
            Seed = parsed.GetValue(s_seed),
            ShardBytes = (long)(parsed.GetValue(s_shard) * 1e6),
            IsSparse = parsed.GetValue(s_sparse),
            TokenizerFolder = parsed.GetValue(s_tokenizer),
        }.Write(folder);
        TimeSpan elapsed = Stopwatch.GetElapsedTime(started);
        Console.WriteLine($"{folder}: {size.Name}, {size.Parameters:N0} parameters in {type.Option}, {size.Parameters * type.Size / 1e6:N0} MB in "
            + $"{elapsed.TotalSeconds:F1} s");
    }
}
