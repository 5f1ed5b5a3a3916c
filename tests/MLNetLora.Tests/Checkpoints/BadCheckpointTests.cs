using System.Buffers.Binary;
using System.Text;
using System.Text.Json.Nodes;
using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.Tests.Checkpoints;

/// <summary>What can be wrong with a checkpoint folder, and that the message says it.</summary>
public sealed class BadCheckpointTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public BadCheckpointTests() => TinyModel.WriteCheckpoint(_folder.Path, "qwen2", tied: false);

    private string Weights => _folder.File("model.safetensors");

    [Fact]
    public void A_sound_folder_opens() => Assert.Equal("qwen2", Checkpoint.Open(_folder.Path).Config.ModelType);

    [Fact]
    public void A_folder_that_is_not_there() => Fails("There is no folder", () => Checkpoint.Open(_folder.File("nowhere")));

    [Fact]
    public void No_configuration()
    {
        File.Delete(_folder.File("config.json"));
        Fails("config.json cannot be read");
    }

    [Fact]
    public void A_configuration_that_is_not_json()
    {
        File.WriteAllText(_folder.File("config.json"), "{ \"model_type\": ");
        Fails("config.json is not valid JSON");
    }

    [Theory]
    [InlineData("model_type", "\"llama\"", "model_type is 'llama'; this version knows qwen, qwen2, qwen3")]
    [InlineData("hidden_size", "-3", "hidden_size is -3; it must be a whole number of at least 1")]
    [InlineData("hidden_size", "null", "has no hidden_size")]
    [InlineData("hidden_size", "2000000000", "hidden_size is 2000000000; it must be a whole number of at least 1 and at most 131072")]
    [InlineData("intermediate_size", "2000000000", "intermediate_size is 2000000000")]
    [InlineData("num_attention_heads", "100000", "num_attention_heads is 100000")]
    [InlineData("num_key_value_heads", "\"2\"", "num_key_value_heads is \"2\"")]
    [InlineData("head_dim", "100000", "head_dim is 100000")]
    [InlineData("head_dim", "7", "the head size is 7")]
    [InlineData("num_hidden_layers", "1000000", "num_hidden_layers is 1000000")]
    [InlineData("vocab_size", "2000000000", "vocab_size is 2000000000")]
    [InlineData("max_position_embeddings", "2000000000", "max_position_embeddings is 2000000000")]
    [InlineData("rms_norm_eps", "-1", "rms_norm_eps is -1; it must be a number from 0 to 1")]
    [InlineData("rope_theta", "0", "rope_theta is 0; it must be a number above 0")]
    [InlineData("rope_parameters", "{\"rope_theta\":\"much\"}", "rope_parameters.rope_theta is \"much\"; it must be a number above 0")]
    [InlineData("rope_scaling", "{\"rope_type\":\"linear\",\"factor\":0}", "rope_scaling.factor is 0")]
    [InlineData("rope_scaling", "4", "rope_scaling is 4; it must be an object")]
    [InlineData("tie_word_embeddings", "\"no\"", "tie_word_embeddings is \"no\"; it must be true or false")]
    [InlineData("hidden_act", "7", "hidden_act is 7; it must be text")]
    [InlineData("num_key_value_heads", "3", "num_attention_heads (4) is not a multiple of num_key_value_heads (3)")]
    [InlineData("hidden_act", "\"gelu\"", "hidden_act is 'gelu'")]
    [InlineData("rope_scaling", "{\"rope_type\":\"longrope\"}", "the rotary scaling 'longrope'; this library knows default, linear and yarn")]
    [InlineData("rope_scaling", "{\"rope_type\":\"yarn\",\"factor\":4,\"mscale\":0.7}", "sets mscale")]
    [InlineData("rope_parameters", "{\"rope_type\":\"default\",\"partial_rotary_factor\":0.25}", "sets partial_rotary_factor")]
    [InlineData("quantization_config", "{\"quant_method\":\"gptq\"}", "describes a quantized checkpoint")]
    [InlineData("vocab_size", "25", "'model.embed_tokens.weight' has the shape [24, 16], but config.json asks for [25, 16]")]
    [InlineData("num_hidden_layers", "3", "has no tensor 'model.layers.2.input_layernorm.weight'")]
    public void A_configuration_that_does_not_fit(string field, string value, string message)
    {
        JsonObject config = JsonNode.Parse(File.ReadAllText(_folder.File("config.json")))!.AsObject();
        config[field] = JsonNode.Parse(value);
        File.WriteAllText(_folder.File("config.json"), config.ToJsonString());
        Fails(message);
    }

    [Theory]
    [InlineData("\\ud800", "model_type is \"\\ud800\"; it must be text")]
    [InlineData("\u00ff\u00fe", "model_type is '")]
    public void A_model_type_that_is_not_text(string name, string message)
    {
        File.WriteAllBytes(_folder.File("config.json"), Encoding.Latin1.GetBytes($$"""{"model_type":"{{name}}"}"""));
        Fails(message);
    }

    [Fact]
    public void A_name_that_is_not_text()
    {
        File.WriteAllText(_folder.File("config.json"), """{"model_typ\ud800":"qwen2"}""");
        Fails("config.json");
    }

    [Fact]
    public void More_heads_than_numbers()
    {
        JsonObject config = JsonNode.Parse(File.ReadAllText(_folder.File("config.json")))!.AsObject();
        config.Remove("head_dim");
        config["num_attention_heads"] = 32;
        File.WriteAllText(_folder.File("config.json"), config.ToJsonString());
        Fails("the head size is 0");
    }

    [Fact]
    public void A_configuration_of_a_size_that_none_has_is_not_read()
    {
        using (FileStream stream = File.Create(_folder.File("config.json")))
        {
            stream.SetLength(1L << 40); // a sparse file
        }

        Fails("config.json has more than 33554432 bytes");
    }

    [Theory]
    [InlineData("""{"use_sliding_window":true,"sliding_window":7,"max_window_layers":0}""", new[] { 7, 7 })]
    [InlineData("""{"use_sliding_window":true,"sliding_window":7,"max_window_layers":1}""", new[] { 0, 7 })]
    [InlineData("""{"use_sliding_window":true,"sliding_window":7,"layer_types":["sliding_attention","full_attention"]}""", new[] { 7, 0 })]
    [InlineData("""{"use_sliding_window":true,"max_window_layers":1}""", new[] { 0, 4096 })]
    [InlineData("""{"use_sliding_window":true,"sliding_window":null,"max_window_layers":0}""", new[] { 0, 0 })]
    [InlineData("""{"use_sliding_window":false,"sliding_window":7,"max_window_layers":0}""", new[] { 0, 0 })]
    public void Sliding_windows_by_layer(string fields, int[] expected)
    {
        JsonObject config = JsonNode.Parse(File.ReadAllText(_folder.File("config.json")))!.AsObject();
        foreach (string field in (string[])["use_sliding_window", "sliding_window", "max_window_layers"])
        {
            config.Remove(field);
        }

        foreach ((string key, JsonNode? value) in JsonNode.Parse(fields)!.AsObject())
        {
            config[key] = value?.DeepClone();
        }

        File.WriteAllText(_folder.File("config.json"), config.ToJsonString());
        Assert.Equal(expected, Checkpoint.Open(_folder.Path).Config.SlidingWindows.Select(window => window ?? 0));
    }

    [Fact]
    public void No_weights()
    {
        File.Delete(Weights);
        Fails("has neither model.safetensors nor model.safetensors.index.json");
    }

    [Fact]
    public void Pickled_weights_are_not_opened()
    {
        File.Move(Weights, _folder.File("pytorch_model.bin"));
        Fails("Python pickles and are never opened");
    }

    [Fact]
    public void A_truncated_file()
    {
        File.WriteAllBytes(Weights, File.ReadAllBytes(Weights)[..^40]);
        Fails("model.safetensors places the tensor", "truncated");
    }

    [Fact]
    public void A_file_with_bytes_too_many()
    {
        File.AppendAllText(Weights, "xxxx");
        Fails("should be", "bytes long by its header");
    }

    [Theory]
    [InlineData(0)]
    [InlineData(5)]
    public void A_file_shorter_than_a_header(int length)
    {
        File.WriteAllBytes(Weights, new byte[length]);
        Fails($"is only {length} bytes long");
    }

    [Theory]
    [InlineData(long.MaxValue)]
    [InlineData(-1)]
    [InlineData(100_000_001)]
    [InlineData(1 << 20)]
    public void A_header_that_lies_about_its_length(long length)
    {
        byte[] bytes = File.ReadAllBytes(Weights);
        BinaryPrimitives.WriteInt64LittleEndian(bytes, length);
        File.WriteAllBytes(Weights, bytes);
        Fails("announces a header of");
    }

    [Theory]
    [InlineData("not json at all", "has a header that is not JSON")]
    [InlineData("[1]", "has a header that is not a JSON object")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", "describes the tensor 'a' without a proper")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", "gives the tensor 'a' 4 bytes, but [2] of F32 needs 8")]
    [InlineData("{\"a\":{\"dtype\":\"Q7\",\"shape\":[2],\"data_offsets\":[0,8]}}", "the type 'Q7', which this library does not know")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", "an impossible shape")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,8]}}", "an impossible shape")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
        "a gap or an overlap before the tensor 'b'")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "a gap or an overlap before the tensor 'a'")]
    public void A_header_that_is_wrong(string header, string message)
    {
        byte[] text = Encoding.UTF8.GetBytes(header);
        byte[] prefix = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(prefix, text.Length);
        File.WriteAllBytes(Weights, [.. prefix, .. text, .. new byte[8]]);
        Fails(message);
    }

    [Fact]
    public void A_type_that_cannot_be_computed_with()
    {
        byte[] bytes = File.ReadAllBytes(Weights);
        string text = Encoding.Latin1.GetString(bytes);
        File.WriteAllBytes(Weights, Encoding.Latin1.GetBytes(
            text.Replace("\"model.norm.weight\":{\"dtype\":\"F32\"", "\"model.norm.weight\":{\"dtype\":\"I32\"", StringComparison.Ordinal)));
        Fails("'model.norm.weight' has the type I32; F32, F16 or BF16 is needed");
    }

    [Fact]
    public void A_shard_that_is_missing()
    {
        File.Move(Weights, _folder.File("elsewhere.safetensors"));
        File.WriteAllText(_folder.File("model.safetensors.index.json"), """{"weight_map":{"model.norm.weight":"model-00001-of-00002.safetensors"}}""");
        Fails("model-00001-of-00002.safetensors is missing");
    }

    [Theory]
    [InlineData("../other/model.safetensors")]
    [InlineData("/etc/passwd")]
    [InlineData("sub/model.safetensors")]
    public void A_shard_outside_the_folder(string path)
    {
        File.Delete(Weights);
        File.WriteAllText(_folder.File("model.safetensors.index.json"), $$$"""{"weight_map":{"model.norm.weight":"{{{path}}}"}}""");
        Fails("only plain file names beside the index are allowed");
    }

    [Fact]
    public void Random_damage_is_a_typed_error_or_a_sound_file()
    {
        byte[] sound = File.ReadAllBytes(Weights);
        int header = (int)BinaryPrimitives.ReadInt64LittleEndian(sound);
        Random random = new(1);
        int refused = 0;
        for (int i = 0; i < 2000; i++)
        {
            byte[] bytes = [.. sound];
            for (int j = random.Next(1, 4); j > 0; j--)
            {
                bytes[random.Next(8 + header)] = (byte)random.Next(256);
            }

            File.WriteAllBytes(Weights, random.Next(8) == 0 ? bytes[..random.Next(bytes.Length)] : bytes);
            try
            {
                Checkpoint.Open(_folder.Path);
            }
            catch (CheckpointException)
            {
                refused++;
            }
        }

        Assert.True(refused > 1000);
    }

    [Fact]
    public void Random_damage_to_the_configuration_is_a_typed_error_or_a_sound_file()
    {
        byte[] sound = File.ReadAllBytes(_folder.File("config.json"));
        Random random = new(2);
        int refused = 0;
        for (int i = 0; i < 2000; i++)
        {
            byte[] bytes = [.. sound];
            for (int j = random.Next(1, 4); j > 0; j--)
            {
                bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
            }

            File.WriteAllBytes(_folder.File("config.json"), bytes);
            try
            {
                Checkpoint.Open(_folder.Path);
            }
            catch (CheckpointException)
            {
                refused++;
            }
        }

        Assert.True(refused > 1000);
    }

    public void Dispose() => _folder.Dispose();

    private void Fails(params string[] parts)
    {
        string message = Assert.Throws<CheckpointException>(() => Checkpoint.Open(_folder.Path)).Message;
        Assert.All(parts, part => Assert.Contains(part, message, StringComparison.Ordinal));
        Assert.Contains(_folder.Path, message, StringComparison.Ordinal);
    }

    private static void Fails(string part, Func<object> action) =>
        Assert.Contains(part, Assert.Throws<CheckpointException>(action).Message, StringComparison.Ordinal);
}
