using System.Text.RegularExpressions;
using MLNetLora.Models;

namespace MLNetLora.Adapters;

/// <summary>One adapted layer.</summary>
/// <param name="Module">The linear layer.</param>
/// <param name="Rank">Its rank, patterns applied.</param>
/// <param name="Alpha">Its alpha, patterns applied.</param>
/// <param name="Scaling">alpha/rank, or alpha/√rank.</param>
internal sealed record LoraModule(LinearModule Module, int Rank, double Alpha, double Scaling)
{
    /// <summary>Key of A in a PEFT file; [rank, in].</summary>
    public string KeyA => $"base_model.model.{Module.Name}.lora_A.weight";

    /// <summary>Key of B in a PEFT file; [out, rank].</summary>
    public string KeyB => $"base_model.model.{Module.Name}.lora_B.weight";

    /// <summary>Trainable numbers in both factors.</summary>
    public long ParameterCount => (long)Rank * (Module.In + Module.Out);
}

/// <summary>Finds the layers that an adapter is put on, by PEFT's rules.</summary>
internal static class LoraTargets
{
    // Expressions come from files that others wrote: a match that takes longer than this is an error, not a hang.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    /// <summary>The adapted layers in order of the forward pass.</summary>
    /// <exception cref="AdapterException">A target matches nothing; the message says which names exist.</exception>
    public static IReadOnlyList<LoraModule> Resolve(LoraOptions options, Architecture architecture, QwenConfig config)
    {
        options.Validate();
        List<LinearModule> all = [.. architecture.Linears(config)];
        TargetModules targets = options.TargetModules;
        string known = string.Join(", ", all.Select(module => module.Name[(module.Name.LastIndexOf('.') + 1)..]).Distinct());
        foreach (string entry in targets)
        {
            if (!all.Any(module => EndsWith(module.Name, entry)))
            {
                throw new AdapterException($"No layer of this {config.ModelType} model is named '{entry}' (TargetModules). Its linear layers are: {known}.");
            }
        }

        List<LinearModule> chosen = [.. all.Where(module => targets.IsAllLinear || (targets.Pattern is string pattern ? Match($"^(?:{pattern})$", module.Name) : targets.Any(entry => EndsWith(module.Name, entry))))];
        if (options.LayersToTransform is IReadOnlyList<int> layers)
        {
            foreach (int layer in layers.Where(layer => layer < 0 || layer >= config.NumHiddenLayers))
            {
                throw new AdapterException($"LayersToTransform names the layer {layer}; this model has the layers 0 to {config.NumHiddenLayers - 1}.");
            }

            chosen = [.. chosen.Where(module => layers.Contains(LayerOf(module.Name)))];
        }

        if (chosen.Count == 0)
        {
            throw new AdapterException($"TargetModules '{targets}' matches no layer of this {config.ModelType} model. A regular expression must match whole names such as '{all[0].Name}'; the linear layers are: {known}.");
        }

        return [.. chosen.Select(module =>
        {
            int rank = First(options.RankPattern, module.Name, options.Rank);
            double alpha = First(options.AlphaPattern, module.Name, options.Alpha);
            return new LoraModule(module, rank, alpha, options.UseRsLora ? alpha / Math.Sqrt(rank) : alpha / rank);
        })];
    }

    private static bool EndsWith(string module, string entry) => module == entry || module.EndsWith("." + entry, StringComparison.Ordinal);

    private static int LayerOf(string module) => Match(@"\.[^.]*\.(\d+)\.", module, out string number) ? int.Parse(number, System.Globalization.CultureInfo.InvariantCulture) : -1;

    private static T First<T>(IReadOnlyDictionary<string, T> patterns, string module, T otherwise)
    {
        foreach ((string key, T value) in patterns)
        {
            if (Match($@"^(?:.*\.)?(?:{key})$", module))
            {
                return value;
            }
        }

        return otherwise;
    }

    private static bool Match(string pattern, string module) => Match(pattern, module, out _);

    private static bool Match(string pattern, string module, out string group)
    {
        try
        {
            Match match = Regex.Match(module, pattern, RegexOptions.CultureInvariant, Patience);
            group = match.Groups.Count > 1 ? match.Groups[1].Value : "";
            return match.Success;
        }
        catch (ArgumentException e)
        {
            throw new AdapterException($"'{pattern}' is not a regular expression: {e.Message}", e);
        }
        catch (RegexMatchTimeoutException e)
        {
            throw new AdapterException($"The regular expression '{pattern}' takes too long on the name '{module}'; write it more simply.", e);
        }
    }
}
