using MLNetLora.Adapters;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Onnx.Differentiable;

namespace MLNetLora.Artifacts;

/// <summary>Builds dora_norms.onnx: what DoRA's magnitudes are divided by, once for each adapter instead of once for each token.</summary>
/// <remarks>Inputs: A and B of every layer under their PEFT keys. Outputs: MODULE.dora_norm [out].</remarks>
internal static class DoraNorms
{
    /// <summary>Name of a layer's norms.</summary>
    public static string Name(LoraModule lora) => lora.Module.Name + ".dora_norm";

    /// <summary>The graph for a base and the layers of an adapter.</summary>
    public static ModelArtifact Build(Checkpoint checkpoint, IEnumerable<LoraModule> loras)
    {
        GraphBuilder graph = new("dora_norms");
        GraphWeights weights = new(graph, checkpoint);
        foreach (LoraModule lora in loras)
        {
            FloatWeight a = new(graph.Input(lora.KeyA, ElementType.Float32, lora.Rank, lora.Module.In));
            FloatWeight b = new(graph.Input(lora.KeyB, ElementType.Float32, lora.Module.Out, lora.Rank));
            graph.Output(Name(lora), Dora.Norm(graph, weights.Get(lora.Module.Name + ".weight")!, a, b, (float)lora.Scaling));
        }

        return new ModelArtifact("dora_norms.onnx", graph.ToBytes(), weights.Folder);
    }
}
