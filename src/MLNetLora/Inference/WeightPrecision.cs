namespace MLNetLora.Inference;

/// <summary>How the frozen weights of the linear layers and of the output layer are held while answers are generated. Checkpoint files and adapters are never changed.</summary>
public enum WeightPrecision
{
    /// <summary>As the checkpoint has them: float32 stays mapped, 16-bit weights are widened once. The default.</summary>
    Checkpoint,

    /// <summary>8-bit integers in blocks of 128 along the inputs, one scale each; rounded while loading. Close to lossless, a quarter of the memory traffic of float32.</summary>
    Int8,

    /// <summary>4-bit integers in blocks of 128 along the inputs, a scale and a zero point each; rounded while loading. Smallest and fastest, with a visible loss.</summary>
    Int4,
}
