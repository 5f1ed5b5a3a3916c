using MLNetLora.Models;
using MLNetLora.Onnx;

namespace MLNetLora.Adapters;

/// <summary>
/// Several adapters in one run: the tokens are sorted into groups, one for each adapter, and every layer's factors are a stack with a matrix for each group.
/// A factor is so read once in a run, whatever the number of its rows, and a token meets its own adapter alone.
/// </summary>
/// <param name="Tokens">[groups, n], 64-bit: the tokens of each group; a shorter group repeats any.</param>
/// <param name="Places">[tokens], 64-bit: where each token stands in them, as a number of the flat [groups·n].</param>
/// <param name="OutputTokens">[groups, m]: the same for the tokens whose output is asked for.</param>
/// <param name="OutputPlaces">[batch].</param>
internal sealed record AdapterGroups(Value Tokens, Value Places, Value OutputTokens, Value OutputPlaces)
{
    private readonly Dictionary<Value, Value> _sorted = []; // queries, keys and values are made of the same

    /// <summary>The inputs' names.</summary>
    public static (string Tokens, string Places) Names => ("adapter_tokens", "adapter_places");

    /// <summary>The same for the tokens whose output is asked for.</summary>
    public static (string Tokens, string Places) OutputNames => ("adapter_output_tokens", "adapter_output_places");

    /// <summary>The stack of a layer's A, [groups, rank, in].</summary>
    public static string NameA(LinearModule module) => module.Name + ".lora_A";

    /// <summary>The stack of a layer's B, transposed and scaled, [groups, rank, out].</summary>
    public static string NameB(LinearModule module) => module.Name + ".lora_B";

    /// <summary>Declares the inputs that all layers share.</summary>
    public static AdapterGroups Inputs(GraphBuilder graph) => new(
        graph.Input(Names.Tokens, ElementType.Int64, "groups", "group_tokens"),
        graph.Input(Names.Places, ElementType.Int64, "tokens"),
        graph.Input(OutputNames.Tokens, ElementType.Int64, "groups", "group_outputs"),
        graph.Input(OutputNames.Places, ElementType.Int64, "batch"));

    /// <summary>A layer with the adapter of each token: y = x Wᵀ + b + x Aᵀ B, of the token's group.</summary>
    public AdaptedLinear Of(LinearModule module)
    {
        return Apply;

        Value Apply(ModelGraph model, Value x, Weight weight, Weight? bias)
        {
            GraphBuilder g = model.Graph;
            bool isOutput = x.Shape[0] == model.OutputRows.Shape[0];
            Dimension rank = module.Name + ".rank";
            Value a = g.Input(NameA(module), ElementType.Float32, "groups", rank, module.In);
            Value b = g.Input(NameB(module), ElementType.Float32, "groups", rank, module.Out);
            if (!_sorted.TryGetValue(x, out Value? sorted))
            {
                sorted = _sorted[x] = g.Gather(x, isOutput ? OutputTokens : Tokens); // [groups, n, in]
            }

            Value h = g.MatMul(sorted, a, transB: true); // [groups, n, in] [groups, rank, in]ᵀ -> [groups, n, rank]
            Value change = g.Reshape(g.MatMul(h, b), [-1, module.Out], ["sorted", module.Out]); // [groups·n, out]
            return g.Add(weight.Product(g, x, bias), g.Gather(change, isOutput ? OutputPlaces : Places)); // [tokens, out]
        }
    }
}
