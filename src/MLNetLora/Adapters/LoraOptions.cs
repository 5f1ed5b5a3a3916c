namespace MLNetLora.Adapters;

/// <summary>The shape of a LoRA adapter. The names in brackets are PEFT's, in adapter_config.json.</summary>
public sealed class LoraOptions
{
    // Named, because the short overload of the trainer has them as default arguments.
    internal const int DefaultRank = 64;
    internal const double DefaultAlpha = 16;
    internal const double DefaultDropout = 0.05;

    // Qwen's widest layer has an input or output of 8,192: a factor of more rows than that could be written with fewer. Twice as many leave room.
    private const int MaximumRank = 16_384;

    /// <summary>Rank of the factors [r], up to 16,384. Default 64.</summary>
    public int Rank { get; set; } = DefaultRank;

    /// <summary>Numerator of the scaling [lora_alpha]: alpha/r, or alpha/√r with <see cref="UseRsLora"/>. Default 16.</summary>
    public double Alpha { get; set; } = DefaultAlpha;

    /// <summary>Probability with which an input of the adapter is dropped in training [lora_dropout]; kept ones are scaled by 1/(1−p). Default 0.05.</summary>
    public double Dropout { get; set; } = DefaultDropout;

    /// <summary>Rank-stabilised scaling alpha/√r [use_rslora] (Kalajdzievski 2023, arXiv:2312.03732). Default false.</summary>
    public bool UseRsLora { get; set; }

    /// <summary>
    /// Weight-decomposed adaptation [use_dora] (DoRA, Liu et al. 2024, arXiv:2402.09353): every output of an adapted layer has a trained magnitude m, and the
    /// factors change the direction alone: y = m / ‖W + s·B A‖ · (W + s·B A) x. Default false.
    /// </summary>
    public bool UseDora { get; set; }

    /// <summary>What the factors are at the start [init_lora_weights]. Default <see cref="LoraInitialization.Default"/>: the adapter changes nothing
    /// yet.</summary>
    public LoraInitialization Initialization { get; set; }

    /// <summary>Which layers get an adapter [target_modules]. Default q_proj and v_proj; Qwen1 computes both in c_attn, which must be named for it.</summary>
    public TargetModules TargetModules { get; set; } = ["q_proj", "v_proj"];

    /// <summary>
    /// Which bare parameters get an adapter [target_parameters]: what is no linear layer in transformers, the experts of a mixture and their routers, by
    /// the end of their names: experts.gate_up_proj, experts.down_proj, gate.weight. Each expert has factors of its own. They go without dropout, and without
    /// <see cref="ExcludeModules"/>, <see cref="LayersToTransform"/> and <see cref="LayersPattern"/>, which in PEFT do not count for them. Empty (default)
    /// for none.
    /// </summary>
    public IReadOnlyList<string> TargetParameters { get; set; } = [];

    /// <summary>Which layers get none although <see cref="TargetModules"/> means them [exclude_modules]; null (default) for no exception.</summary>
    public TargetModules? ExcludeModules { get; set; }

    /// <summary>Numbers of the blocks that get an adapter [layers_to_transform]; null (default) or empty means all. Not with a regular expression in
    /// <see cref="TargetModules"/>.</summary>
    public IReadOnlyList<int>? LayersToTransform { get; set; }

    /// <summary>
    /// What stands before a block's number in the names of modules, for <see cref="LayersToTransform"/> [layers_pattern]: names or regular expressions, the
    /// first that fits counts. Empty (default): any name.
    /// </summary>
    public IReadOnlyList<string> LayersPattern { get; set; } = [];

    /// <summary>Which biases of the base are trained too, and saved with the adapter [bias]. Default none. With them an adapter that is switched off no
    /// longer leaves the base as it was.</summary>
    public LoraBias Bias { get; set; }

    /// <summary>
    /// Modules that are trained whole and saved with the adapter [modules_to_save]: embedding, output layer, norms, convolutions or routers, by the end of
    /// their names, such as embed_tokens, lm_head, input_layernorm, conv1d or mlp.gate. Empty (default) for none. Embedding and output layer of a model that
    /// has one for both (tie_word_embeddings) are refused.
    /// </summary>
    public IReadOnlyList<string> ModulesToSave { get; set; } = [];

    /// <summary>
    /// Ids of tokens whose rows of the embedding are trained and saved with the adapter [trainable_token_indices], such as tokens that were added to the
    /// vocabulary; where the embedding is the output layer too, the rows count in both. Each once, below the vocabulary's size. Empty (default) for none.
    /// </summary>
    public IReadOnlyList<int> TrainableTokenIndices { get; set; } = [];

    /// <summary>Other ranks for some modules [rank_pattern]: the key is a regular expression, as Python reads it, that the end of the module name must
    /// match. Order counts: the first match wins.</summary>
    public IReadOnlyDictionary<string, int> RankPattern { get; set; } = new Dictionary<string, int>();

    /// <summary>Other alphas for some modules [alpha_pattern]; keys as in <see cref="RankPattern"/>.</summary>
    public IReadOnlyDictionary<string, double> AlphaPattern { get; set; } = new Dictionary<string, double>();

    /// <summary>Throws an <see cref="OptionException"/> that names the first option that makes no sense.</summary>
    public void Validate()
    {
        Require.That(Rank >= 1, nameof(Rank), Rank, "at least 1");
        Require.That(Rank <= MaximumRank, nameof(Rank), Rank, Within);
        Require.That(double.IsFinite(Alpha) && Alpha > 0, nameof(Alpha), Alpha, "a positive number");
        Require.That(Dropout is >= 0 and < 1, nameof(Dropout), Dropout, "at least 0 and below 1");
        Require.That(TargetModules is not null && !HoldsNull(TargetModules), nameof(TargetModules), null, "one or more names, such as q_proj and v_proj");
        Require.That(ExcludeModules is null || !HoldsNull(ExcludeModules), nameof(ExcludeModules), null, "names without a null among them");
        Require.That(TargetParameters is not null && TargetParameters.All(name => !string.IsNullOrEmpty(name)), nameof(TargetParameters), null,
            "names of parameters, such as experts.down_proj; empty stands for none");
        Require.That(LayersPattern is not null && !HoldsNull(LayersPattern), nameof(LayersPattern), null, "given; empty stands for any name");
        Require.Defined(Bias, nameof(Bias));
        Require.Defined(Initialization, nameof(Initialization));
        Require.That(ModulesToSave is not null && ModulesToSave.All(name => !string.IsNullOrEmpty(name)), nameof(ModulesToSave), null, "names of modules");
        Require.That(TrainableTokenIndices is not null, nameof(TrainableTokenIndices), null, "given; empty stands for none");
        Require.That(RankPattern is not null, nameof(RankPattern), null, "given; empty stands for no other ranks");
        Require.That(AlphaPattern is not null, nameof(AlphaPattern), null, "given; empty stands for no other alphas");
        foreach ((string name, int rank) in RankPattern!)
        {
            Require.That(rank >= 1, $"{nameof(RankPattern)} of '{name}'", rank, "at least 1");
            Require.That(rank <= MaximumRank, $"{nameof(RankPattern)} of '{name}'", rank, Within);
        }

        foreach ((string name, double alpha) in AlphaPattern!)
        {
            Require.That(double.IsFinite(alpha) && alpha > 0, $"{nameof(AlphaPattern)} of '{name}'", alpha, "a positive number");
        }

        bool isExpression = TargetModules!.Pattern is not null && !TargetModules.IsAllLinear;
        Require.That(LayersToTransform is null or { Count: 0 } || !isExpression, nameof(LayersToTransform), "set",
            "null when TargetModules is a regular expression; say the layers in the expression");
        if (TargetModules.Pattern is null && !TargetModules.Any() && TargetParameters!.Count == 0)
        {
            throw new OptionException($"{nameof(TargetModules)} is empty; name at least one layer, such as q_proj, or \"all-linear\".");
        }
    }

    private static bool HoldsNull(IEnumerable<string?> names) => names.Contains(null);

    /// <summary>The options that are not at their defaults, by name.</summary>
    internal IEnumerable<string> Changed()
    {
        LoraOptions fresh = new();
        (string Name, bool IsDefault)[] options =
        [
            (nameof(Rank), Rank == fresh.Rank),
            (nameof(Alpha), Alpha == fresh.Alpha),
            (nameof(Dropout), Dropout == fresh.Dropout),
            (nameof(UseRsLora), UseRsLora == fresh.UseRsLora),
            (nameof(UseDora), UseDora == fresh.UseDora),
            (nameof(Initialization), Initialization == fresh.Initialization),
            (nameof(TargetModules), TargetModules.Pattern is null && TargetModules.SequenceEqual(fresh.TargetModules)),
            (nameof(TargetParameters), TargetParameters.Count == 0),
            (nameof(ExcludeModules), ExcludeModules is null),
            (nameof(LayersToTransform), LayersToTransform is null or { Count: 0 }),
            (nameof(LayersPattern), LayersPattern.Count == 0),
            (nameof(Bias), Bias == fresh.Bias),
            (nameof(ModulesToSave), ModulesToSave.Count == 0),
            (nameof(TrainableTokenIndices), TrainableTokenIndices.Count == 0),
            (nameof(RankPattern), RankPattern.Count == 0),
            (nameof(AlphaPattern), AlphaPattern.Count == 0),
        ];
        return options.Where(option => !option.IsDefault).Select(option => option.Name);
    }

    /// <summary>A copy that later changes of this object, or of its lists, do not reach.</summary>
    internal LoraOptions Copy()
    {
        LoraOptions copy = (LoraOptions)MemberwiseClone();
        copy.LayersToTransform = LayersToTransform is null ? null : [.. LayersToTransform];
        copy.LayersPattern = [.. LayersPattern];
        copy.TargetParameters = [.. TargetParameters];
        copy.ModulesToSave = [.. ModulesToSave];
        copy.TrainableTokenIndices = [.. TrainableTokenIndices];
        copy.RankPattern = new Dictionary<string, int>(RankPattern);
        copy.AlphaPattern = new Dictionary<string, double>(AlphaPattern);
        return copy;
    }

    /// <summary>A copy with something changed.</summary>
    internal LoraOptions With(Action<LoraOptions> change)
    {
        LoraOptions copy = Copy();
        change(copy);
        return copy;
    }

    private static string Within => FormattableString.Invariant($"at most {MaximumRank}, which is more than the inputs or outputs of any layer");
}
