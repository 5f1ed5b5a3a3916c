using MLNetLora.Models;

namespace MLNetLora.Adapters;

/// <summary>What an adapter on a bare parameter is put on, as PEFT's ParamWrapper sees it.</summary>
/// <param name="Owner">The module whose parameter it is, with ".base_layer" for each other adapter around it; its keys begin so.</param>
/// <param name="Experts">How many matrices the parameter stacks, [experts, out, in]; 1 for a single one, [out, in].</param>
/// <param name="IsStack">Whether it is a stack.</param>
/// <param name="Named">The names in <see cref="LoraOptions.TargetModules"/> that mean it; empty where <see cref="LoraOptions.TargetParameters"/> does.</param>
internal sealed record AdaptedParameter(string Owner, int Experts, bool IsStack, IReadOnlyList<string> Named)
{
    /// <summary>How many of the layers that were named it holds in one matrix: each has a rank of its own.</summary>
    public int Fused => Math.Max(1, Named.Count);
}

/// <summary>
/// Finds the bare parameters that an adapter is put on [target_parameters], by PEFT's rules: a name means every parameter whose full name ends so. In
/// transformers 5 experts and routers are bare parameters; for the families where PEFT does so, the names that their layers had before (gate_proj, up_proj,
/// down_proj, gate) in <see cref="LoraOptions.TargetModules"/> mean them too, and gate_proj and up_proj, which are one parameter now, give it twice the rank
/// and twice the alpha.
/// </summary>
internal sealed class TargetParameters
{
    private readonly LoraOptions _options;
    private readonly Architecture _architecture;
    private readonly QwenConfig _config;
    private readonly string[] _targets;
    private readonly Dictionary<string, string[]> _named = []; // the old names by those of the parameters

    private TargetParameters(LoraOptions options, Architecture architecture, QwenConfig config)
    {
        (_options, _architecture, _config) = (options, architecture, config);
        IReadOnlyDictionary<string, string> renamed = architecture.RenamedTargets;
        string[] named = options.TargetModules.IsAllLinear
            ? [.. renamed.Keys]
            : [.. options.TargetModules.Distinct().Where(target => Renamed(target) is not null)];
        Names = options.TargetModules.IsAllLinear ? [] : named;
        foreach (IGrouping<string, KeyValuePair<string, string>> parameter in renamed.GroupBy(item => item.Value))
        {
            string[] old = [.. parameter.Select(item => item.Key)];
            string[] present = [.. old.Where(name => named.Any(target => Renamed(target) == name))];
            if (present.Length > 0 && present.Length < old.Length)
            {
                throw new AdapterException($"{nameof(LoraOptions.TargetModules)} names {string.Join(", ", present)} without "
                    + $"{string.Join(", ", old.Except(present))}: in this {config.ModelType} model they are one parameter, {parameter.Key}. Name all or none.");
            }

            if (present.Length > 0)
            {
                _named[parameter.Key] = present;
            }
        }

        _targets = [.. options.TargetParameters.Concat(named.Select(target => renamed[Renamed(target)!])).Distinct()];

        string? Renamed(string target) =>
            renamed.Keys.FirstOrDefault(old => target == old || target.EndsWith("." + old, StringComparison.Ordinal));
    }

    /// <summary>The entries of <see cref="LoraOptions.TargetModules"/> that mean parameters.</summary>
    public IReadOnlyList<string> Names { get; }

    /// <summary>How many names of parameters there are.</summary>
    public int Count => _targets.Length;

    /// <summary>Reads what options mean.</summary>
    /// <exception cref="AdapterException">One of several layers that are one parameter is named alone.</exception>
    public static TargetParameters Of(LoraOptions options, Architecture architecture, QwenConfig config) => new(options, architecture, config);

    /// <summary>Whether a linear layer is one to targets by name: PEFT takes all names that experts had for parameters, so MLPs between them have
    /// none.</summary>
    public bool IsLayer(LinearModule module) => !_architecture.RenamedTargets.ContainsKey(module.Name[(module.Name.LastIndexOf('.') + 1)..]);

    /// <summary>The parameters in the order of the forward pass, each with its name and its sizes as a matrix.</summary>
    /// <param name="warnings">Receives the first name that no parameter has; null: such a name is an error.</param>
    /// <exception cref="AdapterException">A name means nothing, or a parameter that no adapter can be put on; or options do not go with parameters.</exception>
    public IEnumerable<(string Name, AdaptedParameter Parameter, LinearModule Module)> Resolve(List<string>? warnings)
    {
        if (_targets.Length == 0)
        {
            return [];
        }

        Require(_options.Dropout == 0, nameof(LoraOptions.Dropout), _options.Dropout, "0");
        Require(!_options.UseDora, nameof(LoraOptions.UseDora), true, "false");
        Require(_options.Initialization is LoraInitialization.Default or LoraInitialization.Gaussian or LoraInitialization.Random,
            nameof(LoraOptions.Initialization), _options.Initialization, "Default, Gaussian or Random");
        List<(string Name, TensorKind Kind, IReadOnlyList<long> Shape)> all = [];
        foreach (TensorSpec tensor in _architecture.Tensors(_config))
        {
            (string, TensorKind, IReadOnlyList<long>) parameter = tensor.Stack is { } stack
                ? (stack.Name, tensor.Kind, stack.Shape)
                : (tensor.Name, tensor.Kind, tensor.Shape);
            if (all.Count < 2 || (all[^1].Name != parameter.Item1 && all[^2].Name != parameter.Item1)) // experts' matrices alternate between two stacks
            {
                all.Add(parameter);
            }
        }

        HashSet<string> ends = [.. all.SelectMany(parameter => LoraTargets.Ends(parameter.Name))];
        if (_targets.FirstOrDefault(target => !ends.Contains(target)) is { } unknown)
        {
            string known = string.Join(", ", all.Where(parameter => parameter.Kind is TensorKind.Expert or TensorKind.Router)
                .Select(parameter => string.Join('.', parameter.Name.Split('.')[^2..])).Distinct());
            string message = $"No parameter of this {_config.ModelType} model is named '{PythonRegex.Short(unknown)}' "
                + $"({nameof(LoraOptions.TargetParameters)}). "
                + (known.Length > 0 ? $"Those of its experts are: {known}." : "It has no experts; its layers are named in TargetModules.");
            (warnings ?? throw new AdapterException(message)).Add(message);
        }

        HashSet<string> targets = [.. _targets];
        return Chosen([.. all.Where(parameter => LoraTargets.Ends(parameter.Name).Any(targets.Contains))]);
    }

    /// <summary>Refuses a layer that is named twice, as a module and as a parameter.</summary>
    public static void RequireApart((string Name, AdaptedParameter Parameter, LinearModule Module)[] parameters, IEnumerable<LinearModule> modules)
    {
        HashSet<string> names = [.. modules.Select(module => module.Name)];
        if (parameters.FirstOrDefault(parameter => names.Contains(parameter.Parameter.Owner)) is { Name: { } twice })
        {
            throw new AdapterException($"{nameof(LoraOptions.TargetParameters)} names '{twice}', whose layer {nameof(LoraOptions.TargetModules)} names too; "
                + "name it once.");
        }
    }

    /// <summary>Refuses what leaves layers out beside parameters, which it does not count for in PEFT; an adapter that comes from a file is what its
    /// tensors are.</summary>
    /// <exception cref="AdapterException">Such an option is set.</exception>
    public static void RequireAllLayers(LoraOptions options)
    {
        string? set = options.LayersToTransform is { Count: > 0 } ? nameof(LoraOptions.LayersToTransform)
            : options.LayersPattern.Count > 0 ? nameof(LoraOptions.LayersPattern)
            : options.ExcludeModules is not null ? nameof(LoraOptions.ExcludeModules)
            : null;
        if (set is not null)
        {
            throw new AdapterException($"{set} is set, and counts for linear layers alone, as in PEFT: bare parameters (experts and routers, which "
                + $"{nameof(LoraOptions.TargetParameters)}, {nameof(LoraOptions.TargetModules)} or \"{TargetModules.AllLinear}\" mean) would have adapters "
                + $"everywhere. Take it out, and name in {nameof(LoraOptions.TargetModules)} and {nameof(LoraOptions.TargetParameters)} what is meant, "
                + "parameters of one layer by names such as layers.0.mlp.experts.down_proj.");
        }
    }

    private IEnumerable<(string, AdaptedParameter, LinearModule)> Chosen(List<(string Name, TensorKind Kind, IReadOnlyList<long> Shape)> chosen)
    {
        foreach ((int i, (string name, TensorKind kind, IReadOnlyList<long> shape)) in chosen.Index())
        {
            if (kind is not (TensorKind.Linear or TensorKind.Router or TensorKind.Expert))
            {
                throw new AdapterException($"{nameof(LoraOptions.TargetParameters)} means '{name}', which has the shape [{string.Join(", ", shape)}]; adapters "
                    + "are put on experts, routers and the weights of linear layers inside the blocks.");
            }

            // PEFT wraps the module once for each of its parameters, the first of them innermost.
            string owner = Owner(name);
            int around = chosen.Skip(i + 1).TakeWhile(other => Owner(other.Name) == owner).Count();
            string? renamed = _named.Keys.FirstOrDefault(LoraTargets.Ends(name).Contains);
            bool isStack = kind == TensorKind.Expert;
            yield return (
                name,
                new AdaptedParameter(owner + string.Concat(Enumerable.Repeat(".base_layer", around)), isStack ? (int)shape[0] : 1, isStack,
                    renamed is null ? [] : _named[renamed]),
                new LinearModule(isStack ? name : owner, (int)shape[^1], (int)shape[^2]));
        }
    }

    private static string Owner(string name) => name[..name.LastIndexOf('.')];

    private static void Require(bool condition, string option, object value, string what)
    {
        if (!condition)
        {
            throw new AdapterException(
                FormattableString.Invariant($"{option} is {value}; an adapter on bare parameters (experts and routers, ")
                + $"{nameof(LoraOptions.TargetParameters)}) has none: set it to {what}.");
        }
    }
}
