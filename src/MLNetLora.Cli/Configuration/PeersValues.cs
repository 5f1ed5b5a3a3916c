using MLNetLora.Adapters;
using MLNetLora.Runtime;
using MLNetLora.Training;

namespace MLNetLora.Cli.Configuration;

/// <summary>Values of PEFT, transformers and LLaMA-Factory that are written otherwise than ours.</summary>
internal static class PeersValues
{
    /// <summary>init_lora_weights: true, false, or the name of a way.</summary>
    public static object? InitLoraWeights(Given given)
    {
        if (given.Value is ScalarValue { IsQuoted: false, Text: "true" or "True" or "false" or "False" })
        {
            return Values.Flag(given) ? LoraInitialization.Default : LoraInitialization.Random;
        }

        return Values.Text(given) switch
        {
            "gaussian" => LoraInitialization.Gaussian,
            "orthogonal" => LoraInitialization.Orthogonal,
            ['p', 'i', 's', 's', 'a', ..] => LoraInitialization.Pissa, // pissa_niter_16 says how exactly; 8 passes are made here
            _ => throw given.Wrong("true, false, gaussian, orthogonal or pissa; the other ways need data or a base that is changed"),
        };
    }

    /// <summary>max_steps: -1 is no limit.</summary>
    public static object? MaximumSteps(Given given) => Values.Whole(given, least: -1) is > 0 and var steps ? (int)steps : null;

    /// <summary>lr_scheduler_type.</summary>
    public static object? Schedule(Given given) => Values.OneOf(
        given,
        ("linear", LearningRateSchedule.Linear),
        ("cosine", LearningRateSchedule.Cosine),
        ("constant", LearningRateSchedule.Constant),
        ("constant_with_warmup", LearningRateSchedule.Constant));

    /// <summary>train_sampling_strategy, but for grouping, which is another setting.</summary>
    public static object? SamplingStrategy(Given given) => Values.OneOf(given, ("random", true), ("sequential", false));

    /// <summary>use_cpu.</summary>
    public static object? Cpu(Given given) => Values.Flag(given) ? Device.Cpu : Setting.Unsaid;

    /// <summary>optim, and our own names.</summary>
    public static object? Optimizer(Given given)
    {
        string name = Values.Text(given);
        try
        {
            return Casing.Bare(name) switch
            {
                "adamw" => OptimizerKind.AdamW,
                "adamw8bit" => OptimizerKind.AdamW8Bit,
                "lion" => OptimizerKind.Lion,
                _ => OptimizerNames.Parse(name.ToLowerInvariant()),
            };
        }
        catch (OptionException e)
        {
            throw new ConfigException(given.Wrong("adamw, adamw_8bit, sgd or lion, or transformers' names of them, such as adamw_torch or paged_adamw_8bit").Message, e);
        }
    }
}
