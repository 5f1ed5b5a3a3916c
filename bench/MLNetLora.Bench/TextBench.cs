using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using MLNetLora.Text;

namespace MLNetLora.Bench;

/// <summary>Encoding speed on the rows of data files, beside Hugging Face tokenizers where a peer command is given; rows tokenized with labels.</summary>
internal static class TextBench
{
    private static readonly string[] Methods = ["encode", "encode_batch", "encode_batch_fast"];

    public static void Run(string folder, string[] files, int rounds, string? peerCommand)
    {
        QwenTokenizer tokenizer = QwenTokenizer.Load(folder);
        ConversationFormatter formatter = new(tokenizer, ChatTemplate.Load(folder));
        using TokenizersPeer? peer = peerCommand is null ? null : new TokenizersPeer(peerCommand);
        Console.WriteLine(
            $"MB of UTF-8 per second (1 MB = 10^6 bytes), rows per second; medians of {rounds} rounds in which all take turns, {Environment.ProcessorCount} "
            + "cores");
        foreach (string file in files)
        {
            Measure(tokenizer, formatter, peer, file, rounds);
        }
    }

    private static void Measure(QwenTokenizer tokenizer, ConversationFormatter formatter, TokenizersPeer? peer, string file, int rounds)
    {
        DatasetRow[] rows = [.. Dataset.Read(file)];
        string[] texts = [.. rows.Select(Text)];
        double megabytes = texts.Sum(text => (long)Encoding.UTF8.GetByteCount(text)) / 1e6;
        int[][] ids = [];
        int tokenized = 0;
        Dictionary<string, Func<double>> measured = new()
        {
            ["one thread"] = () => Time(() => ids = [.. texts.Select(text => tokenizer.Encode(text, QwenTokenizer.Recognition.All))]),
            ["all cores"] = () => Time(() => ids = tokenizer.EncodeMany(texts, QwenTokenizer.Recognition.All, 0)),
            ["rows, one thread"] = () => Time(() => tokenized = rows.Sum(row => formatter.TokenizeRows(row, LabelScope.Answer, 2048).Count)),
            ["rows, all cores"] = () => Time(() => tokenized = formatter.TokenizeRows(rows, LabelScope.Answer, 2048).Count()),
        };
        List<double> cores = [];
        Func<double> everywhere = measured["all cores"];
        measured["all cores"] = () =>
        {
            (long begun, TimeSpan used) = (Stopwatch.GetTimestamp(), Environment.CpuUsage.TotalTime);
            double seconds = everywhere();
            cores.Add((Environment.CpuUsage.TotalTime - used) / Stopwatch.GetElapsedTime(begun));
            return seconds;
        };
        string? different = null;
        if (peer is not null)
        {
            peer.SetTexts(texts);
            int passes = Passes(peer.Measure(Methods[1], 1).Seconds);
            foreach (string method in Methods)
            {
                measured[method] = () =>
                {
                    (double seconds, string hash) = peer.Measure(method, passes);
                    different = hash == Hash(ids) ? different : method;
                    return seconds;
                };
            }
        }
        foreach (Func<double> warm in measured.Values)
        {
            warm();
        }

        cores.Clear();
        Dictionary<string, List<double>> seconds = measured.Keys.ToDictionary(name => name, _ => new List<double>());
        for (int round = 0; round < rounds; round++)
        {
            foreach ((string name, Func<double> run) in measured)
            {
                seconds[name].Add(run());
            }
        }
        Console.WriteLine($"{Path.GetFileName(file),-30} {rows.Length} rows, {megabytes:F3} MB, {ids.Sum(part => (long)part.Length)} tokens");
        Console.WriteLine($"  encoding                     {megabytes / Median(seconds["one thread"]):F1} MB/s on one thread, "
            + $"{megabytes / Median(seconds["all cores"]):F1} on all cores, "
            + $"{Median([.. seconds["one thread"].Zip(seconds["all cores"], (one, all) => one / all)]):F2} times as fast on the {Median(cores):F2} cores that "
            + "the process got");
        Console.WriteLine($"  rows with labels             {rows.Length / Median(seconds["rows, one thread"]):F0} rows/s on one thread, "
            + $"{rows.Length / Median(seconds["rows, all cores"]):F0} on all cores ({tokenized} training rows)");
        if (peer is null)
        {
            return;
        }

        foreach (string method in Methods)
        {
            Console.WriteLine($"  tokenizers {method,-17} {megabytes / Median(seconds[method]):F1} MB/s; ours on one thread is "
                + $"{Median([.. seconds[method].Zip(seconds["one thread"], (theirs, ours) => theirs / ours)]):F2} times as fast");
        }

        Console.WriteLine($"  ids                          {(different is null ? "equal" : $"DIFFERENT from {different}")}");
    }

    private static string Text(DatasetRow row) =>
        row.Document
            ?? string.Join('\n', row.Conversation!.Messages.SelectMany(
                message => (IEnumerable<string>)[message.Content ?? "", .. (message.ToolCalls ?? []).Select(call => call.Arguments)]));

    private static int Passes(double seconds) => (int)Math.Clamp(0.2 / seconds, 1, 1000);

    /// <summary>Seconds per pass, of as many passes as fill a fifth of a second.</summary>
    private static double Time(Action pass)
    {
        long begun = Stopwatch.GetTimestamp();
        pass();
        int passes = Passes(Stopwatch.GetElapsedTime(begun).TotalSeconds);
        begun = Stopwatch.GetTimestamp();
        for (int i = 0; i < passes; i++)
        {
            pass();
        }

        return Stopwatch.GetElapsedTime(begun).TotalSeconds / passes;
    }

    private static string Hash(int[][] ids)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (int[] part in ids)
        {
            hash.AppendData(MemoryMarshal.AsBytes<int>(part));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);
}
