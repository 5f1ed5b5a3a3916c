namespace MLNetLora.Tools.NanoQwen.Model;

/// <summary>The sizes of the nano model, and the arithmetic by which they were chosen.</summary>
internal sealed record NanoShape
{
    public int VocabularySize { get; init; } = 5632;
    public int HiddenSize { get; init; } = 256;
    public int Layers { get; init; } = 4;
    public int Heads { get; init; } = 4;
    public int KeyValueHeads { get; init; } = 2;
    public int HeadDimension { get; init; } = 64;
    public int IntermediateSize { get; init; } = 704;
    public int MaximumPositions { get; init; } = 512;

    /// <summary>Smaller than the published 1,000,000, with which two thirds of the rotations never complete a turn within 512 positions and teach
    /// nothing about order.</summary>
    public int RopeTheta { get; init; } = 10_000;

    /// <summary>Weights of the linear layers of one layer.</summary>
    private long LayerWeights =>
        2L * HiddenSize * Heads * HeadDimension + 2L * HiddenSize * KeyValueHeads * HeadDimension + 3L * HiddenSize * IntermediateSize;

    /// <summary>All parameters; the embedding is tied and counts once.</summary>
    public long Parameters =>
        (long)VocabularySize * HiddenSize + Layers * (LayerWeights + 2L * HiddenSize + 2L * HeadDimension) + HiddenSize;

    /// <summary>Bytes of the weights in bf16.</summary>
    public long Bytes => 2 * Parameters;

    /// <summary>Floating-point operations of one training token: 2 per multiply-add, forward and twice that backward, scores over the whole window.</summary>
    public double TrainingFlopsPerToken(int sequenceLength) =>
        6.0 * (Layers * (LayerWeights + 2L * sequenceLength * Heads * HeadDimension) + (long)VocabularySize * HiddenSize);

    /// <summary>How many tokens a time budget pays for.</summary>
    /// <param name="sequenceLength">Window length, in tokens.</param>
    /// <param name="seconds">Wall-clock time, in seconds.</param>
    /// <param name="gflops">What the machine reaches on large matrices, in GFLOP/s.</param>
    /// <param name="efficiency">What remains of it with matrices this small, norms, softmax and the optimizer step, 0 to 1.</param>
    public long TokenBudget(int sequenceLength, double seconds, double gflops, double efficiency) =>
        (long)(seconds * gflops * 1e9 * efficiency / TrainingFlopsPerToken(sequenceLength));
}
