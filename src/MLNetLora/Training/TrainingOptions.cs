using MLNetLora.Artifacts;
using MLNetLora.Onnx;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.Training;

/// <summary>How the learning rate moves over the run. Formulas as in transformers' get_scheduler; k counts optimizer steps from 0, T is their total,
/// w the warm-up steps.</summary>
public enum LearningRateSchedule
{
    /// <summary>Linear warm-up, then linear decay to zero: lr·(T−k)/(T−w).</summary>
    Linear,

    /// <summary>Linear warm-up, then half a cosine to zero: lr·½(1+cos(π·(k−w)/(T−w))).</summary>
    Cosine,

    /// <summary>Linear warm-up, then constant.</summary>
    Constant,
}

/// <summary>What the training loop does; which tensors it trains is said elsewhere. Defaults are the recipe of the README.</summary>
public class TrainingOptions
{
    // Named, because the short overload of the trainer has them as default arguments.
    internal const double DefaultLearningRate = 2e-4;
    internal const int DefaultNumberOfEpochs = 3;

    private const double DefaultAdamBeta1 = 0.9;
    private const double DefaultAdamBeta2 = 0.999;
    private const double DefaultAdamEpsilon = 1e-8;
    private const double DefaultLionBeta1 = 0.9;
    private const double DefaultLionBeta2 = 0.99;

    // More than anybody has had in one micro-batch; whether so many fit is for the estimate of memory to say.
    private const int MostRows = 65_536;

    /// <summary>Rows per micro-batch, up to 65,536. Default 1. The peers' name: per_device_train_batch_size.</summary>
    public int BatchSize { get; set; } = 1;

    /// <summary>Micro-batches per optimizer step. Default 8. The short last window of an epoch still makes a step. The peers' name:
    /// gradient_accumulation_steps.</summary>
    public int GradientAccumulationSteps { get; set; } = 8;

    /// <summary>Peak learning rate. Default 2e-4. The peers' name: learning_rate.</summary>
    public double LearningRate { get; set; } = DefaultLearningRate;

    /// <summary>Passes over the rows. Default 3. The peers' name: num_train_epochs.</summary>
    public int NumberOfEpochs { get; set; } = DefaultNumberOfEpochs;

    /// <summary>Stops after this many optimizer steps and stretches the schedule over them; null (default) trains <see cref="NumberOfEpochs"/>. The
    /// peers' name: max_steps.</summary>
    public int? MaximumSteps { get; set; }

    /// <summary>Shape of the learning rate over the run. Default linear. The peers' name: lr_scheduler_type.</summary>
    public LearningRateSchedule Schedule { get; set; } = LearningRateSchedule.Linear;

    /// <summary>Optimizer steps during which the learning rate rises from 0. Default 0; wins over <see cref="WarmupRatio"/> when positive. The peers'
    /// name: warmup_steps.</summary>
    public int WarmupSteps { get; set; }

    /// <summary>Warm-up as a share of all steps, from 0 to 1, rounded up. Default 0. The peers' name: warmup_ratio.</summary>
    public double WarmupRatio { get; set; }

    /// <summary>What makes the steps. Default <see cref="OptimizerKind.AdamW"/>. The peers' name: optim, whose values
    /// <see cref="OptimizerNames"/> reads.</summary>
    public OptimizerKind Optimizer { get; set; } = OptimizerKind.AdamW;

    /// <summary>
    /// LoRA+ (Hayou et al. 2024, arXiv:2402.12354): what multiplies the learning rate of the factors B, and of what is trained beside them and has one axis
    /// (biases, norms, DoRA's magnitudes), as PEFT's create_loraplus_optimizer has it; the paper recommends 16. Null (default): no LoRA+, as 1. PEFT's
    /// name: loraplus_lr_ratio.
    /// </summary>
    public double? LoraPlusRatio { get; set; }

    /// <summary>Decoupled weight decay. Default 0. Norms and biases are not decayed, LoRA factors are (as in transformers). The peers' name:
    /// weight_decay.</summary>
    public double WeightDecay { get; set; }

    /// <summary>AdamW's decay of the first moment. Default 0.9. The peers' name: adam_beta1.</summary>
    public double AdamBeta1 { get; set; } = DefaultAdamBeta1;

    /// <summary>AdamW's decay of the second moment. Default 0.999. The peers' name: adam_beta2.</summary>
    public double AdamBeta2 { get; set; } = DefaultAdamBeta2;

    /// <summary>AdamW's epsilon, outside the corrected square root. Default 1e-8. The peers' name: adam_epsilon.</summary>
    public double AdamEpsilon { get; set; } = DefaultAdamEpsilon;

    /// <summary>Lion's share of the momentum in the direction of a step. Default 0.9, as in its paper and bitsandbytes. transformers gives Lion its
    /// adam_beta1.</summary>
    public double LionBeta1 { get; set; } = DefaultLionBeta1;

    /// <summary>Lion's decay of the momentum. Default 0.99, as in its paper and bitsandbytes. transformers gives Lion its adam_beta2, by default
    /// 0.999.</summary>
    public double LionBeta2 { get; set; } = DefaultLionBeta2;

    /// <summary>Gradients are scaled down so that their global L2 norm is at most this. Default 1; 0 turns clipping off. The peers' name:
    /// max_grad_norm.</summary>
    public double MaximumGradientNorm { get; set; } = 1.0;

    /// <summary>
    /// Seed of the shuffling, the dropout masks and the initial weights. Null (default): a trainer of ML.NET takes the seed of its MLContext, and
    /// where that has none either, draws one and logs it; without ML.NET it is 42, as in transformers.
    /// </summary>
    public int? Seed { get; set; }

    /// <summary>Whether the rows are shuffled anew each epoch (by <see cref="Seed"/>). Default true. transformers always does.</summary>
    public bool Shuffle { get; set; } = true;

    /// <summary>
    /// Puts rows of like length into the same batch, so that less of it is padding; still shuffled by <see cref="Seed"/> (in groups of 50 windows, as
    /// transformers' group_by_length).
    /// Default false. Needs <see cref="Shuffle"/>.
    /// </summary>
    public bool GroupByLength { get; set; }

    /// <summary>
    /// Packs rows into sequences of up to this many tokens, longest first; a sequence then counts as one row of a batch. Packed rows do not see each other.
    /// Default 0: no packing. TRL's names: packing, and max_length for the tokens.
    /// </summary>
    public int PackingLength { get; set; }

    /// <summary>
    /// Recomputes each layer's activations in the backward pass: about a third slower, a fraction of the memory. Default false. The peers' name:
    /// gradient_checkpointing.
    /// </summary>
    public bool ActivationCheckpointing { get; set; }

    /// <summary>
    /// How the frozen weights are held and multiplied with. Default <see cref="WeightPrecision.Checkpoint"/>: as the checkpoint has them, multiplied in
    /// <see cref="ComputeType"/>.
    /// <see cref="WeightPrecision.Int8"/>: 8-bit integers, faster and a little less exact. The peers' name: torchao's int8 mixed-precision training.
    /// <see cref="WeightPrecision.Nf4"/> and the three beside it: QLoRA (arXiv:2305.14314), weights in 4 bits, products in
    /// <see cref="ComputeType"/>, for bases that do not fit into memory otherwise. The peers' name: load_in_4bit with bnb_4bit_quant_type.
    /// </summary>
    public WeightPrecision Precision { get; set; } = WeightPrecision.Checkpoint;

    /// <summary>
    /// Keeps copies of the frozen weights in the order in which the processor multiplies them, as 32-bit floats whatever the checkpoint's type is:
    /// faster steps, for seconds at the start and private memory of eight bytes per frozen weight (with <see cref="WeightPrecision.Int8"/> two in the
    /// blocks), while loading 16-bit checkpoints twelve.
    /// Default false: the checkpoint's files are used in place. ONNX Runtime's name: prepacking.
    /// </summary>
    public bool PrepackWeights { get; set; }

    /// <summary>
    /// Threads of the sessions; 0 (default) takes all cores. The same number gives the same adapter; another one may change the last digits, since
    /// large products are shared among threads. On a GPU what is added up for an embedding has no order, so there it may change them in any case.
    /// </summary>
    public int Threads { get; set; }

    /// <summary>
    /// Where the model is trained. Null (default): a trainer of ML.NET takes the GPU that <see cref="Microsoft.ML.MLContext.GpuDeviceId"/> names, if it names
    /// one, and else the processor; without ML.NET the processor. A device that is named here and cannot be used is an error; the peers' name: use_cpu, and
    /// CUDA_VISIBLE_DEVICES.
    /// </summary>
    public Device? Device { get; set; }

    /// <summary>
    /// The type that the model computes in. Null (default): <see cref="Runtime.ComputeType.BFloat16"/> on a GPU that has it, else
    /// <see cref="Runtime.ComputeType.Float32"/>, which is the only one on a processor. The peers' names: bf16, fp16, torch_dtype.
    /// </summary>
    public ComputeType? ComputeType { get; set; }

    /// <summary>Evaluates the validation rows every so many optimizer steps; 0 (default) at the end of each epoch. The peers' name: eval_steps.</summary>
    public int EvaluationSteps { get; set; }

    /// <summary>
    /// Writes a checkpoint every so many optimizer steps; null (default) at the end of each epoch, 0 never. Where they go is said by
    /// <see cref="TextGeneration.QwenLoraTrainer.Options.OutputFolder"/>. The last step has one in any case, a run that is cancelled or fails one of its last
    /// whole step, and the best validation loss one. The peers' name: save_steps.
    /// </summary>
    public int? SaveSteps { get; set; }

    /// <summary>Writes a checkpoint at the end of each epoch, too, whatever <see cref="SaveSteps"/> says. Default false. What trains an adapter does so anyway
    /// where <see cref="SaveSteps"/> is null; what trains every weight, whose checkpoints are large, only where it is asked for. The peers' name:
    /// save_strategy: epoch.</summary>
    public bool SaveEveryEpoch { get; set; }

    /// <summary>How many checkpoints are kept, the newest and the best among them, even where it is 1; older ones are removed when a new one is whole. Null
    /// (default): all. The peers' name: save_total_limit.</summary>
    public int? SaveTotalLimit { get; set; }

    /// <summary>Ends the run after so many evaluations in a row whose validation loss is not better than the best before; null (default): never. Needs
    /// validation rows. transformers' name: EarlyStoppingCallback's early_stopping_patience.</summary>
    public int? EarlyStoppingPatience { get; set; }

    /// <summary>By how much, in nats, a validation loss must be lower than the best before to count as better for <see cref="EarlyStoppingPatience"/>. Default
    /// 0. transformers' name: early_stopping_threshold.</summary>
    public double EarlyStoppingThreshold { get; set; }

    /// <summary>Whether the result of a run that made its steps is that of the step with the lowest validation loss in place of the last one. Default false.
    /// Needs validation rows, and a folder for checkpoints. The peers' name: load_best_model_at_end.</summary>
    public bool LoadBestModelAtEnd { get; set; }

    /// <summary>
    /// Whether a warning about the data or the checkpoint is a <see cref="TrainingWarningException"/> before the first step, rather than a line in
    /// the log and in <see cref="TrainingSummary.Warnings"/>: rows that are cut off, left out or longer than the model's context, an end that is not
    /// learned. Default false.
    /// </summary>
    public bool WarningsAsErrors { get; set; }

    /// <summary>Throws an <see cref="OptionException"/> that names the first option that makes no sense.</summary>
    public virtual void Validate()
    {
        Require.That(BatchSize is >= 1 and <= MostRows, nameof(BatchSize), BatchSize, FormattableString.Invariant($"at least 1 and at most {MostRows}"));
        Require.That(GradientAccumulationSteps >= 1, nameof(GradientAccumulationSteps), GradientAccumulationSteps, "at least 1");
        Require.That(LearningRate > 0 && double.IsFinite(LearningRate), nameof(LearningRate), LearningRate, "a positive number, such as 2e-4");
        Require.That(NumberOfEpochs >= 1, nameof(NumberOfEpochs), NumberOfEpochs, "at least 1");
        Require.That(MaximumSteps is null or >= 1, nameof(MaximumSteps), MaximumSteps ?? 0, "at least 1, or null");
        Require.Defined(Schedule, nameof(Schedule));
        Require.That(WarmupSteps >= 0, nameof(WarmupSteps), WarmupSteps, "0 or more");
        Require.That(WarmupRatio is >= 0 and <= 1, nameof(WarmupRatio), WarmupRatio, "between 0 and 1");
        Require.That(WeightDecay >= 0 && double.IsFinite(WeightDecay), nameof(WeightDecay), WeightDecay, "0 or more");
        Require.Defined(Optimizer, nameof(Optimizer));
        Require.That(LoraPlusRatio is null || (LoraPlusRatio > 0 && double.IsFinite(LoraPlusRatio.Value)), nameof(LoraPlusRatio), LoraPlusRatio,
            "a positive number, such as 16, or null");
        Require.That(LionBeta1 is >= 0 and < 1, nameof(LionBeta1), LionBeta1, "at least 0 and below 1");
        Require.That(LionBeta2 is >= 0 and < 1, nameof(LionBeta2), LionBeta2, "at least 0 and below 1");
        Require.That(AdamBeta1 is >= 0 and < 1, nameof(AdamBeta1), AdamBeta1, "at least 0 and below 1");
        Require.That(AdamBeta2 is >= 0 and < 1, nameof(AdamBeta2), AdamBeta2, "at least 0 and below 1");
        Require.That(AdamEpsilon > 0 && double.IsFinite(AdamEpsilon), nameof(AdamEpsilon), AdamEpsilon, "a positive number, such as 1e-8");
        bool isAdam = Optimizer is OptimizerKind.AdamW or OptimizerKind.AdamW8Bit;
        RequireUse(isAdam, nameof(AdamBeta1), AdamBeta1, DefaultAdamBeta1);
        RequireUse(isAdam, nameof(AdamBeta2), AdamBeta2, DefaultAdamBeta2);
        RequireUse(isAdam, nameof(AdamEpsilon), AdamEpsilon, DefaultAdamEpsilon);
        RequireUse(Optimizer == OptimizerKind.Lion, nameof(LionBeta1), LionBeta1, DefaultLionBeta1);
        RequireUse(Optimizer == OptimizerKind.Lion, nameof(LionBeta2), LionBeta2, DefaultLionBeta2);
        Require.That(MaximumGradientNorm >= 0 && double.IsFinite(MaximumGradientNorm), nameof(MaximumGradientNorm), MaximumGradientNorm,
            "0 (no clipping) or more");
        Require.That(!GroupByLength || Shuffle, nameof(GroupByLength), GroupByLength, "false when Shuffle is false, since grouping changes the order");
        Require.That(PackingLength >= 0, nameof(PackingLength), PackingLength, "0 (no packing) or more");
        Require.Defined(Precision, nameof(Precision));
        if (Precision == WeightPrecision.Int4)
        {
            throw new OptionException($"{nameof(Precision)} is {Precision}, which is for generation (WeightPrecision); training takes "
                + $"{WeightPrecision.Checkpoint}, {WeightPrecision.Int8}, {WeightPrecision.Nf4} or {WeightPrecision.Fp4} (QLoRA's 4 bits).");
        }

        Require.Threads(Threads, nameof(Threads));
        Device?.Validate();
        if (ComputeType is { } type)
        {
            Require.Defined(type, nameof(ComputeType));
            Require.That(type == Runtime.ComputeType.Float32 || SimulatesComputeType || Device is null or CudaDevice, nameof(ComputeType), type,
                $"{Runtime.ComputeType.Float32} or null when {nameof(Device)} is {Device}, which has no kernels for it");
        }

        if (Device is CudaDevice)
        {
            RequireForCuda();
        }
        else if (Device is CustomDevice)
        {
            RequireForCustom();
        }

        Require.That(EvaluationSteps >= 0, nameof(EvaluationSteps), EvaluationSteps, "0 (each epoch) or more");
        Require.That(SaveSteps is null or >= 0, nameof(SaveSteps), SaveSteps, "0 (never) or more, or null (each epoch)");
        Require.That(!SaveEveryEpoch || SaveSteps is not 0, nameof(SaveEveryEpoch), SaveEveryEpoch, $"false when {nameof(SaveSteps)} is 0, which is never");
        Require.That(SaveTotalLimit is null or >= 1, nameof(SaveTotalLimit), SaveTotalLimit, "at least 1, or null (all)");
        Require.That(EarlyStoppingPatience is null or >= 1, nameof(EarlyStoppingPatience), EarlyStoppingPatience, "at least 1, or null");
        Require.That(EarlyStoppingThreshold >= 0 && double.IsFinite(EarlyStoppingThreshold), nameof(EarlyStoppingThreshold), EarlyStoppingThreshold,
            "0 or more");
        Require.That(EarlyStoppingThreshold == 0 || EarlyStoppingPatience is not null, nameof(EarlyStoppingThreshold), EarlyStoppingThreshold,
            $"0 when {nameof(EarlyStoppingPatience)} is null, which it is for");
    }

    /// <summary>Refuses a number that the optimizer has not: a run that was told it would go on without it.</summary>
    private void RequireUse(bool isUsed, string option, double value, double otherwise) => Require.That(isUsed || value == otherwise, option, value,
        FormattableString.Invariant($"{otherwise}, its default, when {nameof(Optimizer)} is {Optimizer}, which has no such number"));

    /// <summary>Whether <see cref="ComputeType"/> is simulated by rounding, for tests on processors.</summary>
    internal bool SimulatesComputeType { get; set; }

    /// <summary>Whether experts are computed as on a GPU, for tests on processors.</summary>
    internal bool ExpertsInBlocks { get; set; }

    /// <summary>Whether graphs have the fused operators on a processor, too, whose formulas come with them there: for tests.</summary>
    internal bool FusesKernels { get; set; }

    /// <summary>A graph for the device and the compute type.</summary>
    /// <param name="name">Its name.</param>
    internal GraphBuilder NewGraph(string name) => new(name)
    {
        ForCuda = Device is CudaDevice,
        ExpertsInBlocks = ExpertsInBlocks,
        FusesKernels = FusesKernels || Device is CudaDevice { FusedKernels: true },
        ForCapture = Device is CudaDevice { Graphs: true },
        ComputeType = UsedComputeType switch
        {
            Runtime.ComputeType.BFloat16 => ElementType.BFloat16,
            Runtime.ComputeType.Float16 => ElementType.Float16,
            _ => ElementType.Float32,
        },
        SimulatesComputeType = SimulatesComputeType,
    };

    /// <summary>The type that is computed in.</summary>
    /// <exception cref="OptionException">The device has not the type that was asked for.</exception>
    internal ComputeType UsedComputeType
    {
        get
        {
            bool hasBFloat16 = SimulatesComputeType || (Device is CudaDevice cuda && CudaProvider.HasBFloat16(cuda));
            Require.That(ComputeType != Runtime.ComputeType.BFloat16 || hasBFloat16, nameof(ComputeType), ComputeType,
                $"{Runtime.ComputeType.Float16}, {Runtime.ComputeType.Float32} or null on {Device}: bfloat16 needs a GPU of compute capability 8.0 or later");
            return ComputeType ?? (hasBFloat16 ? Runtime.ComputeType.BFloat16 : Runtime.ComputeType.Float32);
        }
    }

    /// <summary>Refuses what has no kernel on a GPU.</summary>
    private void RequireForCuda()
    {
        if (Precision == WeightPrecision.Int8)
        {
            throw new OptionException($"{nameof(Precision)} is {Precision} and {nameof(Device)} is {Device}: ONNX Runtime has no product of 8-bit integers "
                + $"with scales on a GPU. Take {WeightPrecision.Checkpoint}, or {WeightPrecision.Nf4} or {WeightPrecision.Fp4} for less memory.");
        }

        Require.That(!PrepackWeights, nameof(PrepackWeights), PrepackWeights, $"false when {nameof(Device)} is {Device}: it is a layout for processors");
        Require.That(PackingLength == 0 || Device is not CudaDevice { Graphs: true }, nameof(PackingLength), PackingLength,
            $"0 (no packing) when {nameof(CudaDevice)}.{nameof(CudaDevice.Graphs)} is true: every packed batch would be a graph of its own");
    }

    /// <summary>Refuses what is given to a session in the process's memory: where a provider has its own, the runtime reads the file instead.</summary>
    private void RequireForCustom()
    {
        if (Precision == WeightPrecision.Int8)
        {
            throw new OptionException($"{nameof(Precision)} is {Precision} and {nameof(Device)} is {Device}: its weights are in the process's memory, and "
                + "the runtime reads the checkpoint's file in their place where a provider has memory of its own. "
                + $"Take {WeightPrecision.Checkpoint}, or {WeightPrecision.Nf4} or {WeightPrecision.Fp4} for less memory.");
        }

        Require.That(!PrepackWeights, nameof(PrepackWeights), PrepackWeights, $"false when {nameof(Device)} is {Device}: it is a layout for processors");
    }

    /// <summary>Whether the checkpoint of the best step is kept.</summary>
    internal bool KeepsBest => SaveSteps is not 0 || LoadBestModelAtEnd;

    /// <summary>The seed where nothing above the training loop has chosen one.</summary>
    internal int SeedOrDefault => Seed ?? 42;

    /// <summary>Tensors of at least so many numbers have 8-bit states; less only in tests, whose tensors are small. bitsandbytes' name:
    /// min_8bit_size.</summary>
    internal int EightBitFrom { get; set; } = 4096;

    /// <summary>Whether a tensor's rate is multiplied by <see cref="LoraPlusRatio"/>.</summary>
    internal bool IsFast(TrainableTensor tensor) =>
        LoraPlusRatio is not null && (tensor.Shape.Count == 1 || tensor.Name.Contains(".lora_B.", StringComparison.Ordinal));

    /// <summary>A copy that later changes of this object do not reach.</summary>
    internal virtual TrainingOptions Copy() => (TrainingOptions)MemberwiseClone();
}
