using MLNetLora.Tools.NanoQwen.Tokenization;

namespace MLNetLora.Tools.NanoQwen.Corpus;

/// <summary>The rows of one epoch, repeats included, in random but reproducible order, and the held-out ones.</summary>
internal sealed record TrainingCorpus(IReadOnlyList<CorpusRow> Training, IReadOnlyList<CorpusRow> Validation)
{
    /// <summary>Text for the tokenizer: everything that the model may see, each language weighted as the corpus weights it.</summary>
    public static IEnumerable<(string Text, long Weight)> TokenizerText(SourceFiles sources, CorpusOptions options)
    {
        foreach (Exchange exchange in sources.Exchanges)
        {
            string text = exchange.Prompt + "\n" + exchange.Answer;
            yield return (text, CorpusRow.LanguageOf(text) == Language.Chinese ? options.ChineseRepeats : 1);
            // The roles stand in every conversation and deserve a token of their own.
            yield return ("user\n", 1);
            yield return ("assistant\n", 1);
            yield return ("system\n", 1);
        }
        foreach (string article in sources.Articles)
        {
            yield return (article, 1);
        }
    }

    public static TrainingCorpus Build(SourceFiles sources, ITextCodec codec, CorpusOptions options)
    {
        // A question that occurs twice, or the chunks of one long answer, stay on one side of the split.
        Dictionary<(string Source, string Key), List<CorpusRow>> groups = [];
        foreach (Exchange exchange in sources.Exchanges)
        {
            AddTo(groups, (exchange.Source, exchange.Prompt), FromExchange(exchange, codec, options));
        }

        foreach (string article in sources.Articles)
        {
            foreach (CorpusRow chunk in Chunks(SourceFiles.Wiki, article, codec, options))
            {
                AddTo(groups, (SourceFiles.Wiki, chunk.Answer), [chunk]);
            }
        }

        Random random = new(options.Seed);
        List<CorpusRow> training = [];
        List<CorpusRow> validation = [];
        foreach (IGrouping<string, KeyValuePair<(string Source, string Key), List<CorpusRow>>> source in groups.GroupBy(group => group.Key.Source))
        {
            List<CorpusRow>[] shuffled = [.. source.Select(group => group.Value)];
            random.Shuffle(shuffled);
            int held = IsSmall(source.Key) ? 0 : (int)Math.Ceiling(shuffled.Length * options.ValidationShare);
            validation.AddRange(shuffled.Take(held).SelectMany(rows => rows));
            foreach (CorpusRow row in shuffled.Skip(held).SelectMany(rows => rows))
            {
                training.AddRange(Enumerable.Repeat(row, Repeats(row, options)));
            }
        }
        return new TrainingCorpus(Order(training, random.Next()), validation);
    }

    /// <summary>The same rows in the order of another epoch.</summary>
    public IReadOnlyList<CorpusRow> Epoch(int seed) => Order(Training, seed);

    private static List<CorpusRow> Order(IEnumerable<CorpusRow> rows, int seed)
    {
        CorpusRow[] order = [.. rows];
        new Random(seed).Shuffle(order);
        return [.. order];
    }

    private static IEnumerable<CorpusRow> FromExchange(Exchange exchange, ITextCodec codec, CorpusOptions options)
    {
        CorpusRow row = CorpusRow.Conversation(exchange);
        if (RowEncoder.Encode(row, codec, labelPrompt: true).InputIds.Length <= options.MaximumConversationTokens)
        {
            return [row];
        }

        return Chunks(exchange.Source + " (text)", exchange.Answer, codec, options);
    }

    private static IEnumerable<CorpusRow> Chunks(string source, string text, ITextCodec codec, CorpusOptions options) =>
        TextChunks.Split(text, options.SequenceLength - 1, part => codec.Encode(part).Count)
            .Where(part => codec.Encode(part).Count >= options.MinimumTextTokens)
            .Select(part => CorpusRow.PlainText(source, part));

    private static void AddTo(Dictionary<(string, string), List<CorpusRow>> groups, (string, string) key, IEnumerable<CorpusRow> rows)
    {
        if (!groups.TryGetValue(key, out List<CorpusRow>? group))
        {
            groups[key] = group = [];
        }

        group.AddRange(rows);
    }

    private static bool IsSmall(string source) => source is SourceFiles.Identity or SourceFiles.ConversationSample;

    private static int Repeats(CorpusRow row, CorpusOptions options) =>
        IsSmall(row.Source) ? options.IdentityRepeats : row.Language == Language.Chinese ? options.ChineseRepeats : 1;
}
