using Microsoft.ML.Tokenizers;
using MLNetLora.Text;

namespace MLNetLora.Tests;

/// <summary>The README's C# about tokens, as <see cref="ReadmeExample"/>.</summary>
internal static class ReadmeTokenizerExample
{
    public static void Run(Func<string, string> In)
    {
        // README begin
        Tokenizer tokenizer = QwenTokenizer.Load(In("samples/models/qwen3-nano"));
        string text = File.ReadAllText(In("README.md"));
        Console.WriteLine($"{tokenizer.CountTokens(text)} tokens");
        int end = tokenizer.GetIndexByTokenCount(text, 100, out string? normalized, out int count);
        Console.WriteLine($"The first {count}: {(normalized ?? text)[..end]}");
        // README end
    }
}
