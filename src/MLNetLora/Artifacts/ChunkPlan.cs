using MLNetLora.Models;

namespace MLNetLora.Artifacts;

/// <summary>
/// Into how many parts a graph cuts its largest matrices, fixed when the graph is built. Chosen for an ordinary batch of the run:
/// parts too small waste time (a chunk of the loss reads the whole output layer), parts too large waste memory.
/// </summary>
/// <param name="Loss">Parts of the labelled rows; each has its own [rows, vocabulary] matrix.</param>
/// <param name="Attention">Parts of the queries; a batch's length is padded to a multiple.</param>
/// <param name="RecomputeAttention">Whether attention probabilities are made again in the backward pass instead of being kept.</param>
/// <param name="Vocabulary">Parts of a frozen output layer; those of the labelled rows go through one after another.</param>
/// <param name="OwnMemory">Whether recomputed blocks hand on no memory to each other.</param>
/// <param name="Flash">Whether attention of layers without a window is one operator in the forward pass: where no rows are packed. Probabilities are then made
/// again in the backward pass.</param>
internal sealed record ChunkPlan(int Loss, int Attention, bool RecomputeAttention, int Vocabulary = 1, bool OwnMemory = false, bool Flash = false)
{
    /// <summary>From here on rows are long. Measured with recomputed blocks of their own memory: at 512 tokens 3% less of it for 3 s more at the start, at
    /// 2048 17% (a dense model of 0.75B) and 22% (Qwen3.5 of that size) for 10 s, at 4096 30% and 33% for 24 s; a step took 33 and 90 s there.</summary>
    private const int Long = 1024;

    /// <summary>Rows of a part of the output layer. Measured at 256 rows of x: the product back runs at 265 GFLOP/s with parts of 9,496 rows, at 249
    /// whole.</summary>
    /// <summary>Queries of a part of attention in the backward pass on a GPU.</summary>
    public const int CudaQueries = 512;

    private const int VocabularyRows = 10_000;

    /// <summary>Elements of one chunk of logits: 160 MB, 256 rows of Qwen2.5's vocabulary. Measured there: 64 rows cost 5% of a step, 128 half of
    /// that; 512 brought nothing and took 0.2 GB more.</summary>
    private const long LossElements = 40_000_000;

    /// <summary>Nothing cut.</summary>
    public static ChunkPlan Whole { get; } = new(1, 1, false);

    /// <summary>
    /// The plan for a run. Attention is cut into chunks of 256 queries beyond 512 tokens, so that those of packed rows score few keys of other rows,
    /// and into no more than 16 up to 8192: each makes the graph larger. At 2048, 16 chunks of 128 were 2 to 5% faster than 8 on packed rows, but
    /// took 2 s more to start and 5% more memory with recomputed blocks.
    /// </summary>
    /// <param name="config">The model.</param>
    /// <param name="length">Longest sequence.</param>
    /// <param name="labels">Labelled tokens of an ordinary batch.</param>
    /// <param name="mostLabels">Most labelled tokens in a batch; such a batch may have chunks four times as large.</param>
    /// <param name="maximumLoss">Most parts of the loss. Where the output layer itself is trained, every part has a gradient of its size.</param>
    public static ChunkPlan For(QwenConfig config, int length, int labels, int mostLabels, int maximumLoss = 64) => new(
        Loss: (int)Math.Clamp(Math.Max(Parts(labels, config, LossElements), Parts(mostLabels, config, 4 * LossElements)), 1, maximumLoss),
        Attention: length <= 512 ? Math.Max(1, length / 128) : Math.Max(Math.Clamp((length + 255) / 256, 4, 16), (length + 511) / 512),
        RecomputeAttention: length > Long,
        Vocabulary: (config.VocabSize + VocabularyRows - 1) / VocabularyRows,
        OwnMemory: length > Long);

    /// <summary>
    /// The same for a GPU, which wants large matrices: each part of a graph is a kernel to start. Counted at 7B, 4 x 2048 tokens in bfloat16 with recomputed
    /// blocks: 8,200 kernels a micro-batch instead of 20,700, 22.7 GB instead of 22.6, and 10 to 26 s to open instead of 37.
    /// </summary>
    /// <param name="config">The model.</param>
    /// <param name="length">Longest sequence.</param>
    /// <param name="labels">Labelled tokens of an ordinary batch.</param>
    /// <param name="mostLabels">Most labelled tokens in a batch.</param>
    /// <param name="maximumLoss">Most parts of the loss.</param>
    /// <param name="flash">Whether no rows are packed, and the graph computes in a type that the one operator is fast in.</param>
    public static ChunkPlan ForCuda(QwenConfig config, int length, int labels, int mostLabels, int maximumLoss = 64, bool flash = false)
    {
        const long Elements = 2 * LossElements;
        return new(
            Loss: (int)Math.Clamp(Math.Max(Parts(labels, config, Elements), Parts(mostLabels, config, 2 * Elements)), 1, maximumLoss),
            Attention: (length + CudaQueries - 1) / CudaQueries,
            RecomputeAttention: length > Long,
            Flash: flash);
    }

    private static long Parts(long labels, QwenConfig config, long elements) => ((labels * config.VocabSize) + elements - 1) / elements;
}
