using MLNetLora.Adapters;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace MLNetLora.Cli.Configuration;

/// <summary>Keys of the peers that say together what one setting says here.</summary>
/// <param name="Keys">The keys.</param>
/// <param name="Sets">The settings that they decide.</param>
/// <param name="Meaning">What they mean here, for the documentation.</param>
/// <param name="Resolve">Gets those that were given, and assigns.</param>
internal sealed record CombinedKeys(
    IReadOnlyList<string> Keys, IReadOnlyList<string> Sets, string Meaning, Action<IReadOnlyDictionary<string, Given>, CombinedKeys.Assign> Resolve)
{
    /// <summary>Sets a setting.</summary>
    /// <param name="setting">Its name.</param>
    /// <param name="value">Its value.</param>
    /// <param name="from">What said so.</param>
    public delegate void Assign(string setting, object? value, Given from);

    /// <summary>All of them.</summary>
    public static IReadOnlyList<CombinedKeys> All { get; } =
    [
        new(["load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "use_bnb_nested_quant"],
            [nameof(QwenLoraTrainer.Options.Precision)],
            "bitsandbytes: the base in 4 bits (fp4 unless bnb_4bit_quant_type is nf4) or 8 bits", BitsAndBytes),
        new(["quantization_bit", "quantization_type", "double_quantization", "quantization_method"], [nameof(QwenLoraTrainer.Options.Precision)],
            "LLaMA-Factory: the base in 4 bits (nf4, quantized twice, unless said otherwise) or 8 bits", QuantizationBit),
        new(["bf16", "fp16", "pure_bf16", "torch_dtype", "dtype", "bnb_4bit_compute_dtype", "infer_dtype"], [nameof(RunSettings.MixedPrecision)],
            "the type that a GPU computes in; the processor computes in float32, and says so", ComputeIn),
        new(["eval_strategy", "evaluation_strategy", "do_eval", "eval_steps"], [nameof(RunSettings.Evaluates), nameof(QwenLoraTrainer.Options.EvaluationSteps)],
            "no: validation rows are not used; epoch: once an epoch; steps: every eval_steps", Evaluation),
        new(["save_strategy", "save_steps"], [nameof(QwenLoraTrainer.Options.SaveSteps), nameof(QwenLoraTrainer.Options.SaveEveryEpoch)],
            "no: no checkpoints; epoch: once an epoch; steps: every save_steps, 500 as in transformers where it is not given", Saving),
        new(["warmup_steps"], [nameof(QwenLoraTrainer.Options.WarmupSteps), nameof(QwenLoraTrainer.Options.WarmupRatio)],
            "a number of steps, or below 1 a share of all", (given, assign) => Warmup(given["warmup_steps"], assign)),
        new(["train_on_prompt", "mask_history", "assistant_only_loss", "completion_only_loss"], [nameof(QwenLoraTrainer.Options.LabelScope)],
            "train_on_prompt: everything; mask_history or completion_only_loss: the answer; mask_history false or assistant_only_loss: all answers", Labels),
        new(["do_sample"], [nameof(Inference.GenerationOptions.Temperature)],
            "false: temperature 0; true: temperature 1 unless temperature is given", DoSample),
    ];

    private static void BitsAndBytes(IReadOnlyDictionary<string, Given> given, Assign assign)
    {
        bool Is(string key) => given.TryGetValue(key, out Given? flag) && Values.Flag(flag);
        bool isDouble = Is("bnb_4bit_use_double_quant") || Is("use_bnb_nested_quant");
        WeightPrecision fourBit = given.TryGetValue("bnb_4bit_quant_type", out Given? type)
            ? Values.OneOf(
                type,
                ("nf4", isDouble ? WeightPrecision.Nf4Double : WeightPrecision.Nf4),
                ("fp4", isDouble ? WeightPrecision.Fp4Double : WeightPrecision.Fp4))
            : isDouble ? WeightPrecision.Fp4Double : WeightPrecision.Fp4; // bitsandbytes' default is fp4
        if (Is("load_in_4bit"))
        {
            Precision(fourBit, given["load_in_4bit"], assign);
        }
        else if (Is("load_in_8bit"))
        {
            Precision(WeightPrecision.Int8, given["load_in_8bit"], assign);
        }
        else if (given.Values.FirstOrDefault(other => other.Key.Contains("bnb", StringComparison.Ordinal)) is { } alone && !given.ContainsKey("load_in_4bit"))
        {
            throw alone.Refused("it says how a base in 4 bits is held; set load_in_4bit to true, or take it out.");
        }
    }

    private static void QuantizationBit(IReadOnlyDictionary<string, Given> given, Assign assign)
    {
        if (given.TryGetValue("quantization_method", out Given? method) && given.ContainsKey("quantization_bit"))
        {
            Values.OneOf(method, ("bnb", true), ("bitsandbytes", true));
        }

        if (!given.TryGetValue("quantization_bit", out Given? bits))
        {
            return; // LLaMA-Factory does not look at the others then
        }

        bool isDouble = !given.TryGetValue("double_quantization", out Given? twice) || Values.Flag(twice);
        WeightPrecision fourBit = given.TryGetValue("quantization_type", out Given? type)
            ? Values.OneOf(
                type,
                ("nf4", isDouble ? WeightPrecision.Nf4Double : WeightPrecision.Nf4),
                ("fp4", isDouble ? WeightPrecision.Fp4Double : WeightPrecision.Fp4))
            : isDouble ? WeightPrecision.Nf4Double : WeightPrecision.Nf4;
        Precision(Values.Whole(bits) switch { 4 => fourBit, 8 => WeightPrecision.Int8, _ => throw bits.Wrong("4 or 8") }, bits, assign);
    }

    private static void Precision(WeightPrecision precision, Given from, Assign assign) => assign(nameof(QwenLoraTrainer.Options.Precision), precision, from);

    private static void ComputeIn(IReadOnlyDictionary<string, Given> given, Assign assign)
    {
        (ComputeType Type, Given From)[] asked = [.. given.Values.Select(type => (Asked(type), type)).Where(type => type.Item1 is not null)
            .Select(type => (type.Item1!.Value, type.type))];
        if (asked.Select(type => type.Type).Distinct().Count() > 1)
        {
            throw asked[1].From.Refused($"it asks for another type than {asked[0].From.Key} ({asked[0].From.Place}); one of them must go.");
        }

        if (asked.Length > 0 && asked[0].Type != ComputeType.Float32)
        {
            assign(nameof(RunSettings.MixedPrecision), (asked[0].Type, asked[0].From), asked[0].From);
        }

        static ComputeType? Asked(Given given) => given.Key is "bf16" or "pure_bf16" or "fp16"
            ? Values.Flag(given) ? given.Key == "fp16" ? ComputeType.Float16 : ComputeType.BFloat16 : null
            : Values.OneOf<ComputeType?>(given, ("auto", null), ("float32", ComputeType.Float32), ("fp32", ComputeType.Float32),
                ("torch.float32", ComputeType.Float32),
                ("bfloat16", ComputeType.BFloat16), ("bf16", ComputeType.BFloat16), ("torch.bfloat16", ComputeType.BFloat16), ("float16", ComputeType.Float16),
                ("fp16", ComputeType.Float16), ("torch.float16", ComputeType.Float16));
    }

    private static void Evaluation(IReadOnlyDictionary<string, Given> given, Assign assign)
    {
        const string evaluates = nameof(RunSettings.Evaluates);
        Given? steps = given.GetValueOrDefault("eval_steps");
        Given? strategy = given.GetValueOrDefault("eval_strategy") ?? given.GetValueOrDefault("evaluation_strategy");
        if (given.TryGetValue("do_eval", out Given? does) && strategy is null)
        {
            assign(evaluates, Values.Flag(does), does);
        }

        switch (strategy is null ? null : Strategy(strategy))
        {
            case "no":
                assign(evaluates, false, strategy!);
                return;
            case "epoch":
                assign(evaluates, true, strategy!);
                assign(nameof(QwenLoraTrainer.Options.EvaluationSteps), 0, strategy!);
                return;
            case "steps":
                assign(evaluates, true, strategy!);
                if (steps is null)
                {
                    throw strategy!.Refused("with steps, eval_steps must say how many.");
                }

                break;
        }

        if (steps is not null)
        {
            assign(nameof(QwenLoraTrainer.Options.EvaluationSteps), (int)Values.Whole(steps), steps);
        }

        // YAML 1.1 reads a bare no as false.
        static string Strategy(Given given) => Values.OneOf(given, ("no", "no"), ("false", "no"), ("steps", "steps"), ("epoch", "epoch"));
    }

    private static void Saving(IReadOnlyDictionary<string, Given> given, Assign assign)
    {
        const int theirs = 500;
        const string saves = nameof(QwenLoraTrainer.Options.SaveSteps);
        const string epochs = nameof(QwenLoraTrainer.Options.SaveEveryEpoch); // said by each strategy: an earlier file may have had another
        Given? steps = given.GetValueOrDefault("save_steps");
        if (!given.TryGetValue("save_strategy", out Given? strategy))
        {
            int every = (int)Values.Whole(steps!);
            assign(saves, every, steps!);
            if (every == 0)
            {
                assign(epochs, false, steps!);
            }

            return;
        }

        // YAML 1.1 reads a bare no as false.
        switch (Values.OneOf(strategy, ("no", "no"), ("false", "no"), ("steps", "steps"), ("epoch", "epoch")))
        {
            case "no":
                assign(saves, 0, strategy);
                assign(epochs, false, strategy);
                break;
            case "epoch":
                assign(saves, null, strategy);
                assign(epochs, true, strategy); // with method full, too
                break;
            default:
                assign(saves, steps is null ? theirs : (int)Values.Whole(steps), steps ?? strategy);
                assign(epochs, false, strategy);
                break;
        }
    }

    private static void Warmup(Given given, Assign assign)
    {
        double number = Values.Number(given);
        if (number is > 0 and < 1)
        {
            assign(nameof(QwenLoraTrainer.Options.WarmupRatio), number, given);
        }
        else
        {
            assign(nameof(QwenLoraTrainer.Options.WarmupSteps), (int)Values.Whole(given), given);
        }
    }

    private static void Labels(IReadOnlyDictionary<string, Given> given, Assign assign)
    {
        List<(Given From, LabelScope Scope)> said = [];
        foreach (Given flag in given.Values)
        {
            LabelScope? scope = (flag.Key, Values.Flag(flag)) switch
            {
                ("train_on_prompt", true) => LabelScope.Everything,
                ("mask_history" or "completion_only_loss", true) => LabelScope.Answer,
                ("mask_history", false) when !IsTrue("train_on_prompt") => LabelScope.AllAssistantTurns,
                ("assistant_only_loss", true) => LabelScope.AllAssistantTurns,
                ("completion_only_loss", false) => LabelScope.Everything,
                _ => null,
            };
            if (scope is { } known)
            {
                said.Add((flag, known));
            }
        }

        if (said.Select(one => one.Scope).Distinct().Count() > 1)
        {
            throw said[1].From.Refused($"it says otherwise than {said[0].From.Key} ({said[0].From.Place}) what is learned; one of them must go.");
        }

        if (said.Count > 0)
        {
            assign(nameof(QwenLoraTrainer.Options.LabelScope), said[0].Scope, said[0].From);
        }

        bool IsTrue(string key) => given.TryGetValue(key, out Given? flag) && Values.Flag(flag);
    }

    private static void DoSample(IReadOnlyDictionary<string, Given> given, Assign assign)
    {
        Given does = given["do_sample"];
        assign(nameof(Inference.GenerationOptions.Temperature), Values.Flag(does) ? SamplingTemperature : 0f, does);
    }

    /// <summary>transformers' default, where do_sample is true and nothing says another.</summary>
    public const float SamplingTemperature = 1;
}
