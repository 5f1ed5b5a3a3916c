namespace MLNetLora.Runtime;

/// <summary>The type of the numbers that a model computes with. Trained parameters, the buffers that their gradients are added to and the optimizer's states
/// are float32 in any case, and so is what would lose too much: the loss, the statistics of norms, sigmoids, the delta rule. The peers' names: torch_dtype, and
/// bf16 of transformers.</summary>
public enum ComputeType
{
    /// <summary>32-bit floats.</summary>
    Float32,

    /// <summary>Brain floats of 16 bits: the range of 32-bit floats with 8 bits of precision, half of the memory, and many times the speed on a GPU of compute
    /// capability 8.0 (Ampere) or later, which alone has it.</summary>
    BFloat16,

    /// <summary>
    /// IEEE floats of 16 bits: 11 bits of precision and a largest number of 65,504, for GPUs that have no bfloat16 (compute capability 7.5). The loss is scaled
    /// so that gradients do not vanish, and steps whose gradients overflow are skipped (<see cref="Training.TrainingProgress.WasSkipped"/>); a model whose own
    /// numbers are larger, as those of some Qwen2 models are, cannot be trained in it. The peers' name: fp16.
    /// </summary>
    Float16,
}
