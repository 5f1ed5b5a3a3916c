using System.Text.Encodings.Web;
using System.Text.Json;
using MLNetLora.Checkpoints;

namespace MLNetLora.Training;

/// <summary>What a log of JSON Lines is to a run that is resumed.</summary>
internal static class JsonLinesFile
{
    /// <summary>What is longer is no log: some 800,000 steps.</summary>
    public const int MostBytes = 256 << 20;

    /// <summary>Letters of all languages as they are; what stands in a log is no HTML.</summary>
    public static JsonWriterOptions Writing { get; } = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Keeps the whole lines of steps before one; an interrupted rewriting leaves the file as it was.</summary>
    /// <param name="path">The file.</param>
    /// <param name="step">The first step that is made again.</param>
    /// <returns>num_input_tokens_seen of the last line that is kept; 0 where none has it.</returns>
    /// <exception cref="OptionException">The file is far longer than a log of one run.</exception>
    public static long KeepBefore(string path, int step)
    {
        string text = BoundedFile.ReadText(path, MostBytes) ?? throw new OptionException(
            $"{path} has more than {MostBytes >> 20} MB, which no log of one run has, and the run is to go on in it. Move it away, or give another file.");
        long tokens = 0;
        AtomicFile.Write(path, stream =>
        {
            using StreamWriter writer = new(stream, leaveOpen: true) { NewLine = "\n" };
            foreach (string line in text.Split('\n'))
            {
                if (Parse(line) is { } kept && kept.Step < step && !kept.IsEnd)
                {
                    writer.WriteLine(line);
                    tokens = kept.Tokens ?? tokens;
                }
            }
        });
        return tokens;
    }

    /// <summary>What a line says of its place in the run; null for what is no whole line of a log. The end of a run that goes on after all is none.</summary>
    private static (int Step, long? Tokens, bool IsEnd)? Parse(string line)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(line);
            JsonElement root = document.RootElement;
            return root.ValueKind == JsonValueKind.Object && root.TryGetProperty("step", out JsonElement at) && at.TryGetInt32(out int step)
                ? (step, root.TryGetProperty("num_input_tokens_seen", out JsonElement seen) && seen.TryGetInt64(out long tokens) ? tokens : null,
                    root.TryGetProperty("outcome", out _))
                : null;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            return null;
        }
    }
}
