using MLNetLora.Runtime;

namespace MLNetLora.Training;

/// <summary>
/// What the loss is multiplied with, so that gradients do not vanish in float16 (Micikevicius et al. 2018, arXiv:1710.03740). It is as large as it can be: a
/// step whose gradients overflow is skipped and halves it, 2,000 steps without one double it. The numbers are those of PyTorch's GradScaler, which transformers
/// uses.
/// </summary>
/// <param name="Factor">The factor; 1 for types that need none.</param>
/// <param name="GoodSteps">Steps since it last changed.</param>
internal sealed record LossScale(float Factor, int GoodSteps)
{
    private const float First = 65_536;
    private const float Least = 1 / 65_536f; // what still overflows does so in the forward pass, too
    private const int GrowthInterval = 2_000;

    /// <summary>No scaling.</summary>
    public static LossScale None { get; } = new(1, -1);

    /// <summary>Whether steps may be skipped.</summary>
    public bool IsDynamic => GoodSteps >= 0;

    /// <summary>Whether it is so small that lowering it further is no remedy.</summary>
    public bool IsExhausted => Factor < Least;

    /// <summary>At the start of a run.</summary>
    public static LossScale For(ComputeType type) => type == ComputeType.Float16 ? new LossScale(First, 0) : None;

    /// <summary>After a step.</summary>
    /// <param name="wasSkipped">Whether its gradients were not finite.</param>
    public LossScale After(bool wasSkipped) => !IsDynamic ? this
        : wasSkipped ? new LossScale(Factor / 2, 0)
        : GoodSteps + 1 == GrowthInterval && float.IsFinite(Factor * 2) ? new LossScale(Factor * 2, 0)
        : this with { GoodSteps = Math.Min(GoodSteps + 1, GrowthInterval) };
}
