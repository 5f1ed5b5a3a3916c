using System.Text.Json;
using Microsoft.ML.Tokenizers;
using MLNetLora.Text;
using Xunit.Abstractions;

namespace MLNetLora.Tests.Text;

[Trait("Category", "Golden")]
public sealed class QwenTokenizerGoldenTests(ITestOutputHelper output)
{
    [Fact]
    public void Ids_equal_those_of_the_originals()
    {
        int compared = 0;
        foreach (string path in Golden.Kinds("tokenizers").SelectMany(folder => Directory.EnumerateFiles(folder, "*.cases.json").Order(StringComparer.Ordinal)))
        {
            QwenTokenizer qwen = QwenTokenizer.Load(path[..^".cases.json".Length]);
            Tokenizer tokenizer = qwen;
            foreach (JsonElement test in Json.Array(path))
            {
                string text = test.GetProperty("text").GetString()!;
                int[] expected = Json.Integers(test.GetProperty("ids"));
                int[] actual = [.. tokenizer.EncodeToIds(text)];
                Assert.True(expected.AsSpan().SequenceEqual(actual), Difference(path, text, expected, actual));
                compared++;
                TokenizerBaseClassTests.Check(tokenizer, text);
                if (test.TryGetProperty("ids_plain", out JsonElement plain))
                {
                    Assert.True(
                        Json.Integers(plain).AsSpan().SequenceEqual(qwen.Encode(text)),
                        Difference(path, text, Json.Integers(plain), qwen.Encode(text)));
                }

                if (test.TryGetProperty("decoded", out JsonElement decoded))
                {
                    Assert.Equal(decoded.GetString(), tokenizer.Decode(expected));
                    Assert.Equal(decoded.GetString(), Stream(qwen, expected));
                }
            }
        }

        Report.Golden(output, "tokenizers", "", compared);
    }

    [Fact]
    public void The_tokenizer_of_every_checkpoint_loads_and_its_file_variants_agree()
    {
        string[] texts =
        [
            "", " ", "Hello, world!\n\n  I'M 12:30", "我们公司名叫 阿里巴巴。\r\n𠮷野家 e\u0301 \ud83d\ude00", "<|im_start|>user\n<think>\nhi<|im_end|>",
        ];
        string scratch = Directory.CreateTempSubdirectory("mlnetlora-tokenizer-").FullName;
        int compared = 0;
        foreach (string folder in Golden.Folders("models"))
        {
            QwenTokenizer whole = QwenTokenizer.Load(folder);
            compared++;
            foreach (string[] variant in (string[][])[["vocab.json", "merges.txt"], ["tokenizer.json"]])
            {
                if (!variant.All(file => File.Exists(Path.Combine(folder, file))))
                {
                    continue;
                }

                string copy = Directory.CreateDirectory(Path.Combine(scratch, Path.GetFileName(folder), variant[0])).FullName;
                foreach (string file in (IEnumerable<string>)[.. variant, "tokenizer_config.json"])
                {
                    File.Copy(Path.Combine(folder, file), Path.Combine(copy, file));
                }

                QwenTokenizer part = QwenTokenizer.Load(copy);
                Assert.Equal(whole.SpecialTokens, part.SpecialTokens);
                foreach (string text in texts)
                {
                    Assert.Equal(whole.Encode(text), part.Encode(text));
                    Assert.Equal(whole.EncodeToIds(text), part.EncodeToIds(text));
                }
            }
        }

        Directory.Delete(scratch, recursive: true);
        Report.Golden(output, "models", " (tokenizers)", compared);
    }

    private static string Stream(QwenTokenizer tokenizer, int[] ids)
    {
        StreamingDecoder decoder = tokenizer.CreateStreamingDecoder();
        return string.Concat(ids.Select(decoder.Add)) + decoder.Finish();
    }

    private static string Difference(string path, string text, int[] expected, int[] actual) =>
        $"{path}: {JsonSerializer.Serialize(text)}\nexpected {string.Join(' ', expected)}\nactual   {string.Join(' ', actual)}";
}
