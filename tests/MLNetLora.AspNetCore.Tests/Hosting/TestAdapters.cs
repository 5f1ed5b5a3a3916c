using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Tests;

namespace MLNetLora.AspNetCore.Tests.Hosting;

/// <summary>Adapters for the nano model that answer otherwise than it.</summary>
internal static class TestAdapters
{
    private static readonly Checkpoint s_base = Checkpoint.Open(Repository.Nano);

    /// <summary>Writes one.</summary>
    /// <param name="folder">Where to.</param>
    /// <param name="seed">Another seed is another adapter.</param>
    /// <param name="change">Changes its numbers.</param>
    /// <param name="dora">Whether it has DoRA's magnitudes.</param>
    public static string Write(string folder, int seed = 1, Action<float[]>? change = null, bool dora = false)
    {
        LoraAdapter adapter = LoraAdapter.Create(new LoraOptions { Rank = 2, Alpha = 4, Dropout = 0, UseDora = dora }, s_base, seed);
        Random random = new(seed);
        foreach (LoraFactors factors in adapter.Factors)
        {
            foreach (ref float value in factors.B.AsSpan())
            {
                value = (random.NextSingle() - 0.5f) * 4;
            }

            change?.Invoke(factors.B);
        }

        adapter.SaveAsPeft(folder);
        return folder;
    }

    /// <summary>Copies one into a folder, file by file.</summary>
    public static void Copy(string from, string to)
    {
        Directory.CreateDirectory(to);
        foreach (string file in Directory.GetFiles(from))
        {
            File.Copy(file, Path.Combine(to, Path.GetFileName(file)), overwrite: true);
        }
    }

    /// <summary>The names of its files.</summary>
    public static IReadOnlyList<string> FileNames { get; } = [LoraAdapter.ConfigName, LoraAdapter.WeightsName];
}
