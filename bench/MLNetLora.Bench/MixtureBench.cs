using System.Text.Json;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;

namespace MLNetLora.Bench;

/// <summary>A mixture of experts beside a dense model with as many active parameters: what routing, and copying one expert at a time, costs.</summary>
internal static class MixtureBench
{
    private const int Length = 512;
    private static readonly string[] s_short = ["--prompt", "64", "--together", "1", "--rounds", "1"];

    /// <summary>Measures both in turn, each run in a process of its own, and prints the best of each.</summary>
    /// <param name="mixture">Checkpoint folder of the mixture.</param>
    /// <param name="dense">Checkpoint folder of the dense model.</param>
    /// <param name="rounds">Runs of each.</param>
    public static void Run(string mixture, string dense, int rounds)
    {
        (string Folder, QwenConfig Config)[] models =
            [.. ((string[])[mixture, dense]).Select(folder => (folder, Checkpoint.Open(ModelFolder.Find(folder)).Config))];
        double[] training = [0, 0];
        double[] decode = [0, 0];
        for (int round = 0; round < rounds; round++)
        {
            for (int i = 0; i < models.Length; i++)
            {
                string[] model = ["--model", models[i].Folder, "--json"];
                TrainingFigures step = ChildProcess.Json(ChildProcess.Self, ["training", "--length", $"{Length}", "--no-floor", .. model])
                    .Deserialize<TrainingFigures>()!;
                training[i] = Math.Max(training[i], step.TokensPerSecond);
                string[] plain = ["--precision", $"{WeightPrecision.Checkpoint}"];
                GenerationResult answer = ChildProcess.Json(ChildProcess.Self, ["generation", .. plain, .. s_short, .. model])
                    .Deserialize<GenerationResult>()!;
                decode[i] = Math.Max(decode[i], answer.Decode);
            }
        }

        Console.WriteLine($"active parameters of a token  {Active(models[0].Config):N0} and {Active(models[1].Config):N0}, output layer and embedding "
            + "left out");
        Console.WriteLine($"training, 1 x {Length}, tokens/s  {training[0]:F1} and {training[1]:F1}, ratio {training[0] / training[1]:F2}");
        Console.WriteLine($"decode, one prompt, tokens/s  {decode[0]:F1} and {decode[1]:F1}, ratio {decode[0] / decode[1]:F2}");
    }

    /// <summary>Numbers of the blocks that a token is multiplied with.</summary>
    private static long Active(QwenConfig c)
    {
        long hidden = c.HiddenSize;
        long attention = 2 * hidden * c.HeadDim * (c.NumAttentionHeads + c.NumKeyValueHeads);
        return Enumerable.Range(0, c.NumHiddenLayers).Sum(layer => attention + (c.Experts is { } experts && experts.IsSparse[layer]
            ? hidden * (experts.Count + (3L * ((experts.PerToken * experts.IntermediateSize) + experts.SharedIntermediateSize)))
            : 3 * hidden * c.IntermediateSize));
    }
}
