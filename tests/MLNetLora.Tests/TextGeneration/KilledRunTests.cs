using System.Diagnostics;
using System.Globalization;
using MLNetLora.Training;
using Xunit.Abstractions;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>Processes that are ended in the middle of a training and started again until it is done. MLNETLORA_KILLS says how often; by default a few
/// times.</summary>
public sealed class KilledRunTests(ITestOutputHelper output) : IDisposable
{
    private const int Steps = 24;

    private static readonly int s_kills =
        int.TryParse(Environment.GetEnvironmentVariable("MLNETLORA_KILLS"), CultureInfo.InvariantCulture, out int kills) ? kills : 3;

    private readonly Workbench _bench = new();

    public void Dispose() => _bench.Dispose();

    [LinuxTheory]
    [InlineData("KILL", "")]
    [InlineData("TERM", "")]
    [InlineData("KILL", "Precision=Int8")]
    [InlineData("KILL", "PrepackWeights=True")]
    public void A_run_that_is_ended_again_and_again_ends_as_one_that_is_not(string signal, string setting)
    {
        string[] settings = setting.Length == 0 ? [$"MaximumSteps={Steps}"] : [$"MaximumSteps={Steps}", setting];
        File.WriteAllText(_bench.PathOf("rows.json"),
            """[{"instruction": "what", "output": "1"}, {"instruction": "why", "output": "2"}, {"instruction": "who", "input": "c", "output": "3"}]""");
        TimeSpan whole = Finish("whole");
        TimeSpan step = SavedRun.Read(_bench.PathOf($"whole/checkpoint-{Steps}")).Steps[^1].Elapsed / Steps;
        byte[] expected = Adapter("whole");
        int seed = Random.Shared.Next();
        Random random = new(seed);
        int[] ended = new int[Steps + 1];
        for (int kills = 0, run = 0; kills < s_kills; run++)
        {
            string name = $"ended-{run}";
            for (bool done = false; !done && kills < s_kills; kills += done ? 0 : 1)
            {
                // In turn at any time, most of which is the start, and at any time of a step.
                done = kills % 2 == 0 ? Start(name, random.NextDouble() * whole) : Start(name, random.NextDouble() * step, random.Next(1, Steps));
                ended[RunFolder.Checkpoints(_bench.PathOf(name)).Select(checkpoint => checkpoint.Step).FirstOrDefault()]++;
            }

            Finish(name);
            Assert.True(expected.AsSpan().SequenceEqual(Adapter(name)), $"run {run} of seed {seed} differs");
            Assert.Equal([Steps, Steps - 1, Steps - 2], RunFolder.Checkpoints(_bench.PathOf(name)).Select(checkpoint => checkpoint.Step));
        }

        output.WriteLine($"{s_kills} times {signal} {setting}; last checkpoints then: {string.Join(" ", ended)}");

        TimeSpan Finish(string name)
        {
            Stopwatch watch = Stopwatch.StartNew();
            Assert.True(Start(name, null));
            return watch.Elapsed;
        }

        // Whether it came to its end.
        bool Start(string name, TimeSpan? end, int? afterSteps = null)
        {
            using Process process = LoadProbe.Start(["train", _bench.BaseFolder, _bench.PathOf("rows.json"), _bench.PathOf(name), .. settings]);
            Task<string> errors = process.StandardError.ReadToEndAsync();
            string said = "";
            for (int made = 0; made < afterSteps && process.StandardOutput.ReadLine() is { } line; said += line + "\n")
            {
                made += line.StartsWith("step ", StringComparison.Ordinal) ? 1 : 0;
            }

            Task<string> rest = process.StandardOutput.ReadToEndAsync();
            if (end is { } time && !process.WaitForExit(time))
            {
                Process.Start("kill", [$"-{signal}", process.Id.ToString(CultureInfo.InvariantCulture)]).WaitForExit();
            }

            Assert.True(process.WaitForExit(TimeSpan.FromMinutes(2)));
            said += rest.Result + errors.Result;
            Assert.DoesNotContain("warning: ", said.Replace("warning: Cancelled", "", StringComparison.Ordinal), StringComparison.Ordinal); // of a checkpoint
            Assert.True(process.ExitCode is 0 or 137 or 143, said);
            return said.Contains("finished", StringComparison.Ordinal);
        }
    }

    private byte[] Adapter(string name) => File.ReadAllBytes(_bench.PathOf($"{name}/adapter_model.safetensors"));
}
