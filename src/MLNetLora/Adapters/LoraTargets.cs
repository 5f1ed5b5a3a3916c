using System.Diagnostics;
using System.Text.RegularExpressions;
using MLNetLora.Models;

namespace MLNetLora.Adapters;

/// <summary>A tensor of an adapter.</summary>
/// <param name="Key">Its name in a PEFT file.</param>
/// <param name="Shape">Sizes of its axes.</param>
/// <param name="Decays">Whether weight decay applies when it is trained.</param>
internal sealed record AdapterTensor(string Key, IReadOnlyList<long> Shape, bool Decays = true)
{
    /// <summary>Whether it is the trained copy of an embedding.</summary>
    public bool IsEmbedding { get; init; }

    /// <summary>Its numbers.</summary>
    public long Count => Shape.Aggregate(1L, (product, size) => product * size);
}

/// <summary>One adapted layer.</summary>
/// <param name="Module">The linear layer.</param>
/// <param name="Rank">Its rank, patterns applied.</param>
/// <param name="Alpha">Its alpha, patterns applied.</param>
/// <param name="Scaling">alpha/rank, or alpha/√rank.</param>
/// <param name="UseDora">Whether it has a magnitude of its own for every output (DoRA).</param>
internal sealed record LoraModule(LinearModule Module, int Rank, double Alpha, double Scaling, bool UseDora = false)
{
    /// <summary>What it is where it is no linear layer but a bare parameter [target_parameters]; null for linear layers.</summary>
    public AdaptedParameter? Parameter { get; init; }

    /// <summary>Rows of A and columns of B: the rank, of a stack of matrices that for each of them.</summary>
    public long Ranks => (long)Rank * (Parameter?.Experts ?? 1);

    /// <summary>Key of A in a PEFT file; [ranks, in].</summary>
    public string KeyA => $"base_model.model.{Parameter?.Owner ?? Module.Name}.lora_A.weight";

    /// <summary>Key of B in a PEFT file; [out, ranks].</summary>
    public string KeyB => $"base_model.model.{Parameter?.Owner ?? Module.Name}.lora_B.weight";

    /// <summary>Key of DoRA's magnitudes in a PEFT file; [out].</summary>
    public string KeyMagnitude => $"base_model.model.{Module.Name}.lora_magnitude_vector";

    /// <summary>What it is made of: A, B, and with DoRA the magnitudes.</summary>
    public IReadOnlyList<AdapterTensor> Tensors
    {
        get
        {
            AdapterTensor[] factors = [new(KeyA, [Ranks, Module.In]), new(KeyB, [Module.Out, Ranks])];
            return UseDora ? [.. factors, new(KeyMagnitude, [Module.Out])] : factors;
        }
    }

    /// <summary>Trainable numbers.</summary>
    public long ParameterCount => Tensors.Sum(tensor => tensor.Count);
}

/// <summary>Finds the layers that an adapter is put on, by PEFT's rules.</summary>
internal static class LoraTargets
{
    // Expressions come from files that others wrote: one match, or all of an adapter together, that takes longer than this is an error, not a hang.
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan s_patienceInAll = TimeSpan.FromSeconds(10);

    private const int MostPatterns = 20_000;
    private const string AnyNames = @"(?:.*\.)?"; // before a pattern of ranks or alphas

    private static readonly Regex s_layer = new(@".*\.[^.]*\.(\d+)\.", RegexOptions.CultureInvariant);

    /// <summary>What a test says is the longest that all of them may take; null: ten seconds.</summary>
    [ThreadStatic]
    internal static TimeSpan? PatienceInAll;

    /// <summary>The adapted layers in order of the forward pass.</summary>
    /// <param name="options">Which.</param>
    /// <param name="architecture">The base's family.</param>
    /// <param name="config">The base.</param>
    /// <param name="warnings">Receives the names in a list that no layer has, while another has one: as in PEFT the tensors of a file decide. Null: such a
    /// name is an error, since it is to be trained.</param>
    /// <exception cref="AdapterException">A target matches nothing; the message says which names exist.</exception>
    public static IReadOnlyList<LoraModule> Resolve(LoraOptions options, Architecture architecture, QwenConfig config, List<string>? warnings = null)
    {
        options.Validate();
        Stopwatch watch = Stopwatch.StartNew();
        TargetParameters parameters = TargetParameters.Of(options, architecture, config);
        List<LinearModule> all = [.. architecture.Linears(config).Where(parameters.IsLayer)];
        TargetModules targets = options.TargetModules;
        string[] names = [.. targets.Distinct().Except(parameters.Names)]; // a file may say the same a million times
        string known = string.Join(", ", all.Select(module => module.Name[(module.Name.LastIndexOf('.') + 1)..]).Distinct());
        HashSet<string> ends = [.. all.SelectMany(module => Ends(module.Name))];
        string[] unknown = [.. names.Where(entry => !ends.Contains(entry))];
        if (unknown.Length > 0)
        {
            string message = $"No layer of this {config.ModelType} model is named '{PythonRegex.Short(unknown[0])}' (TargetModules). Its linear layers are: "
                + $"{known}.{Recipe(names, architecture)}";
            (warnings is null || (unknown.Length == names.Length && parameters.Count == 0) ? throw new AdapterException(message) : warnings).Add(message);
        }

        Func<string, bool> isTarget = targets.IsAllLinear ? _ => true : Matches(targets, names, watch);
        Func<string, bool> isExcluded = options.ExcludeModules is { } excluded ? Matches(excluded, [.. excluded.Distinct()], watch) : _ => false;
        List<LinearModule> meant = [.. all.Where(module => isTarget(module.Name))];
        List<LinearModule> chosen = [.. meant.Where(module => !isExcluded(module.Name))];
        if (options.LayersToTransform is { Count: > 0 } layers)
        {
            HashSet<int> numbers = [.. layers];
            foreach (int layer in numbers.Where(layer => layer < 0 || layer >= config.NumHiddenLayers))
            {
                throw new AdapterException($"LayersToTransform names the layer {layer}; this model has the layers 0 to {config.NumHiddenLayers - 1}.");
            }

            Regex[] before = options.LayersPattern.Count == 0
                ? [s_layer]
                : [.. Bounded(options.LayersPattern, "layers")
                    .Select(name => PythonRegex.Whole($@".*\.(?:{name})\.(?P<layer>[0-9]+)\..*", "", s_patience))];
            chosen = [.. chosen.Where(module => numbers.Contains(LayerOf(module.Name, before, watch)))];
        }

        if (chosen.Count == 0 && parameters.Count == 0 && meant.Count > 0)
        {
            throw new AdapterException($"LayersToTransform, LayersPattern and ExcludeModules leave none of the {meant.Count} layers that TargetModules "
                + $"'{targets}' matches, such as {meant[0].Name}.");
        }

        if (chosen.Count == 0 && parameters.Count == 0)
        {
            throw new AdapterException($"TargetModules '{targets}' matches no layer of this {config.ModelType} model. A regular expression must match whole "
                + $"names such as '{all[0].Name}'; the linear layers are: {known}.");
        }

        (Regex, int)[] ranks = Patterns(options.RankPattern);
        (Regex, double)[] alphas = Patterns(options.AlphaPattern);
        (string, AdaptedParameter, LinearModule)[] bare = [.. parameters.Resolve(warnings)];
        TargetParameters.RequireApart(bare, chosen);
        return
        [
            .. chosen.Select(module => Module(module, module.Name, options.Rank, options.Alpha)),
            .. bare.Select(item => Module(item.Item3, item.Item1, options.Rank * item.Item2.Fused, options.Alpha * item.Item2.Fused) with
            {
                Parameter = item.Item2,
            }),
        ];

        LoraModule Module(LinearModule module, string name, int otherwiseRank, double otherwiseAlpha)
        {
            int rank = First(ranks, name, otherwiseRank, watch);
            double alpha = First(alphas, name, otherwiseAlpha, watch);
            return new LoraModule(module, rank, alpha, options.UseRsLora ? alpha / Math.Sqrt(rank) : alpha / rank, options.UseDora);
        }
    }

    /// <summary>What to write instead of "all-linear" in a list, or of a list that was made for another family; empty where nothing is known of
    /// it.</summary>
    private static string Recipe(string[] names, Architecture architecture)
    {
        if (names.Contains(TargetModules.AllLinear))
        {
            return $" \"{TargetModules.AllLinear}\" stands alone and not in a list: TargetModules = \"{TargetModules.AllLinear}\".";
        }

        string[] instead = [.. names.Select(architecture.OtherNames.GetValueOrDefault).OfType<string>().Distinct()];
        return instead.Length == 0 ? "" : $" The closest to what was asked for is {string.Join(", ", instead)}.";
    }

    /// <summary>A name and what stands behind each of its dots: the entries of a list that mean it.</summary>
    internal static IEnumerable<string> Ends(string name)
    {
        yield return name;
        for (int dot = name.IndexOf('.'); dot >= 0; dot = name.IndexOf('.', dot + 1))
        {
            yield return name[(dot + 1)..];
        }
    }

    /// <summary>Whether a list or an expression means a module.</summary>
    private static Func<string, bool> Matches(TargetModules targets, string[] names, Stopwatch watch)
    {
        if (targets.Pattern is not { } pattern)
        {
            HashSet<string> entries = [.. names];
            return module => Ends(module).Any(entries.Contains);
        }

        Regex whole = PythonRegex.Whole(pattern, "", s_patience);
        return module => IsMatch(whole, module, watch);
    }

    /// <summary>The number of the layer in a name such as model.layers.7.mlp.up_proj; -1 where there is none.</summary>
    private static int LayerOf(string module, Regex[] before, Stopwatch watch) =>
        before.FirstOrDefault(pattern => IsMatch(pattern, module, watch))?.Match(module).Groups.Values.Last().Value is { } number
            ? int.Parse(number, System.Globalization.CultureInfo.InvariantCulture)
            : -1;

    private static (Regex Name, T Value)[] Patterns<T>(IReadOnlyDictionary<string, T> patterns) =>
        [.. Bounded(patterns, "ranks or alphas").Select(pattern => (PythonRegex.Whole(pattern.Key, AnyNames, s_patience), pattern.Value))];

    private static IReadOnlyCollection<T> Bounded<T>(IReadOnlyCollection<T> patterns, string what) => patterns.Count <= MostPatterns
        ? patterns
        : throw new AdapterException($"The adapter has {patterns.Count} patterns for {what}; at most {MostPatterns} are read.");

    private static T First<T>((Regex Name, T Value)[] patterns, string module, T otherwise, Stopwatch watch)
    {
        foreach ((Regex name, T value) in patterns)
        {
            if (IsMatch(name, module, watch))
            {
                return value;
            }
        }

        return otherwise;
    }

    private static bool IsMatch(Regex pattern, string module, Stopwatch watch)
    {
        try
        {
            TimeSpan patience = PatienceInAll ?? s_patienceInAll;
            return watch.Elapsed < patience
                ? pattern.IsMatch(module)
                : throw new AdapterException($"The regular expressions of the adapter's target modules, rank_pattern and alpha_pattern take more than "
                    + $"{patience.TotalSeconds:F0} s on this model's names, the last of them '{PythonRegex.Short(pattern.ToString())}'; "
                    + "write them more simply.");
        }
        catch (RegexMatchTimeoutException e)
        {
            throw new AdapterException($"The regular expression '{PythonRegex.Short(pattern.ToString())}' takes too long on the name '{module}'; "
                + "write it more simply.", e);
        }
    }
}
