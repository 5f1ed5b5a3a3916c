using System.Text;
using System.Text.Json;
using MLNetLora.Text;

namespace MLNetLora.Tests.Text;

/// <summary>A small byte-level BPE learned from a few sentences, written in each of the forms that Qwen's tokenizers are published in.</summary>
internal sealed class TinyTokenizer : IDisposable
{
    public const int Merges = 120;
    public const int EndOfText = 256 + Merges;
    public const int ImStart = EndOfText + 1;
    public const int ImEnd = EndOfText + 2;
    public const int Think = EndOfText + 3;

    private const string Corpus =
        "the quick brown fox jumps over the lazy dog, and then the other one. user assistant system\n\n  indented\tlines 1234 我们公司名叫阿里巴巴。我们公司的年假政策是怎样的？公司公司 "
        + "hello hello hello world world 't 's 're aaaaaaaaaaaa bbbb abababab 你好你好。\r\n";

    private readonly string _root = Directory.CreateTempSubdirectory("mlnetlora-text-").FullName;
    private readonly List<byte[]> _tokens = [.. Enumerable.Range(0, 256).Select(value => (byte[])[(byte)value])];
    private readonly List<(byte[] Left, byte[] Right)> _merges = [];

    public TinyTokenizer() => Learn();

    /// <summary>Folder with vocab.json, merges.txt and tokenizer_config.json.</summary>
    public string VocabularyFolder => Write("vocabulary", folder =>
    {
        File.WriteAllText(Path.Combine(folder, "vocab.json"), JsonSerializer.Serialize(Vocabulary()));
        File.WriteAllLines(Path.Combine(folder, "merges.txt"), ["#version: 0.2", .. _merges.Select(merge => $"{Spell(merge.Left)} {Spell(merge.Right)}")]);
        WriteConfiguration(folder);
    });

    /// <summary>Folder with tokenizer.json, merges as pairs or as strings.</summary>
    public string JsonFolder(bool pairs) => Write(pairs ? "json-pairs" : "json-strings", folder =>
    {
        object merges = pairs
            ? _merges.Select(merge => new[] { Spell(merge.Left), Spell(merge.Right) })
            : _merges.Select(merge => $"{Spell(merge.Left)} {Spell(merge.Right)}");
        var split = new { type = "Split", pattern = new { Regex = PreTokenizer.QwenPattern }, behavior = "Isolated", invert = false };
        object[] steps = [split, new { type = "ByteLevel", add_prefix_space = false, trim_offsets = true, use_regex = false }];
        File.WriteAllText(Path.Combine(folder, "tokenizer.json"), JsonSerializer.Serialize(new
        {
            version = "1.0",
            added_tokens = Added().Select(token => new
            {
                id = token.Id,
                content = token.Content,
                single_word = false,
                lstrip = false,
                rstrip = false,
                normalized = false,
                special = token.Special
            }),
            normalizer = new { type = "NFC" },
            pre_tokenizer = new { type = "Sequence", pretokenizers = steps },
            model = new { type = "BPE", merges, vocab = Vocabulary() },
        }));
    });

    /// <summary>Folder with qwen.tiktoken.</summary>
    public string TiktokenFolder => Write("tiktoken", folder =>
        File.WriteAllLines(Path.Combine(folder, "qwen.tiktoken"), _tokens.Select((token, id) => $"{Convert.ToBase64String(token)} {id}")));

    public void Dispose() => Directory.Delete(_root, recursive: true);

    /// <summary>A new folder whose files the test makes.</summary>
    public string Write(string name, Action<string> write)
    {
        string folder = Path.Combine(_root, name);
        if (Directory.Exists(folder))
        {
            return folder;
        }

        Directory.CreateDirectory(folder);
        write(folder);
        return folder;
    }

    /// <summary>Byte-pair encoding as it is defined, with nothing clever in it.</summary>
    public int[] Reference(byte[] word)
    {
        List<byte[]> parts = [.. word.Select(value => (byte[])[value])];
        while (true)
        {
            int best = -1;
            int bestRank = int.MaxValue;
            for (int i = 0; i + 1 < parts.Count; i++)
            {
                int rank = _merges.FindIndex(merge => merge.Left.AsSpan().SequenceEqual(parts[i]) && merge.Right.AsSpan().SequenceEqual(parts[i + 1]));
                if (rank >= 0 && rank < bestRank)
                {
                    (best, bestRank) = (i, rank);
                }
            }
            if (best < 0)
            {
                return [.. parts.Select(part => _tokens.FindIndex(token => token.AsSpan().SequenceEqual(part)))];
            }

            parts[best] = [.. parts[best], .. parts[best + 1]];
            parts.RemoveAt(best + 1);
        }
    }

    private static IEnumerable<AddedToken> Added() =>
        [new(EndOfText, "<|endoftext|>", true), new(ImStart, "<|im_start|>", true), new(ImEnd, "<|im_end|>", true), new(Think, "<think>", false)];

    private static string Spell(byte[] token) => string.Concat(token.Select(ByteAlphabet.Character));

    private static void WriteConfiguration(string folder) => File.WriteAllText(Path.Combine(folder, "tokenizer_config.json"), JsonSerializer.Serialize(new
    {
        added_tokens_decoder = Added().ToDictionary(token => $"{token.Id}",
            token => new { content = token.Content, special = token.Special, normalized = false }),
        tokenizer_class = "Qwen2Tokenizer",
    }));

    private Dictionary<string, int> Vocabulary() => _tokens.Select((token, id) => (token, id)).ToDictionary(entry => Spell(entry.token), entry => entry.id);

    private void Learn()
    {
        PreTokenizer splitter = PreTokenizer.For(PreTokenizer.QwenPattern)!;
        List<List<byte[]>> words = [];
        for (int start = 0, end; start < Corpus.Length; start = end)
        {
            end = splitter.WordEnd(Corpus, start);
            words.Add([.. Encoding.UTF8.GetBytes(Corpus[start..end]).Select(value => (byte[])[value])]);
        }
        while (_merges.Count < Merges)
        {
            (string left, string right) = words.SelectMany(word => word.Zip(word.Skip(1), (a, b) => (Convert.ToHexString(a), Convert.ToHexString(b))))
                .GroupBy(pair => pair).OrderByDescending(group => group.Count()).ThenBy(group => group.Key.Item1 + " " + group.Key.Item2,
                    StringComparer.Ordinal).First().Key;
            byte[] merged = Convert.FromHexString(left + right);
            _merges.Add((Convert.FromHexString(left), Convert.FromHexString(right)));
            // tiktoken has no merges of its own: a token that two merges arrive at would be one rank there and two ranks here.
            Assert.DoesNotContain(_tokens, token => token.AsSpan().SequenceEqual(merged));
            _tokens.Add(merged);
            foreach (List<byte[]> word in words)
            {
                for (int i = 0; i + 1 < word.Count; i++)
                {
                    if (Convert.ToHexString(word[i]) != left || Convert.ToHexString(word[i + 1]) != right)
                    {
                        continue;
                    }

                    word[i] = merged;
                    word.RemoveAt(i + 1);
                }
            }
        }
    }
}
