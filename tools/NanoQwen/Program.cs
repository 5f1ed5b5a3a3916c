using System.CommandLine;
using System.Globalization;
using MLNetLora.Tools.NanoQwen.Corpus;
using MLNetLora.Tools.NanoQwen.Model;
using MLNetLora.Tools.NanoQwen.Tokenization;

namespace MLNetLora.Tools.NanoQwen;

/// <summary>Makes samples/models/qwen3-nano: the small checkpoint that the sample and the tests run on.</summary>
internal static class Program
{
    private static readonly Option<string> s_data = new("--data")
    {
        Required = true,
        Description = "Folder with the demo files of LLaMA-Factory and Qwen's conversation sample",
    };
    private static readonly Option<string> s_out = new("--out") { Required = true, Description = "Checkpoint folder to write" };
    private static readonly Option<int> s_vocabularySize = new("--vocab-size")
    {
        Description = "Tokens, control tokens included",
        DefaultValueFactory = _ => new NanoShape().VocabularySize,
    };
    private static readonly Option<int> s_seed = new("--seed")
    {
        Description = "Decides order and held-out rows",
        DefaultValueFactory = _ => new CorpusOptions().Seed,
    };

    private static readonly Option<int> s_epochs = new("--epochs") { Description = "Passes over the corpus", DefaultValueFactory = _ => 5 };
    private static readonly Option<double> s_learningRate = new("--learning-rate") { Description = "Peak learning rate", DefaultValueFactory = _ => 2e-3 };

    private static int Main(string[] arguments)
    {
        CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
        Command prepare = new("prepare", "Writes tokenizer, configuration and model card: everything but the weights")
        {
            s_data, s_out, s_vocabularySize, s_seed
        };
        prepare.SetAction(parsed => Prepare(parsed, parsed.GetValue(s_out)));
        Command corpus = new("corpus", "Prints the figures of tokenizer, corpus and model; writes nothing") { s_data, s_vocabularySize, s_seed };
        corpus.SetAction(parsed => Prepare(parsed, folder: null));
        Command train = new("train", "Writes the whole checkpoint: prepares, trains every parameter from random numbers, completes the model card")
        {
            s_data, s_out, s_vocabularySize, s_seed, s_epochs, s_learningRate
        };
        train.SetAction(Train);
        RootCommand root = new("Makes the embedded nano checkpoint") { prepare, corpus, train };
        try
        {
            return root.Parse(arguments).Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
        }
        catch (MLNetLoraException error)
        {
            Console.Error.WriteLine($"error: {error.Message}");
            return 1;
        }
    }

    private static void Train(ParseResult parsed)
    {
        using CancellationTokenSource cancellation = new();
        Console.CancelKeyPress += (_, pressed) =>
        {
            pressed.Cancel = true; // what was learned so far is written
            cancellation.Cancel();
        };
        Preparation preparation = Preparation.Make(parsed.GetValue(s_data)!, new NanoShape { VocabularySize = parsed.GetValue(s_vocabularySize) },
            new CorpusOptions { Seed = parsed.GetValue(s_seed) });
        string command = "dotnet run -c Release --project tools/NanoQwen -- train --data DATA --out samples/models/qwen3-nano "
            + FormattableString.Invariant($"--epochs {parsed.GetValue(s_epochs)} --learning-rate {parsed.GetValue(s_learningRate)}");
        NanoTraining.Run(preparation, parsed.GetValue(s_out)!, parsed.GetValue(s_epochs), parsed.GetValue(s_learningRate), command, cancellation.Token);
    }

    private static void Prepare(ParseResult parsed, string? folder)
    {
        NanoShape shape = new() { VocabularySize = parsed.GetValue(s_vocabularySize) };
        CorpusOptions options = new() { Seed = parsed.GetValue(s_seed) };
        Preparation preparation = Preparation.Make(parsed.GetValue(s_data)!, shape, options);
        ByteLevelBpe codec = new(preparation.Vocabulary);

        Console.WriteLine($"vocabulary: {preparation.Vocabulary.Size:N0} tokens, {preparation.Vocabulary.Merges.Count:N0} merges");
        CorpusStatistics training = new(preparation.Corpus.Training, codec);
        Console.WriteLine($"training, one epoch: {training}");
        Console.WriteLine($"held out: {new CorpusStatistics(preparation.Corpus.Validation, codec)}");
        int windows = RowPacker.Pack(preparation.Corpus.Training.Select(row => RowEncoder.Encode(row, codec, labelPrompt: true)),
            options.SequenceLength).Count();
        Console.WriteLine($"packed: {windows:N0} windows of {options.SequenceLength}, {(double)training.Tokens / windows / options.SequenceLength:P1} full");
        Console.WriteLine($"model: {shape.Parameters:N0} parameters, {shape.Bytes:N0} bytes in bf16, "
            + $"{shape.TrainingFlopsPerToken(options.SequenceLength) / 1e6:F1} MFLOP per training token");
        long budget = shape.TokenBudget(options.SequenceLength, seconds: 25 * 60, gflops: 150, efficiency: 0.6);
        Console.WriteLine($"25 minutes at 60% of 150 GFLOP/s: {budget:N0} tokens, {(double)budget / training.Tokens:F1} epochs");
        if (folder is null)
        {
            return;
        }

        preparation.WriteFolder(folder);
        Console.WriteLine($"written: {folder}, {new DirectoryInfo(folder).EnumerateFiles().Sum(file => file.Length):N0} bytes without the weights");
    }
}
