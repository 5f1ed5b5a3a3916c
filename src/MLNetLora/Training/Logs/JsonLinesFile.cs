using System.Text.Encodings.Web;
using System.Text.Json;
using MLNetLora.Checkpoints;

namespace MLNetLora.Training;

/// <summary>What a log of JSON Lines is to a run that is resumed.</summary>
internal static class JsonLinesFile
{
    /// <summary>Letters of all languages as they are; what stands in a log is no HTML.</summary>
    public static JsonWriterOptions Writing { get; } = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Keeps the whole lines of steps before one; an interrupted rewriting leaves the file as it was.</summary>
    /// <param name="path">The file.</param>
    /// <param name="step">The first step that is made again.</param>
    /// <returns>num_input_tokens_seen of the last line that is kept; 0 where none has it.</returns>
    public static long KeepBefore(string path, int step)
    {
        long tokens = 0;
        AtomicFile.Write(path, stream =>
        {
            using StreamReader reader = new(path);
            using StreamWriter writer = new(stream, leaveOpen: true) { NewLine = "\n" };
            while (reader.ReadLine() is { } line)
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
