using System.Diagnostics;
using System.Globalization;
using System.Text.Json;

namespace MLNetLora.Bench;

/// <summary>Hugging Face tokenizers in a process of its own (tokenizers_peer.py), asked a measurement at a time, so that the two take turns.</summary>
internal sealed class TokenizersPeer : IDisposable
{
    private readonly Process _process;

    /// <summary>Starts the peer.</summary>
    /// <param name="command">The command with its arguments: python3 tokenizers_peer.py FOLDER, wherever that runs.</param>
    public TokenizersPeer(string command)
    {
        string[] parts = command.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        ProcessStartInfo start = new(parts[0], parts[1..]) { RedirectStandardInput = true, RedirectStandardOutput = true };
        start.Environment["RAYON_NUM_THREADS"] = "1";
        start.Environment["TOKENIZERS_PARALLELISM"] = "false";
        _process = Process.Start(start)!;
    }

    /// <summary>Gives the texts of the measurements that follow.</summary>
    public void SetTexts(IReadOnlyList<string> texts) => Ask(JsonSerializer.Serialize(texts));

    /// <summary>Encodes all texts.</summary>
    /// <param name="method">encode, encode_batch or encode_batch_fast.</param>
    /// <param name="passes">How often.</param>
    /// <returns>Seconds per pass, and the hash of the ids.</returns>
    public (double Seconds, string Hash) Measure(string method, int passes)
    {
        string[] answer = Ask($"{method} {passes}").Split(' ');
        return (double.Parse(answer[0], CultureInfo.InvariantCulture) / passes, answer[1]);
    }

    public void Dispose()
    {
        _process.StandardInput.Close();
        _process.WaitForExit();
        _process.Dispose();
    }

    private string Ask(string line)
    {
        _process.StandardInput.WriteLine(line);
        _process.StandardInput.Flush();
        return _process.StandardOutput.ReadLine() ?? throw new InvalidOperationException("The peer ended.");
    }
}
