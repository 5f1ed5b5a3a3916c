using MLNetLora.Models;

namespace MLNetLora.Adapters;

/// <summary>Which biases are trained with an adapter [bias].</summary>
public enum LoraBias
{
    /// <summary>None ("none"), the default.</summary>
    None,

    /// <summary>Every bias of the model ("all").</summary>
    All,

    /// <summary>Those of the adapted layers ("lora_only").</summary>
    LoraOnly,
}

/// <summary>A tensor of the base that is trained whole, saved with the adapter, and takes the base's place.</summary>
/// <param name="Base">The tensor in the base.</param>
/// <param name="Key">Its name in a PEFT file.</param>
internal sealed record SavedTensor(TensorSpec Base, string Key)
{
    /// <summary>As a tensor of the adapter.</summary>
    public AdapterTensor Tensor => new(Key, Base.Shape, Base.Decays) { IsEmbedding = Base.Kind == TensorKind.Embedding };

    /// <summary>Trainable numbers.</summary>
    public long ParameterCount => Tensor.Count;
}

/// <summary>Such a tensor's numbers.</summary>
/// <param name="Tensor">Which.</param>
/// <param name="Values">In float32, the shape of the base's.</param>
internal sealed record SavedValues(SavedTensor Tensor, float[] Values);

/// <summary>Finds the tensors that are trained whole, by PEFT's rules.</summary>
internal static class SavedTensors
{
    private const string Prefix = "base_model.model.";
    private const int MostModules = 4096; // each is looked for among all tensors

    /// <summary>The tensors of <see cref="LoraOptions.Bias"/> and <see cref="LoraOptions.ModulesToSave"/>, in the order of the forward pass.</summary>
    /// <exception cref="AdapterException">A module does not exist, or cannot be trained so.</exception>
    public static IReadOnlyList<SavedTensor> Resolve(
        LoraOptions options, Architecture architecture, QwenConfig config, IReadOnlyList<LoraModule> modules)
    {
        TensorSpec[] all = [.. architecture.Tensors(config)];
        HashSet<string> adapted = [.. modules.Select(module => module.Module.Name)];
        string[] entries = [.. options.ModulesToSave.Distinct()]; // a file may say the same a million times
        if (entries.Length > MostModules)
        {
            throw new AdapterException($"ModulesToSave has {entries.Length} names; at most {MostModules} are read.");
        }

        foreach (string entry in entries)
        {
            TensorSpec[] named = [.. all.Where(tensor => IsNamed(tensor, entry))];
            if (named.Length == 0)
            {
                string known = string.Join(", ", all
                    .Where(tensor => tensor.Kind
                        is TensorKind.Embedding or TensorKind.Head or TensorKind.Norm or TensorKind.Convolution or TensorKind.Router)
                    .Select(tensor => Module(tensor)[(Module(tensor).LastIndexOf('.') + 1)..]).Distinct());
                throw new AdapterException(
                    $"No module of this {config.ModelType} model is named '{PythonRegex.Short(entry)}' (ModulesToSave). There are: {known}.");
            }

            if (named.FirstOrDefault(tensor => tensor.Kind == TensorKind.Expert) is { } expert)
            {
                throw new AdapterException($"ModulesToSave names '{entry}', and with it experts ({Module(expert)}), which stay frozen; an adapter can be put "
                    + $"on them: name them in {nameof(LoraOptions.TargetParameters)}.");
            }

            if (named.FirstOrDefault(tensor => tensor.Kind == TensorKind.Rate) is { } rate)
            {
                throw new AdapterException($"ModulesToSave names '{entry}', which is the whole layer {Module(rate)} with its linear layers; embeddings, the "
                    + "output layer, norms, convolutions and routers can be trained whole. Name those.");
            }

            if (named.FirstOrDefault(tensor => tensor.Kind == TensorKind.Linear) is { } linear)
            {
                throw new AdapterException($"ModulesToSave names '{entry}', which is the linear layer {Module(linear)}; embeddings, the output layer, norms, "
                    + $"convolutions and routers can be trained whole. Name it in {nameof(LoraOptions.TargetModules)}.");
            }

            if (named.FirstOrDefault(tensor => adapted.Contains(Module(tensor))) is { } twice)
            {
                throw new AdapterException($"ModulesToSave names '{entry}', and with it {Module(twice)}, which {nameof(LoraOptions.TargetParameters)} or "
                    + $"{nameof(LoraOptions.TargetModules)} put an adapter on: trained whole, it needs none. Name it once.");
            }

            if (config.TieWordEmbeddings && named.Any(tensor => tensor.Kind is TensorKind.Embedding or TensorKind.Head))
            {
                throw new AdapterException($"ModulesToSave names '{entry}', and the embedding of this model is its output layer too (tie_word_embeddings): "
                    + "trained apart, the two would no longer be one. Take it out, or a checkpoint that is not tied.");
            }
        }

        return [.. all.Where(IsSaved).Select(tensor => new SavedTensor(tensor, Key(tensor)))];

        bool IsSaved(TensorSpec tensor) => entries.Any(entry => IsNamed(tensor, entry))
            || (tensor.Kind == TensorKind.Bias && options.Bias switch
            {
                LoraBias.All => true,
                LoraBias.LoraOnly => adapted.Contains(Module(tensor)),
                _ => false,
            });

        string Key(TensorSpec tensor) => tensor.Kind == TensorKind.Bias && adapted.Contains(Module(tensor))
            ? $"{Prefix}{Module(tensor)}.base_layer.bias"
            : Prefix + tensor.Name;
    }

    /// <summary>The tensors of a module whose name ends so: PEFT asks for no dot before it.</summary>
    private static bool IsNamed(TensorSpec tensor, string entry) => Module(tensor).EndsWith(entry, StringComparison.Ordinal);

    private static string Module(TensorSpec tensor) => tensor.Name[..tensor.Name.LastIndexOf('.')];
}
