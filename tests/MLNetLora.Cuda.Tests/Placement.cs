using System.Text.Json;
using MLNetLora.Runtime;

namespace MLNetLora.Cuda.Tests;

/// <summary>A node that ran.</summary>
/// <param name="Graph">Name of its graph.</param>
/// <param name="Operator">Its operator.</param>
/// <param name="Node">Its name.</param>
/// <param name="Provider">The provider that ran it, "CUDA" or "CPU".</param>
/// <param name="OutputTypes">Types of its outputs, as ONNX Runtime writes them: "float", "int64".</param>
internal sealed record PlacedNode(string Graph, string Operator, string Node, string Provider, IReadOnlyList<string> OutputTypes);

/// <summary>Where the nodes of sessions ran, as ONNX Runtime's profile says.</summary>
internal static class Placement
{
    /// <summary>Fails where a number was copied within a graph, or computed elsewhere than on the device; sizes may be.</summary>
    public static void RequireDevice(IReadOnlyList<PlacedNode> nodes)
    {
        Assert.NotEmpty(nodes);
        string[] wrong = [.. nodes.Where(node => node.Operator.StartsWith("Memcpy", StringComparison.Ordinal)
                || (node.Provider != "CUDA" && node.OutputTypes.Any(output => output != "int64")))
            .Select(node => $"{node.Graph}: {node.Operator} {node.Node} on {node.Provider}, {string.Join(", ", node.OutputTypes)}")];
        Assert.True(wrong.Length == 0, string.Join("\n", wrong));
    }

    /// <summary>Runs an action that makes sessions, runs them and disposes them, on this thread.</summary>
    public static IReadOnlyList<PlacedNode> Of(Action action)
    {
        string folder = Directory.CreateTempSubdirectory("mlnetlora-profile-").FullName;
        try
        {
            OnnxSession.ProfilePrefix = Path.Combine(folder, "profile");
            action();
        }
        finally
        {
            OnnxSession.ProfilePrefix = null;
        }

        List<PlacedNode> nodes = [];
        foreach (string file in Directory.EnumerateFiles(folder, "profile.*.json"))
        {
            string graph = Path.GetFileName(file).Split('.')[1];
            using JsonDocument json = JsonDocument.Parse(File.ReadAllBytes(file));
            nodes.AddRange(
                from item in json.RootElement.EnumerateArray()
                where item.GetProperty("cat").GetString() == "Node"
                let name = item.GetProperty("name").GetString()!
                where name.EndsWith("_kernel_time", StringComparison.Ordinal)
                let args = item.GetProperty("args")
                select new PlacedNode(
                    graph,
                    args.GetProperty("op_name").GetString()!,
                    name[..^"_kernel_time".Length],
                    args.GetProperty("provider").GetString()!.Replace("ExecutionProvider", "", StringComparison.Ordinal),
                    [.. args.GetProperty("output_type_shape").EnumerateArray().Select(type => type.EnumerateObject().First().Name)]));
        }

        Directory.Delete(folder, recursive: true);
        return [.. nodes.Distinct()];
    }
}
