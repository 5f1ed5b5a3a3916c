using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace MLNetLora.Tools.NanoQwen.Tokenization;

/// <summary>Writes a vocabulary as the four files of a Hugging Face Qwen tokenizer, and reads vocab.json + merges.txt again.</summary>
internal static class TokenizerFiles
{
    public const int ModelMaximumLength = 512;

    private static readonly JsonWriterOptions s_compact = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
    private static readonly JsonWriterOptions s_indented = s_compact with { Indented = true, NewLine = "\n" };

    public static void Write(Vocabulary vocabulary, string folder)
    {
        Directory.CreateDirectory(folder);
        string[] texts = [.. vocabulary.Tokens.Select(bytes => ByteAlphabet.ToText(bytes))];
        WriteJson(Path.Combine(folder, "vocab.json"), s_compact, json => WriteVocabulary(json, texts));
        OutputFile.WriteText(Path.Combine(folder, "merges.txt"),
            "#version: 0.2\n" + string.Concat(vocabulary.Merges.Select(merge => $"{texts[merge.Left]} {texts[merge.Right]}\n")));
        WriteJson(Path.Combine(folder, "tokenizer.json"), s_compact, json => WriteTokenizer(json, vocabulary, texts));
        WriteJson(Path.Combine(folder, "tokenizer_config.json"), s_indented, json => WriteConfig(json, vocabulary));
    }

    public static Vocabulary Read(string folder)
    {
        using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "vocab.json")));
        SortedDictionary<int, byte[]> tokens = [];
        Dictionary<string, int> ids = new(StringComparer.Ordinal);
        foreach (JsonProperty entry in document.RootElement.EnumerateObject())
        {
            ids[entry.Name] = entry.Value.GetInt32();
            tokens[entry.Value.GetInt32()] = ByteAlphabet.ToBytes(entry.Name);
        }
        List<(int, int)> merges = [];
        foreach (string line in File.ReadLines(Path.Combine(folder, "merges.txt")).Skip(1).Where(line => line.Length > 0))
        {
            string[] sides = line.Split(' ');
            merges.Add((ids[sides[0]], ids[sides[1]]));
        }
        if (tokens.Count != 256 + merges.Count)
        {
            throw new TokenizerException(
                $"{folder}: vocab.json has {tokens.Count} tokens, merges.txt {merges.Count} merges; 256 + merges tokens were expected");
        }

        return new Vocabulary([.. tokens.Values], merges);
    }

    private static void WriteVocabulary(Utf8JsonWriter json, string[] texts)
    {
        json.WriteStartObject();
        for (int id = 0; id < texts.Length; id++)
        {
            json.WriteNumber(texts[id], id);
        }

        json.WriteEndObject();
    }

    private static void WriteTokenizer(Utf8JsonWriter json, Vocabulary vocabulary, string[] texts)
    {
        json.WriteStartObject();
        json.WriteString("version", "1.0");
        json.WriteNull("truncation");
        json.WriteNull("padding");
        json.WriteStartArray("added_tokens");
        foreach (string special in Vocabulary.Specials)
        {
            json.WriteStartObject();
            json.WriteNumber("id", vocabulary.SpecialId(special));
            WriteAddedToken(json, special);
        }
        json.WriteEndArray();
        json.WriteStartObject("normalizer");
        json.WriteString("type", "NFC");
        json.WriteEndObject();
        WritePreTokenizer(json);
        json.WriteNull("post_processor");
        json.WriteStartObject("decoder");
        WriteByteLevel(json, addPrefixSpace: false, useRegex: false);
        json.WriteStartObject("model");
        json.WriteString("type", "BPE");
        json.WriteNull("dropout");
        json.WriteNull("unk_token");
        json.WriteNull("continuing_subword_prefix");
        json.WriteNull("end_of_word_suffix");
        json.WriteBoolean("fuse_unk", false);
        json.WriteBoolean("byte_fallback", false);
        json.WriteBoolean("ignore_merges", false);
        json.WritePropertyName("vocab");
        WriteVocabulary(json, texts);
        json.WriteStartArray("merges");
        foreach ((int left, int right) in vocabulary.Merges)
        {
            json.WriteStartArray();
            json.WriteStringValue(texts[left]);
            json.WriteStringValue(texts[right]);
            json.WriteEndArray();
        }
        json.WriteEndArray();
        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static void WritePreTokenizer(Utf8JsonWriter json)
    {
        json.WriteStartObject("pre_tokenizer");
        json.WriteString("type", "Sequence");
        json.WriteStartArray("pretokenizers");
        json.WriteStartObject();
        json.WriteString("type", "Split");
        json.WriteStartObject("pattern");
        json.WriteString("Regex", PreTokenizer.Pattern);
        json.WriteEndObject();
        json.WriteString("behavior", "Isolated");
        json.WriteBoolean("invert", false);
        json.WriteEndObject();
        json.WriteStartObject();
        WriteByteLevel(json, addPrefixSpace: false, useRegex: false);
        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static void WriteByteLevel(Utf8JsonWriter json, bool addPrefixSpace, bool useRegex)
    {
        json.WriteString("type", "ByteLevel");
        json.WriteBoolean("add_prefix_space", addPrefixSpace);
        json.WriteBoolean("trim_offsets", false);
        json.WriteBoolean("use_regex", useRegex);
        json.WriteEndObject();
    }

    private static void WriteConfig(Utf8JsonWriter json, Vocabulary vocabulary)
    {
        json.WriteStartObject();
        json.WriteBoolean("add_bos_token", false);
        json.WriteBoolean("add_prefix_space", false);
        json.WriteStartObject("added_tokens_decoder");
        foreach (string special in Vocabulary.Specials)
        {
            json.WriteStartObject($"{vocabulary.SpecialId(special)}");
            WriteAddedToken(json, special);
        }
        json.WriteEndObject();
        json.WriteStartArray("additional_special_tokens");
        json.WriteStringValue(Vocabulary.MessageStart);
        json.WriteStringValue(Vocabulary.MessageEnd);
        json.WriteEndArray();
        json.WriteNull("bos_token");
        json.WriteString("chat_template", EmbeddedText.Read("ChatTemplate.jinja").TrimEnd('\n'));
        json.WriteBoolean("clean_up_tokenization_spaces", false);
        json.WriteString("eos_token", Vocabulary.MessageEnd);
        json.WriteString("errors", "replace");
        json.WriteNumber("model_max_length", ModelMaximumLength);
        json.WriteString("pad_token", Vocabulary.EndOfText);
        json.WriteBoolean("split_special_tokens", false);
        json.WriteString("tokenizer_class", "Qwen2Tokenizer");
        json.WriteNull("unk_token");
        json.WriteEndObject();
    }

    private static void WriteAddedToken(Utf8JsonWriter json, string content)
    {
        json.WriteString("content", content);
        json.WriteBoolean("lstrip", false);
        json.WriteBoolean("normalized", false);
        json.WriteBoolean("rstrip", false);
        json.WriteBoolean("single_word", false);
        json.WriteBoolean("special", true);
        json.WriteEndObject();
    }

    private static void WriteJson(string path, JsonWriterOptions options, Action<Utf8JsonWriter> write)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = new(stream, options))
        {
            write(json);
        }

        OutputFile.WriteText(path, Encoding.UTF8.GetString(stream.GetBuffer(), 0, (int)stream.Length) + "\n");
    }
}
