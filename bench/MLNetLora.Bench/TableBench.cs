using System.Globalization;
using System.Text.Json;
using MLNetLora.Inference;
using MLNetLora.Quantization;
using MLNetLora.Training;

namespace MLNetLora.Bench;

/// <summary>Where the peers are; a figure without its peer is shown alone.</summary>
/// <param name="Libtorch">Command of a LoRA step in libtorch, to which BATCH LENGTH LAYERS LABELLED f32|bf16 is added; answers with JSON:
/// tokens_per_second, peak_rss_mb.</param>
/// <param name="Transformers">Command of a LoRA step in transformers and PEFT on the same checkpoint, to which --batch, --length, --labelled and
/// --dtype are added; answers with JSON: tokens_per_second, peak_rss_mb, seconds_to_first_step.</param>
/// <param name="LlamaBench">Command of llama.cpp's llama-bench.</param>
/// <param name="Ggufs">The same weights for it: float32, 8-bit and 4-bit file.</param>
internal sealed record Peers(string? Libtorch, string? Transformers, string? LlamaBench, string[] Ggufs);

/// <summary>The whole table of docs/performance.md: every figure beside its peer or floor, all in one run, each in a process of its own.</summary>
internal static class TableBench
{
    private const int PackedLength = 1024; // no row of alpaca_zh_demo is longer

    private static readonly string[] Int8 = ["--precision", $"{WeightPrecision.Int8}"];

    private sealed record Peer(string Name, double Speed, double Memory, double First);

    /// <summary>Measures and prints, a row as soon as it is known.</summary>
    /// <param name="model">Checkpoint folder.</param>
    /// <param name="layers">Its blocks, for the peer that makes its own weights.</param>
    /// <param name="data">Data files for the packed row; none leaves it out.</param>
    /// <param name="tokenizer">Folder with the tokenizer's files.</param>
    /// <param name="halves">Checkpoint folders with 16-bit weights, for rows of their own: what upcasting costs.</param>
    /// <param name="peers">The peers.</param>
    public static void Run(string model, int layers, string[] data, string? tokenizer, string[] halves, Peers peers)
    {
        Console.WriteLine("| figure | ours | peer or floor | ratio | goal |");
        Console.WriteLine("|---|---|---|---|---|");
        foreach ((int batch, double goal) in (ReadOnlySpan<(int, double)>)[(1, 2.0), (4, 3.0)])
        {
            Peer? peer = Strongest(batch, 512, 0.5, "f32", model, layers, peers);
            TrainingFigures ours = Training(model, batch, 512, floor: true);
            TrainingFigures recomputed = Training(model, batch, 512, floor: false, "--checkpointing");
            Speed($"training tokens/s, fp32, {batch} x 512", ours.TokensPerSecond, peer, goal);
            Row($"share of the GEMM floor, {batch} x 512", $"{ours.TokensPerSecond:F1}",
                $"{ours.TokensPerSecond * ours.Best / ours.Floor:F1} tokens/s, {ours.Flops / ours.Floor / 1e9:F0} GFLOP/s", ours.Floor / ours.Best, "0.90");
            Memory($"peak private memory beside resident memory, {batch} x 512", ours, peer, batch == 4 ? "0.35" : "");
            Memory($"the same, recomputed ({recomputed.TokensPerSecond:F1} tokens/s)", recomputed, peer, batch == 4 ? "0.15" : "");
            TrainingFigures prepacked = Training(model, batch, 512, floor: true, "--prepack");
            Speed($"training tokens/s, fp32, weights prepacked (opt-in), {batch} x 512", prepacked.TokensPerSecond, peer, goal);
            Row($"share of the GEMM floor, both prepacked, {batch} x 512", $"{prepacked.TokensPerSecond:F1}",
                $"{prepacked.TokensPerSecond * prepacked.Best / prepacked.Floor:F1} tokens/s, {prepacked.Flops / prepacked.Floor / 1e9:F0} GFLOP/s",
                prepacked.Floor / prepacked.Best, "0.90");
            Memory($"peak private memory beside resident memory, weights prepacked, first step after {prepacked.Ready:F1} s, {batch} x 512", prepacked, peer,
                "");
            TrainingFigures quantized = Training(model, batch, 512, floor: false, Int8);
            Speed($"training tokens/s, frozen products in 8-bit integers (opt-in, {quantized.PeakBytes / 1e9:F2} GB), {batch} x 512, beside fp32",
                quantized.TokensPerSecond, peer, null);
            TrainingFigures both = Training(model, batch, 512, floor: false, [.. Int8, "--prepack"]);
            Speed($"the same, prepacked ({both.PeakBytes / 1e9:F2} GB)", both.TokensPerSecond, peer, null);
            if (batch == 1)
            {
                Peer? bf16 = Strongest(1, 512, 0.5, "bf16", model, layers, peers);
                Speed("training tokens/s, fp32, 1 x 512, beside bf16", ours.TokensPerSecond, bf16, 1.2);
                Speed("training tokens/s, frozen products in 8-bit integers, 1 x 512, beside bf16", quantized.TokensPerSecond, bf16, null);
                Row("seconds until the first step begins", $"{ours.Ready:F1}", "", double.NaN, "3");
                Row("seconds to the end of the first step", $"{ours.First:F1}", peer is null || peer.First == 0 ? "" : $"{peer.First:F1}",
                    peer is null || peer.First == 0 ? double.NaN : ours.First / peer.First, "0.5");
            }
        }

        foreach (string half in halves)
        {
            string name = Path.GetFileName(Path.TrimEndingDirectorySeparator(half));
            foreach (string[] recomputed in (string[][])[[], ["--checkpointing"]])
            {
                TrainingFigures ours = Training(half, 1, 512, floor: false, ["--steps", "1", .. recomputed]);
                string how = recomputed.Length > 0 ? ", recomputed" : "";
                Row($"training tokens/s and peak private memory, {name}, 1 x 512{how}", $"{ours.TokensPerSecond:F1}, {ours.PeakBytes / 1e9:F2} GB", "",
                    double.NaN, "");
            }
        }

        if (data.Length > 0)
        {
            PaddedBatches padded = PackingBench.Padded(tokenizer ?? model, data, PackedLength, 4);
            string[] rows = ["--data", .. data, "--tokenizer", tokenizer ?? model];
            TrainingFigures packed = Training(model, 1, PackedLength, floor: false, rows);
            TrainingFigures prepacked = Training(model, 1, PackedLength, floor: false, [.. rows, "--prepack"]);
            TrainingFigures quantized = Training(model, 1, PackedLength, floor: false, [.. rows, .. Int8]);
            TrainingFigures both = Training(model, 1, PackedLength, floor: false, [.. rows, .. Int8, "--prepack"]);
            Peer? peer = Strongest(4, padded.MeanLength, padded.Labelled, "f32", model, layers, peers);
            peer = peer is null ? null : peer with { Speed = peer.Speed * padded.Useful };
            Speed($"useful tokens/s on real rows, fp32, packed at {PackedLength} here, padded batches of 4 there ({padded.MeanLength} tokens, "
                + $"{padded.Useful:P0} of them rows)", packed.TokensPerSecond, peer, 4.0);
            Speed("the same, weights prepacked", prepacked.TokensPerSecond, peer, 4.0);
            Speed("the same, frozen products in 8-bit integers here, fp32 there", quantized.TokensPerSecond, peer, null);
            Speed("the same, prepacked", both.TokensPerSecond, peer, null);
        }

        TrainingFigures? shortest = null;
        foreach (int length in (ReadOnlySpan<int>)[512, 1024, 2048, 4096])
        {
            TrainingFigures ours = Training(model, 1, length, floor: false, "--checkpointing", "--steps", "0");
            shortest ??= ours;
            Row($"peak private memory, 1 x {length}, recomputed", $"{ours.PeakBytes / 1e9:F2} GB", $"{length / 512} x the tokens of the first",
                (double)ours.PeakBytes / shortest.PeakBytes, "memory linear");
        }

        Generation(model, peers);
    }

    private static void Generation(string model, Peers peers)
    {
        GenerationSetting setting = new(model, 256, 32, 16, 0, 3);
        Dictionary<WeightPrecision, (double Prefill, double Decode)> goals = new()
        {
            [WeightPrecision.Checkpoint] = (2.5, 1),
            [WeightPrecision.Int8] = (1.2, 1),
            [WeightPrecision.Int4] = (1, 1),
        };
        foreach (WeightPrecision precision in Enum.GetValues<WeightPrecision>())
        {
            GenerationPeer? peer = null;
            try
            {
                peer = GenerationBench.Peer(precision, peers.LlamaBench, peers.Ggufs, setting);
            }
            catch (Exception e) when (e is InvalidOperationException or System.ComponentModel.Win32Exception)
            {
                Console.Error.WriteLine($"llama.cpp is left out: {e.Message}");
            }

            GenerationResult ours = ChildProcess.Json(ChildProcess.Self, "generation", "--model", model, "--precision", $"{precision}",
                "--json").Deserialize<GenerationResult>()!;
            Row($"prefill tokens/s, {precision}", $"{ours.Prefill:F1}", peer is null ? "" : $"llama.cpp {peer.Prefill:F1}",
                ours.Prefill / (peer?.Prefill ?? double.NaN), Number(goals[precision].Prefill));
            Row($"decode tokens/s, {precision}", $"{ours.Decode:F1}", peer is null ? "" : $"llama.cpp {peer.Decode:F1}",
                ours.Decode / (peer?.Decode ?? double.NaN), Number(goals[precision].Decode));
            Row($"decode tokens/s, 16 prompts at once, {precision}", $"{ours.DecodeAtOnce:F1}", $"one at a time {ours.Decode:F1}",
                ours.DecodeAtOnce / ours.Decode, precision == WeightPrecision.Checkpoint ? "6" : "");
        }
    }

    private static TrainingFigures Training(string model, int batch, int length, bool floor, params string[] more) =>
        ChildProcess.Json(ChildProcess.Self, ["training", "--model", model, "--batch", $"{batch}", "--length", $"{length}", "--json",
            .. floor ? (string[])[] : ["--no-floor"], .. more]).Deserialize<TrainingFigures>()!;

    /// <summary>The faster of the two peers, with the smaller memory and the earlier first step of those that say so.</summary>
    private static Peer? Strongest(int batch, int length, double labelled, string type, string model, int layers, Peers peers)
    {
        List<Peer> all = [];
        string share = labelled.ToString("F2", CultureInfo.InvariantCulture);
        Ask(peers.Libtorch, "libtorch", $"{batch}", $"{length}", $"{layers}", share, type);

        // The slower of the two everywhere it was tried, and minutes a row: beside libtorch it is asked for the first row alone, which also needs its start.
        if (peers.Libtorch is null || (batch == 1 && type == "f32"))
        {
            Ask(peers.Transformers, "PEFT", "--batch", $"{batch}", "--length", $"{length}", "--labelled", share, "--dtype",
                type == "bf16" ? "bfloat16" : "float32");
        }

        return all.Count == 0
            ? null
            : all.MaxBy(peer => peer.Speed)! with
            {
                Memory = all.Min(peer => peer.Memory),
                First = all.Where(peer => peer.First > 0).Select(peer => peer.First).DefaultIfEmpty().Min(),
            };

        void Ask(string? command, string name, params string[] arguments)
        {
            try
            {
                if (command is not null)
                {
                    all.Add(Read(name, ChildProcess.Json(ChildProcess.Words(command), arguments)));
                }
            }
            catch (Exception e) when (e is InvalidOperationException or KeyNotFoundException or JsonException or System.ComponentModel.Win32Exception)
            {
                Console.Error.WriteLine($"{name} is left out: {e.Message}");
            }
        }

        static Peer Read(string name, JsonElement json) =>
            new(name, json.GetProperty("tokens_per_second").GetDouble(), json.GetProperty("peak_rss_mb").GetDouble() * 1e6,
            json.TryGetProperty("seconds_to_first_step", out JsonElement first) ? first.GetDouble() : 0);
    }

    private static void Speed(string figure, double ours, Peer? peer, double? goal) =>
        Row(figure, $"{ours:F1}", peer is null ? "" : $"{peer.Name} {peer.Speed:F1}", ours / (peer?.Speed ?? double.NaN),
            goal is double number ? Number(number) : "");

    private static void Memory(string figure, TrainingFigures ours, Peer? peer, string goal) =>
        Row(figure, $"{ours.PeakBytes / 1e9:F2} GB", peer is null ? "" : $"{peer.Memory / 1e9:F1} GB", ours.PeakBytes / (peer?.Memory ?? double.NaN), goal);

    private static void Row(string figure, string ours, string peer, double ratio, string goal) =>
        Console.WriteLine($"| {figure} | {ours} | {peer} | {(double.IsNaN(ratio) ? "" : Number(ratio))} | {goal} |");

    private static string Number(double value) => value.ToString("F2", CultureInfo.InvariantCulture);

}
