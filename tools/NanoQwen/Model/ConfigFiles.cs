using System.Text.Json.Nodes;
using MLNetLora.Tools.NanoQwen.Tokenization;

namespace MLNetLora.Tools.NanoQwen.Model;

/// <summary>Writes config.json and generation_config.json in the spelling of the published Qwen3 checkpoints.</summary>
internal static class ConfigFiles
{
    public static void Write(NanoShape shape, Vocabulary vocabulary, string folder)
    {
        if (shape.VocabularySize < vocabulary.Size)
        {
            throw new OptionException($"the vocabulary has {vocabulary.Size} tokens, the embedding only {shape.VocabularySize} rows");
        }

        int endOfText = vocabulary.SpecialId(Vocabulary.EndOfText);
        int messageEnd = vocabulary.SpecialId(Vocabulary.MessageEnd);
        Save(folder, "config.json", new JsonObject
        {
            ["architectures"] = new JsonArray("Qwen3ForCausalLM"),
            ["attention_bias"] = false,
            ["attention_dropout"] = 0.0,
            ["bos_token_id"] = endOfText,
            ["eos_token_id"] = messageEnd,
            ["head_dim"] = shape.HeadDimension,
            ["hidden_act"] = "silu",
            ["hidden_size"] = shape.HiddenSize,
            ["initializer_range"] = 0.02,
            ["intermediate_size"] = shape.IntermediateSize,
            ["max_position_embeddings"] = shape.MaximumPositions,
            ["max_window_layers"] = shape.Layers,
            ["model_type"] = "qwen3",
            ["num_attention_heads"] = shape.Heads,
            ["num_hidden_layers"] = shape.Layers,
            ["num_key_value_heads"] = shape.KeyValueHeads,
            ["pad_token_id"] = endOfText,
            ["rms_norm_eps"] = 1e-6,
            ["rope_scaling"] = null,
            ["rope_theta"] = shape.RopeTheta,
            ["sliding_window"] = null,
            ["tie_word_embeddings"] = true,
            ["torch_dtype"] = "bfloat16",
            ["transformers_version"] = "4.51.0",
            ["use_cache"] = true,
            ["use_sliding_window"] = false,
            ["vocab_size"] = shape.VocabularySize,
        });
        Save(folder, "generation_config.json", new JsonObject
        {
            ["bos_token_id"] = endOfText,
            ["do_sample"] = false,
            ["eos_token_id"] = new JsonArray(messageEnd, endOfText),
            ["pad_token_id"] = endOfText,
            ["transformers_version"] = "4.51.0",
        });
    }

    private static void Save(string folder, string name, JsonObject content) =>
        OutputFile.WriteText(Path.Combine(folder, name), content.ToJsonString(OutputFile.IndentedJson) + "\n");
}
