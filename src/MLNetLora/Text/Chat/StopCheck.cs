using System.Text.Json;
using MLNetLora.Models;

namespace MLNetLora.Text;

/// <summary>
/// Whether a checkpoint knows the token that ends an answer. Base checkpoints (Qwen2.5-0.5B, Qwen3-0.6B-Base) ship the chat template and the control tokens of
/// their instruct siblings, but were not trained on them. What tells them apart is eos_token_id in config.json and generation_config.json:
/// &lt;|im_end|&gt; is among the ids of an instruct checkpoint, a base has &lt;|endoftext|&gt; alone.
/// Qwen1's chat checkpoints are the exception: they say chat_format "chatml" in generation_config.json instead. The name of the folder is not looked at.
/// </summary>
internal static class StopCheck
{
    /// <summary>
    /// What to warn of before conversations are trained on the checkpoint with a frozen head; null where all is well, or where the files do not say.
    /// </summary>
    public static string? Warning(string folder, QwenConfig config, QwenTokenizer tokenizer)
    {
        if (tokenizer.ImEndId is not { } end
            || tokenizer.EndOfTextId is not { } endOfText
            || config.EosTokenIds.Contains(end)
            || !config.EosTokenIds.Contains(endOfText))
        {
            return null;
        }

        string generation = Path.Combine(folder, "generation_config.json");
        if (File.Exists(generation) && TokenizerConfigFile.Parse(generation, IsChatMl))
        {
            return null;
        }

        return "Answers may not stop: this looks like a base checkpoint, because its eos_token_id is <|endoftext|> and not <|im_end|>, "
            + "with which the chat template ends answers. "
            + "In base models the rows of <|im_start|> and <|im_end|> in embedding and output head are all but untrained, "
            + "and LoRA leaves both frozen. Take the -Instruct checkpoint of the same size; "
            + "or train documents in a wording of your own (column Text), which end with the <|endoftext|> that base models know; "
            + "or train embed_tokens and lm_head too (PEFT's modules_to_save), which is not done here.";
    }

    private static bool IsChatMl(JsonElement root) =>
        root.ValueKind == JsonValueKind.Object
        && root.TryGetProperty("chat_format", out JsonElement format)
        && format.ValueKind == JsonValueKind.String
        && format.ValueEquals("chatml");
}
