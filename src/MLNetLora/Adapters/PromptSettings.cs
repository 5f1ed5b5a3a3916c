using System.Text.Json;
using System.Text.Json.Serialization;
using MLNetLora.Checkpoints;

namespace MLNetLora.Adapters;

/// <summary>What an adapter was trained to be asked with: belongs to the adapter as its rank does, because asked otherwise it answers otherwise.</summary>
/// <param name="SystemPrompt">The system message of conversations without their own; null for the checkpoint's default, empty for none.</param>
/// <param name="PromptTemplate">
/// What the user's message of instruction rows is made of, such as <c>Answer briefly: {instruction}</c>; <c>{input}</c> stands for the input, which
/// otherwise follows the instruction on a new line. Null for the instruction itself.
/// </param>
/// <param name="EnableThinking">
/// The chat template's enable_thinking, where it reads one (Qwen3). Null leaves it unsaid when a checkpoint is asked that nobody trained; in training
/// it is false where no answer of the data thinks, else true.
/// </param>
public sealed record PromptSettings(string? SystemPrompt = null, string? PromptTemplate = null, bool? EnableThinking = null)
{
    internal const string FileName = "mlnetlora_prompt.json";
    private const int MaximumBytes = 1 << 20;

    private static readonly JsonSerializerOptions s_json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        WriteIndented = true,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>Writes mlnetlora_prompt.json among the files of an adapter or of a merged checkpoint; where nothing is set, no file stays there. PEFT
    /// does not look at it.</summary>
    internal void Save(FileSet files)
    {
        if (this == new PromptSettings())
        {
            files.Remove(FileName);
        }
        else
        {
            files.WriteText(FileName, JsonSerializer.Serialize(this, s_json));
        }
    }

    /// <summary>Reads it from such a folder; without the file, nothing is set.</summary>
    /// <exception cref="AdapterException">The file is not valid.</exception>
    internal static PromptSettings Load(string folder)
    {
        string path = Path.Combine(folder, FileName);
        if (!File.Exists(path))
        {
            return new PromptSettings();
        }

        try
        {
            ReadOnlyMemory<byte> bytes = BoundedFile.Read(path, MaximumBytes)
                ?? throw new AdapterException($"{path} has more than {MaximumBytes} bytes; it is refused. Save the adapter again.");
            PromptSettings settings = JsonSerializer.Deserialize<PromptSettings>(bytes.Span, s_json) ?? throw new JsonException("it is null");
            return settings.PromptTemplate?.Contains("{instruction}", StringComparison.Ordinal) == false
                ? throw new JsonException("prompt_template does not contain {instruction}")
                : settings;
        }
        catch (Exception error) when (error is JsonException or IOException or UnauthorizedAccessException)
        {
            throw new AdapterException($"{path} cannot be used: {error.Message} Save the adapter again, or delete the file to ask without it.", error);
        }
    }
}
