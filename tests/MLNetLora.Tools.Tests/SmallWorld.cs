using MLNetLora.Tools.NanoQwen.Corpus;
using MLNetLora.Tools.NanoQwen.Tokenization;

namespace MLNetLora.Tools.Tests;

/// <summary>Data of our own in the layout of the data folder, small enough to read.</summary>
internal static class SmallWorld
{
    public static string WriteDataFolder(TemporaryFolder folder)
    {
        string zh = string.Join(",\n", Enumerable.Range(0, 40).Select(i =>
            $$"""{"instruction": "第{{i}}号仓库在哪里？", "input": "{{(i % 4 == 0 ? "请用一句话回答。" : "")}}", "output": "第{{i}}号仓库在城市的{{(i % 2 == 0 ? "东" : "西")}}边。"}"""));
        string en = string.Join(",\n", Enumerable.Range(0, 60).Select(i =>
            $$"""{"instruction": "Where is warehouse {{i}}?", "input": "", "output": "Warehouse {{i}} is on the {{(i % 2 == 0 ? "eastern" : "western")}} """
            + $$"""side of the city.{{(i == 7 ? string.Concat(Enumerable.Repeat(" It has a blue door.", 60)) : "")}}"}"""));
        folder.Write("alpaca_zh_demo.json", $"[{zh}]");
        folder.Write("alpaca_en_demo.json", $"[{en}]");
        folder.Write("identity.json", """[{"instruction": "你是谁？", "input": "", "output": "我是 {{name}}，由 {{author}} 开发。"}, {"instruction": "Who are """
            + """you?", "output": "I am {{name}} by {{author}}."}]""");
        folder.Write("qwen_conversations_sample.json",
            """[{"id": "a", "conversations": [{"from": "user", "value": "你好"}, {"from": "assistant", "value": "你好！很高兴为你提供帮助。"}]}]""");
        folder.Write("wiki_demo.txt", string.Join("\n", Enumerable.Range(0,
            20).Select(i => $"The river number {i} is long.It is {i} miles wide. People fish there in the summer, and in winter it freezes over.")));
        return folder.Path;
    }

    public static CorpusOptions Options { get; } = new() { MaximumConversationTokens = 60, SequenceLength = 64, MinimumTextTokens = 4, ValidationShare = 0.1 };

    public static SourceFiles Sources(TemporaryFolder folder) => SourceFiles.Read(WriteDataFolder(folder), "Nano", "MLNetLora");

    public static Vocabulary Train(SourceFiles sources, int ranks)
    {
        BpeTrainer trainer = new();
        foreach ((string text, long weight) in TrainingCorpus.TokenizerText(sources, Options))
        {
            trainer.Add(text, weight);
        }

        return trainer.Train(ranks);
    }
}
