using MLNetLora.Text;

namespace MLNetLora.Tests.Text;

public sealed class TokenizerFilesTests : IDisposable
{
    private readonly TinyTokenizer _tiny = new();

    public void Dispose() => _tiny.Dispose();

    [Fact]
    public void A_folder_without_tokenizer_files_says_what_is_missing()
    {
        Assert.Contains("is not a folder", Fails(Path.Combine(Path.GetTempPath(), "no-such-folder-anywhere")), StringComparison.Ordinal);
        Assert.Contains("no vocab.json and merges.txt, tokenizer.json or qwen.tiktoken", Fails(_tiny.Write("empty", _ => { })), StringComparison.Ordinal);
        Assert.Contains("has no merges.txt", Fails(Changed("merges.txt", _ => null)), StringComparison.Ordinal);
        Assert.Contains("has no vocab.json", Fails(Changed("vocab.json", _ => null)), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("vocab.json", "{\"a\": 1, ", "vocab.json is not valid JSON")]
    [InlineData("vocab.json", "[]", "is not an object of tokens and ids")]
    [InlineData("vocab.json", "{\"a\": \"b\"}", "the token \"a\" has no whole number as its id")]
    [InlineData("vocab.json", "{\"a\": -1}", "has id -1, which is outside 0 to")]
    [InlineData("vocab.json", "{\"a\": 2000000000}", "has id 2000000000, which is outside 0 to")]
    [InlineData("vocab.json", "{\"a\": 1, \"a\": 2}", "is there already, with id 1")]
    [InlineData("vocab.json", "{\"a\": 1, \"b\": 1}", "which another token has too")]
    [InlineData("merges.txt", "#version: 0.2\na b c\n", "merges.txt, line 2: is not two tokens with one space")]
    [InlineData("merges.txt", "h e\nzq such\n", "merges.txt, line 2: merges \"zq\", which the vocabulary does not have")]
    [InlineData("merges.txt", "x z\n", "merges.txt, line 1: gives \"xz\", which the vocabulary does not have")]
    [InlineData("tokenizer_config.json", "{\"added_tokens_decoder\": {\"x\": {\"content\": \"<a>\"}}}", "tokenizer_config.json is not valid")]
    [InlineData("tokenizer_config.json", "{\"added_tokens_decoder\": {\"999\": {\"content\": \"\"}}}", "an added token is empty")]
    [InlineData("tokenizer_config.json", "{\"added_tokens_decoder\": {\"999\": {\"content\": \"<a>\", \"rstrip\": true}}}", "has rstrip")]
    [InlineData("tokenizer_config.json", "{\"tokenizer_class\": \"GPT2Tokenizer\"}", "says tokenizer_class GPT2Tokenizer")]
    public void Damaged_files_are_named_with_the_place(string file, string content, string expected) =>
        Assert.Contains(expected, Fails(Changed(file, _ => content)), StringComparison.Ordinal);

    [Theory]
    [InlineData("\"NFC\"", "\"Lowercase\"", "the normalizer Lowercase is not known")]
    [InlineData("\"BPE\"", "\"Unigram\"", "the model is Unigram")]
    [InlineData("[^\\\\s", "[^\\\\S", "a pattern that is not Qwen's")]
    [InlineData("\"ByteLevel\"", "\"Metaspace\"", "the pre_tokenizer Metaspace")]
    [InlineData("\"merges\":", "\"verges\":", "the model has no merges")]
    [InlineData("\"model\":", "\"modal\":", "has no model")]
    [InlineData("\"id\":", "\"ID\":", "is not a valid tokenizer.json")]
    public void A_tokenizer_json_that_is_not_qwens_is_refused(string find, string replacement, string expected)
    {
        string original = File.ReadAllText(Path.Combine(_tiny.JsonFolder(pairs: true), "tokenizer.json"));
        Assert.Contains(find, original, StringComparison.Ordinal);
        string folder = _tiny.Write("changed",
            at => File.WriteAllText(Path.Combine(at, "tokenizer.json"), original.Replace(find, replacement, StringComparison.Ordinal)));
        Assert.Contains(expected, Fails(folder), StringComparison.Ordinal);
    }

    [Fact]
    public void A_token_of_a_tiktoken_file_has_a_longest_length()
    {
        string token = Convert.ToBase64String(new byte[4000]);
        Assert.Contains($"qwen.tiktoken, line 2: has a token of {token.Length} characters", Fails(_tiny.Write("tiktoken-long",
            folder => File.WriteAllText(Path.Combine(folder, "qwen.tiktoken"), $"YQ== 0\n{token} 1\n"))), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("YQ== 0\n????? 1\n", "qwen.tiktoken, line 2: is not valid Base64")]
    [InlineData("YQ== 0\nYg==\n", "qwen.tiktoken, line 2: is not a token in Base64, a space and its rank")]
    [InlineData("YQ== 0\nYQ== 1\n", "qwen.tiktoken, line 2: the token with id 1 is there already, with id 0")]
    [InlineData("", "has no tokens")]
    [InlineData("YQ== 0\n", "no token for the single byte 0x00")]
    public void A_damaged_tiktoken_file_is_named_with_the_line(string content, string expected) =>
        Assert.Contains(expected, Fails(_tiny.Write("tiktoken-bad", folder => File.WriteAllText(Path.Combine(folder, "qwen.tiktoken"), content))),
            StringComparison.Ordinal);

    [Fact]
    public void Added_tokens_of_older_checkpoints_are_in_a_file_of_their_own()
    {
        string folder = Changed("tokenizer_config.json", _ => "{}");
        File.WriteAllText(Path.Combine(folder, "added_tokens.json"), "{\"<|im_end|>\": 900, \"<think>\": 901}");
        QwenTokenizer tokenizer = QwenTokenizer.Load(folder);
        Assert.Equal(900, tokenizer.ImEndId);
        Assert.Null(tokenizer.ImStartId);
        Assert.Equal("<think>", tokenizer.Decode([900, 901], skipSpecialTokens: true));
    }

    private static string Fails(string folder) => Assert.Throws<TokenizerException>(() => QwenTokenizer.Load(folder)).Message;

    private string Changed(string file, Func<string, string?> change) => _tiny.Write($"changed-{file}", folder =>
    {
        foreach (string path in Directory.EnumerateFiles(_tiny.VocabularyFolder))
        {
            string content = File.ReadAllText(path);
            string? changed = Path.GetFileName(path) == file ? change(content) : content;
            if (changed is not null)
            {
                File.WriteAllText(Path.Combine(folder, Path.GetFileName(path)), changed);
            }
        }
    });
}
