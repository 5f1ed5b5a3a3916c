namespace MLNetLora.Adapters;

/// <summary>The shape of a LoRA adapter. The names in brackets are PEFT's, in adapter_config.json.</summary>
public sealed record LoraOptions
{
    /// <summary>Rank of the factors [r]. Default 64.</summary>
    public int Rank { get; init; } = 64;

    /// <summary>Numerator of the scaling [lora_alpha]: alpha/r, or alpha/√r with <see cref="UseRsLora"/>. Default 16.</summary>
    public double Alpha { get; init; } = 16;

    /// <summary>Probability with which an input of the adapter is dropped in training [lora_dropout]; kept ones are scaled by 1/(1−p). Default 0.05.</summary>
    public double Dropout { get; init; } = 0.05;

    /// <summary>Rank-stabilised scaling alpha/√r [use_rslora] (Kalajdzievski 2023, arXiv:2312.03732). Default false.</summary>
    public bool UseRsLora { get; init; }

    /// <summary>Which layers get an adapter [target_modules]. Default q_proj and v_proj.</summary>
    public TargetModules TargetModules { get; init; } = ["q_proj", "v_proj"];

    /// <summary>Numbers of the blocks that get an adapter [layers_to_transform]; null (default) means all. Not with a regular expression in <see cref="TargetModules"/>.</summary>
    public IReadOnlyList<int>? LayersToTransform { get; init; }

    /// <summary>Other ranks for some modules [rank_pattern]: the key is a regular expression that the end of the module name must match. Order counts: the first match wins.</summary>
    public IReadOnlyDictionary<string, int> RankPattern { get; init; } = new Dictionary<string, int>();

    /// <summary>Other alphas for some modules [alpha_pattern]; keys as in <see cref="RankPattern"/>.</summary>
    public IReadOnlyDictionary<string, double> AlphaPattern { get; init; } = new Dictionary<string, double>();

    /// <summary>Throws an <see cref="OptionException"/> that names the first option that makes no sense.</summary>
    public void Validate()
    {
        Require(Rank >= 1, nameof(Rank), Rank, "at least 1");
        Require(double.IsFinite(Alpha) && Alpha > 0, nameof(Alpha), Alpha, "a positive number");
        Require(Dropout is >= 0 and < 1, nameof(Dropout), Dropout, "at least 0 and below 1");
        Require(RankPattern.Values.All(rank => rank >= 1), nameof(RankPattern), string.Join(", ", RankPattern), "ranks of at least 1");
        Require(AlphaPattern.Values.All(alpha => double.IsFinite(alpha) && alpha > 0), nameof(AlphaPattern), string.Join(", ", AlphaPattern), "positive numbers");
        Require(LayersToTransform is null || TargetModules.Pattern is null || TargetModules.IsAllLinear, nameof(LayersToTransform), "set",
            "null when TargetModules is a regular expression; say the layers in the expression");
        if (TargetModules.Pattern is null && !TargetModules.Any())
        {
            throw new OptionException($"{nameof(TargetModules)} is empty; name at least one layer, such as q_proj, or \"all-linear\".");
        }
    }

    private static void Require(bool holds, string option, object value, string allowed)
    {
        if (!holds)
        {
            throw new OptionException(FormattableString.Invariant($"{option} is {value}; it must be {allowed}."));
        }
    }
}
