using System.Text;
using System.Text.Json;
using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.Text;

public sealed class FuzzTests : IDisposable
{
    private readonly TinyTokenizer _tiny = new();
    private readonly TemporaryFolder _folder = new();

    public void Dispose()
    {
        _tiny.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void Random_text_comes_back_as_its_normal_form()
    {
        QwenTokenizer[] tokenizers = [QwenTokenizer.Load(_tiny.VocabularyFolder), QwenTokenizer.Load(_tiny.JsonFolder(pairs: true)),
            QwenTokenizer.Load(_tiny.TiktokenFolder)];
        for (int seed = 0; seed < Fuzz.Cases(4000); seed++)
        {
            string text = Fuzz.Text(new Random(seed));
            string expected = UnicodeText.ToFormC(UnicodeText.ReplaceUnpairedSurrogates(text, out _));
            QwenTokenizer tokenizer = tokenizers[seed % tokenizers.Length];
            int[] ids = tokenizer.Encode(text);
            Assert.True(expected == tokenizer.Decode(ids), $"case {seed}: {text}");
            Assert.DoesNotContain(tokenizer.ImStartId!.Value, ids);
            StreamingDecoder decoder = tokenizer.CreateStreamingDecoder();
            Assert.Equal(expected, string.Concat(ids.Select(decoder.Add)) + decoder.Finish());
        }
    }

    [Fact]
    public void Random_conversations_have_the_control_tokens_of_the_template_and_no_others()
    {
        QwenTokenizer tokenizer = QwenTokenizer.Load(_tiny.VocabularyFolder);
        ConversationFormatter formatter = new(tokenizer, ChatTemplate.Load(_tiny.VocabularyFolder));
        for (int seed = 0; seed < Fuzz.Cases(2000); seed++)
        {
            Random random = new(seed);
            Conversation conversation = new([.. Enumerable.Range(0,
                random.Next(1, 6)).SelectMany(_ => (ChatMessage[])[ChatMessage.User(Fuzz.Text(random)), ChatMessage.Assistant(Fuzz.Text(random))])]);
            TrainingRow row = formatter.Tokenize(conversation, (LabelScope)random.Next(3), random.Next(1, 2000), out TokenizationReport report);
            Assert.Equal(row.InputIds.Length, row.Labels.Length);
            Assert.All(row.InputIds.Zip(row.Labels), pair => Assert.True(pair.Second == TrainingRow.Ignore || pair.First == pair.Second));
            Assert.DoesNotContain(TinyTokenizer.EndOfText, row.InputIds);
            if (!report.IsTruncated)
            {
                Assert.Equal((conversation.Messages.Count, conversation.Messages.Count),
                    (row.InputIds.Count(id => id == TinyTokenizer.ImStart), row.InputIds.Count(id => id == TinyTokenizer.ImEnd)));
            }
        }
    }

    [Fact]
    public void Mutated_templates_render_or_fail_with_a_typed_error()
    {
        IEnumerable<string> published = Directory.EnumerateFiles(Golden.Kind("templates"), "*.jinja").Order(StringComparer.Ordinal);
        byte[][] originals = [.. JinjaCases.All.Select(test => Encoding.UTF8.GetBytes(test.Template)), .. published.Select(File.ReadAllBytes)];
        using JsonDocument context = JsonDocument.Parse(JinjaCases.Context);
        Dictionary<string, object?> variables = context.RootElement.EnumerateObject().ToDictionary(field => field.Name, field => (object?)field.Value.Clone());
        JsonElement messages = context.RootElement.GetProperty("messages");
        Repeat("template", originals, 3000,
            mutated => ChatTemplate.Parse(Encoding.UTF8.GetString(mutated)).Render(messages, messages, addGenerationPrompt: true, variables));
    }

    [Theory]
    [InlineData(".json")]
    [InlineData(".jsonl")]
    [InlineData(".csv")]
    [InlineData(".tsv")]
    [InlineData(".txt")]
    [InlineData(".jsonl.gz")]
    public void Mutated_data_sets_are_read_or_fail_with_a_typed_error(string extension)
    {
        string[] rows =
        [
            "{\"instruction\":\"问\\ud83d\\ude00\",\"input\":\"\",\"output\":\"a\\n\",\"system\":null,\"history\":[[\"x\",\"y\"]]}",
            "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"function_call\",\"value\":\"{\\\"name\\\": \\\"f\\\", \\\"arguments\\\": "
            + "{}}\"},{\"from\":\"observation\",\"value\":\"r\"},{\"from\":\"gpt\",\"value\":\"a\"}],\"tools\":\"[{\\\"name\\\": \\\"f\\\"}]\"}",
            "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"q\"}]},"
            + "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1.5e3}}}],"
            + "\"weight\":1}],\"tools\":[{\"type\":\"function\"}]}",
            "{\"prompt\":\"p\",\"completion\":[{\"role\":\"assistant\",\"content\":\"a\"}]}",
            "{\"text\":\"d\"}",
        ];
        QwenTokenizer tokenizer = QwenTokenizer.Load(_tiny.VocabularyFolder);
        ConversationFormatter formatter = new(tokenizer, ChatTemplate.Load(_tiny.VocabularyFolder));
        RowFormatter rowFormatter = new(tokenizer, _tiny.VocabularyFolder, new PromptSettings());
        ColumnNames columns = new QwenLoraTrainer.Options().Columns;
        MLContext ml = new();
        byte[][] originals = extension switch
        {
            ".json" => [.. rows.Select(row => Encoding.UTF8.GetBytes($"[{row},\n{row}]"))],
            ".csv" or ".tsv" =>
                [Encoding.UTF8.GetBytes((extension == ".tsv" ? "instruction\toutput\n\"q\t\"\ta\n" :
                    "instruction,output\n\"q, \"\"x\"\"\n\",a\n") + string.Concat(Enumerable.Repeat(extension == ".tsv" ? "b\tc\r\n" : "b,c\r\n", 20)))],
            ".txt" => ["one\ntwo 你好\r\n\nthree"u8.ToArray()],
            _ => [.. rows.Select(row => Encoding.UTF8.GetBytes($"{row}\n\n{row}\r\n"))],
        };
        string path = _folder.File("data" + extension);
        if (extension.EndsWith(".gz", StringComparison.Ordinal))
        {
            originals = [.. originals.Select(Compress)];
        }

        Repeat(extension, originals, 500, mutated =>
        {
            File.WriteAllBytes(path, mutated);
            TokenizedRow[] expected = [.. Dataset.Read(path).SelectMany(row => formatter.TokenizeRows(row, LabelScope.AllAssistantTurns, 64))];
            // The columns of a view say what the file says: the same tokens come out.
            TokenizedRow[] rows = [.. TrainingRows.Read(ml.Data.LoadFromInstructionFile(path), columns, "training",
                default).SelectMany(row => rowFormatter.Tokenize(row, LabelScope.AllAssistantTurns, 64))];
            Assert.Equal(expected.Select(row => row.Row.InputIds), rows.Select(row => row.Row.InputIds));
            Assert.Equal(expected.Select(row => row.Report), rows.Select(row => row.Report));
        });
    }

    [Fact]
    public void Mutated_tokenizer_files_load_or_fail_with_a_typed_error()
    {
        string[] folders = [_tiny.VocabularyFolder, _tiny.JsonFolder(pairs: true), _tiny.JsonFolder(pairs: false), _tiny.TiktokenFolder];
        (string Name, byte[] Bytes)[][] files = [.. folders.Select(folder => Directory.EnumerateFiles(folder).Order(StringComparer.Ordinal).Select(
            file => (Path.GetFileName(file), File.ReadAllBytes(file))).ToArray())];
        for (int seed = 0; seed < Fuzz.Cases(1000); seed++)
        {
            Random random = new(seed);
            (string Name, byte[] Bytes)[] original = files[random.Next(files.Length)];
            int changed = random.Next(original.Length);
            byte[] mutated = Fuzz.Mutate(random, original[changed].Bytes);
            foreach (string old in Directory.EnumerateFiles(_folder.Path))
            {
                File.Delete(old);
            }

            for (int i = 0; i < original.Length; i++)
            {
                File.WriteAllBytes(_folder.File(original[i].Name), i == changed ? mutated : original[i].Bytes);
            }

            Fuzz.Survives(original[changed].Name, seed, mutated, () =>
            {
                QwenTokenizer tokenizer = QwenTokenizer.Load(_folder.Path);
                tokenizer.Decode(tokenizer.EncodeToIds("the quick <|im_start|>user\n你好 " + Fuzz.Text(random)));
                ChatTemplate.Load(_folder.Path).Render([ChatMessage.User("q")]);
            });
        }
    }

    private static void Repeat(string kind, byte[][] originals, int cases, Action<byte[]> run)
    {
        int results = 0;
        int count = Fuzz.Cases(cases);
        for (int seed = 0; seed < count; seed++)
        {
            Random random = new(seed);
            byte[] mutated = Fuzz.Mutate(random, originals[random.Next(originals.Length)]);
            results += Fuzz.Survives(kind, seed, mutated, () => run(mutated)) ? 1 : 0;
        }
        // Both must happen, or the mutations are too tame or too wild to show anything.
        if (count >= 500)
        {
            Assert.InRange(results, 1, count - 1);
        }
    }

    private static byte[] Compress(byte[] bytes)
    {
        using MemoryStream memory = new();
        using (System.IO.Compression.GZipStream gzip = new(memory, System.IO.Compression.CompressionLevel.Fastest))
        {
            gzip.Write(bytes);
        }

        return memory.ToArray();
    }
}
