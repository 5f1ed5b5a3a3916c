namespace MLNetLora.Quantization;

/// <summary>
/// How the frozen weights of the linear layers are held, in training and in generation. Checkpoint files and adapters are never changed; adapters,
/// their gradients, norms and attention are always computed in float32. Experts of a mixture are no linear layers: with every precision they stay in the file,
/// as it has them, and are multiplied in float32 (bitsandbytes leaves them out, too).
/// </summary>
public enum WeightPrecision
{
    /// <summary>As the checkpoint has them, multiplied in float32: float32 weights stay mapped, 16-bit ones are upcast. The default.</summary>
    Checkpoint,

    /// <summary>
    /// 8-bit integers. In generation in blocks of 128 along the inputs, one scale each, quantized while loading: close to lossless, a quarter of the
    /// memory traffic of float32.
    /// In training the linear layers of the blocks, with a scale per row and column, forward and backward: faster and close, but not the same
    /// (torchao: int8 mixed-precision training; Wortsman et al. 2023, arXiv:2304.13013); two quantized copies are held, two bytes per weight in all,
    /// and losses on validation rows are still computed in float32.
    /// </summary>
    Int8,

    /// <summary>
    /// 4-bit integers in blocks of 128 along the inputs, a scale and a zero point each, quantized while loading: smallest and fastest, with a visible
    /// loss. For generation; training refuses it.
    /// </summary>
    Int4,

    /// <summary>
    /// NF4, the 4-bit numbers of QLoRA (bnb_4bit_quant_type "nf4"), in blocks of 64 with a float32 absmax each. The linear layers are quantized once and
    /// kept in a cache file (the folder that MLNETLORA_CACHE names, else MLNetLora in local application data), which is mapped. Training computes with exactly
    /// these weights. In generation they are expanded to 8 bits in private memory.
    /// </summary>
    Nf4,

    /// <summary><see cref="Nf4"/> with the absmax values in 8 bits (bnb_4bit_use_double_quant): 4.13 bits for each weight instead of 4.5.</summary>
    Nf4Double,

    /// <summary>FP4 (bnb_4bit_quant_type "fp4"), otherwise as <see cref="Nf4"/>.</summary>
    Fp4,

    /// <summary>FP4 with the absmax values in 8 bits, otherwise as <see cref="Nf4"/>.</summary>
    Fp4Double,
}
