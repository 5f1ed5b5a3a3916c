using System.Globalization;
using MLNetLora.Tools.NanoQwen.Corpus;
using MLNetLora.Tools.NanoQwen.Model;
using MLNetLora.Tools.NanoQwen.Tokenization;

namespace MLNetLora.Tools.NanoQwen;

/// <summary>Everything that comes before the first training step: tokenizer, corpus, sizes. The same data and options give the same result.</summary>
/// <param name="Shape">Sizes of the model.</param>
/// <param name="Vocabulary">The trained tokenizer.</param>
/// <param name="Corpus">Rows to learn from and rows held out.</param>
/// <param name="Options">How the corpus was cut.</param>
internal sealed record Preparation(NanoShape Shape, Vocabulary Vocabulary, TrainingCorpus Corpus, CorpusOptions Options)
{
    public const string ModelName = "Nano";
    public const string Author = "MLNetLora";

    public static Preparation Make(string dataFolder, NanoShape shape, CorpusOptions options)
    {
        SourceFiles sources = SourceFiles.Read(dataFolder, ModelName, Author);
        BpeTrainer trainer = new();
        foreach ((string text, long weight) in TrainingCorpus.TokenizerText(sources, options))
        {
            trainer.Add(text, weight);
        }

        Vocabulary vocabulary = trainer.Train(shape.VocabularySize - Vocabulary.Specials.Count);
        return new Preparation(shape, vocabulary, TrainingCorpus.Build(sources, new ByteLevelBpe(vocabulary), options), options);
    }

    /// <summary>Writes the checkpoint folder except for the weights.</summary>
    public void WriteFolder(string folder)
    {
        TokenizerFiles.Write(Vocabulary, folder);
        ConfigFiles.Write(Shape, Vocabulary, folder);
        OutputFile.WriteText(Path.Combine(folder, "README.md"), ModelCard.Fill(Figures()));
    }

    /// <summary>The figures of the model card that are known before training.</summary>
    public Dictionary<string, string> Figures()
    {
        CorpusStatistics training = new(Corpus.Training, new ByteLevelBpe(Vocabulary));
        return new Dictionary<string, string>
        {
            ["parameters"] = Text($"{Shape.Parameters:N0}"),
            ["layers"] = Text($"{Shape.Layers}"),
            ["hidden"] = Text($"{Shape.HiddenSize}"),
            ["heads"] = Text($"{Shape.Heads}"),
            ["kv_heads"] = Text($"{Shape.KeyValueHeads}"),
            ["head_dim"] = Text($"{Shape.HeadDimension}"),
            ["intermediate"] = Text($"{Shape.IntermediateSize}"),
            ["positions"] = Text($"{Shape.MaximumPositions}"),
            ["sequence_length"] = Text($"{Options.SequenceLength}"),
            ["vocabulary"] = Text($"{Vocabulary.Size:N0}"),
            ["bytes_per_token_zh"] = Text($"{training.BytesPerToken(Language.Chinese):F2}"),
            ["bytes_per_token_en"] = Text($"{training.BytesPerToken(Language.English):F2}"),
            ["corpus_rows"] = Text($"{training.Rows:N0}"),
            ["corpus_tokens"] = Text($"{training.Tokens:N0}"),
            ["share_zh"] = Text($"{100 * training.Share(Language.Chinese):F0}%"),
            ["validation_rows"] = Text($"{Corpus.Validation.Count:N0}"),
            ["maximum_conversation_tokens"] = Text($"{Options.MaximumConversationTokens}"),
            ["seed"] = Text($"{Options.Seed}"),
        };
    }

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
