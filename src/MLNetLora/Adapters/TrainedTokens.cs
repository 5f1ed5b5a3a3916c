using MLNetLora.Models;

namespace MLNetLora.Adapters;

/// <summary>Rows of the embedding that are trained with an adapter [trainable_token_indices].</summary>
/// <param name="Base">The embedding.</param>
/// <param name="Ids">Token ids, each once, in the order of the rows.</param>
internal sealed record TrainedTokens(TensorSpec Base, IReadOnlyList<int> Ids)
{
    /// <summary>The rows: [ids, hidden]. PEFT calls them a delta; they are the rows themselves.</summary>
    public AdapterTensor Tensor => new(
        $"base_model.model.{Base.Name[..^".weight".Length]}.token_adapter.trainable_tokens_delta", [Ids.Count, Base.Shape[1]]);

    /// <summary>Those of <see cref="LoraOptions.TrainableTokenIndices"/>; null for none.</summary>
    /// <exception cref="AdapterException">An id is outside of the vocabulary or there twice, or the embedding is trained whole.</exception>
    public static TrainedTokens? Resolve(LoraOptions options, Architecture architecture, QwenConfig config, IReadOnlyList<SavedTensor> saved)
    {
        IReadOnlyList<int> ids = options.TrainableTokenIndices;
        if (ids.Count == 0)
        {
            return null;
        }

        TensorSpec embedding = architecture.Tensors(config).First(tensor => tensor.Kind == TensorKind.Embedding);
        if (saved.Any(tensor => tensor.Base.Name == embedding.Name))
        {
            throw new AdapterException($"{nameof(LoraOptions.ModulesToSave)} trains the whole embedding and {nameof(LoraOptions.TrainableTokenIndices)} some "
                + "of its rows; name one of the two.");
        }

        HashSet<int> seen = [];
        foreach (int id in ids)
        {
            if (id < 0 || id >= config.VocabSize)
            {
                throw new AdapterException(
                    $"{nameof(LoraOptions.TrainableTokenIndices)} names the token {id}; this model has the tokens 0 to {config.VocabSize - 1}.");
            }

            if (!seen.Add(id))
            {
                throw new AdapterException($"{nameof(LoraOptions.TrainableTokenIndices)} names the token {id} twice.");
            }
        }

        return new TrainedTokens(embedding, ids);
    }
}

/// <summary>Their numbers.</summary>
/// <param name="Tokens">Which.</param>
/// <param name="Values">[ids, hidden], row by row.</param>
internal sealed record TrainedTokenValues(TrainedTokens Tokens, float[] Values);

/// <summary>What an adapter consists of on one base: data, from which its file, its graphs and its merge follow.</summary>
/// <param name="Modules">Adapted layers, in the order of the forward pass.</param>
/// <param name="Saved">Tensors of the base that are trained whole, in the same order.</param>
/// <param name="Tokens">Rows of the embedding that are trained; null for none.</param>
internal sealed record AdapterParts(IReadOnlyList<LoraModule> Modules, IReadOnlyList<SavedTensor> Saved, TrainedTokens? Tokens)
{
    /// <summary>All its tensors.</summary>
    public IEnumerable<AdapterTensor> Tensors =>
        [.. Modules.SelectMany(module => module.Tensors), .. Saved.Select(saved => saved.Tensor), .. Tokens is null ? [] : (AdapterTensor[])[Tokens.Tensor]];

    /// <summary>The parts that options mean.</summary>
    /// <param name="options">The options.</param>
    /// <param name="architecture">The base's family.</param>
    /// <param name="config">The base.</param>
    /// <param name="warnings">See <see cref="LoraTargets.Resolve"/>.</param>
    /// <exception cref="AdapterException">Something that is named does not exist or cannot be trained so.</exception>
    public static AdapterParts Resolve(LoraOptions options, Architecture architecture, QwenConfig config, List<string>? warnings = null)
    {
        IReadOnlyList<LoraModule> modules = LoraTargets.Resolve(options, architecture, config, warnings);
        IReadOnlyList<SavedTensor> saved = SavedTensors.Resolve(options, architecture, config, modules);
        return new AdapterParts(modules, saved, TrainedTokens.Resolve(options, architecture, config, saved));
    }
}
