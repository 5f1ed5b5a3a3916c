namespace MLNetLora.TextGeneration;

/// <summary>What a run trains; LLaMA-Factory's finetuning_type.</summary>
public enum FineTuningMethod
{
    /// <summary>An adapter beside the frozen base [lora]. The default.</summary>
    Lora,

    /// <summary>
    /// Every weight of the base [full]. Takes sixteen bytes for each in memory with AdamW (the weights, their gradients and two moments in float32; twelve
    /// with Lion, ten with AdamW8Bit, eight with Sgd) and writes a checkpoint of its own to <see cref="QwenLoraTrainer.Options.OutputFolder"/>, each tensor in
    /// its type in the base, with a vision tower as it is there; the base's files stay as they are.
    /// </summary>
    Full,
}
