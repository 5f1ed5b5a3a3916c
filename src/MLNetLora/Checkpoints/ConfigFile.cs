using System.Text.Json;

namespace MLNetLora.Checkpoints;

/// <summary>
/// A JSON object of a checkpoint folder, such as config.json, read once. A field that is absent or null is not there; one of another type, or outside its
/// bounds, is a <see cref="CheckpointException"/> that names file and field.
/// </summary>
internal sealed class ConfigFile
{
    private const int MaximumBytes = 32 << 20; // the index of a checkpoint with 100,000 tensors has about 10 MB
    private const int ShownCharacters = 100;

    private readonly string _prefix;

    private ConfigFile(string path, JsonElement root, string prefix = "")
    {
        Path = path;
        Root = root;
        _prefix = prefix;
    }

    /// <summary>The file.</summary>
    public string Path { get; }

    /// <summary>The object.</summary>
    public JsonElement Root { get; }

    /// <summary>Reads a file.</summary>
    /// <exception cref="CheckpointException">It is missing, larger than any such file, not JSON or not an object.</exception>
    public static ConfigFile Open(string path)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(ReadText(path));
            return document.RootElement.ValueKind == JsonValueKind.Object
                ? new ConfigFile(path, document.RootElement.Clone())
                : throw new CheckpointException($"{path} is not a JSON object.");
        }
        catch (JsonException e)
        {
            throw new CheckpointException(NotSafetensors.Of(path) is { } what ? $"{path} {what}" : $"{path} is not valid JSON: {e.Message}", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException(
                $"{path} cannot be read ({e.Message}); a checkpoint folder has config.json, *.safetensors and tokenizer files.", e);
        }
    }

    /// <summary>Reads a file that not every checkpoint has; null where there is none.</summary>
    public static ConfigFile? OpenIfThere(string path) => File.Exists(path) ? Open(path) : null;

    /// <summary>An object inside this one; null where it is not there.</summary>
    public ConfigFile? Section(string field) => Value(field) switch
    {
        null => null,
        { ValueKind: JsonValueKind.Object } section => new ConfigFile(Path, section, $"{_prefix}{field}."),
        { } value => throw Wrong(field, value, "an object in braces"),
    };

    /// <summary>Text; null where it is not there.</summary>
    public string? Text(string field) => Value(field) switch
    {
        null => null,
        { ValueKind: JsonValueKind.String } text => Unescaped(field, text),
        { } value => throw Wrong(field, value, "text in quotes"),
    };

    /// <summary>A list of texts; null where it is not there.</summary>
    /// <param name="field">Its name.</param>
    /// <param name="most">More than any model has.</param>
    public IReadOnlyList<string>? Texts(string field, int most) => Value(field) switch
    {
        null => null,
        { ValueKind: JsonValueKind.Array } list
            when list.GetArrayLength() <= most && list.EnumerateArray().All(text => text.ValueKind == JsonValueKind.String) =>
            [.. list.EnumerateArray().Select(text => Unescaped(field, text))],
        { } value => throw Wrong(field, value, $"a list of at most {most} texts in quotes"),
    };

    /// <summary>true or false.</summary>
    /// <param name="field">Its name.</param>
    /// <param name="otherwise">What it is where it is not there.</param>
    public bool Flag(string field, bool otherwise = false) => Value(field) switch
    {
        null => otherwise,
        { ValueKind: JsonValueKind.False } => false,
        { ValueKind: JsonValueKind.True } => true,
        { } value => throw Wrong(field, value, "true or false"),
    };

    /// <summary>A whole number that must be there.</summary>
    /// <param name="field">Its name.</param>
    /// <param name="maximum">More than any model has.</param>
    public int Int(string field, int maximum) =>
        OptionalInt(field, maximum) ?? throw new CheckpointException($"{Path} has no {_prefix}{field}.");

    /// <summary>A whole number; null where it is not there.</summary>
    /// <param name="field">Its name.</param>
    /// <param name="maximum">More than any model has.</param>
    /// <param name="minimum">The least that makes sense.</param>
    public int? OptionalInt(string field, int maximum, int minimum = 1) => Value(field) switch
    {
        null => null,
        { ValueKind: JsonValueKind.Number } value when value.TryGetInt32(out int number) && number >= minimum && number <= maximum => number,
        { } value => throw Wrong(field, value, $"a whole number of at least {minimum} and at most {maximum}"),
    };

    /// <summary>A finite number; null where it is not there.</summary>
    /// <param name="field">Its name.</param>
    /// <param name="allowed">Which numbers make sense.</param>
    /// <param name="what">The same in words, for the message.</param>
    public double? Number(string field, Func<double, bool> allowed, string what) => Value(field) switch
    {
        null => null,
        { ValueKind: JsonValueKind.Number } value when value.TryGetDouble(out double number) && double.IsFinite(number) && allowed(number) => number,
        { } value => throw Wrong(field, value, what),
    };

    /// <summary>A finite number above 0; null where it is not there.</summary>
    public double? Positive(string field) => Number(field, number => number > 0, "a number above 0");

    /// <summary>What stands at a field; null where nothing or null stands there.</summary>
    public JsonElement? Value(string field) => Find(field) is { ValueKind: not JsonValueKind.Null } value ? value : null;

    /// <summary>Whether a field is there, be it null.</summary>
    public bool Has(string field) => Find(field) is not null;

    /// <summary>Throws where a field does not go with others.</summary>
    /// <param name="condition">Whether it does.</param>
    /// <param name="field">Its name.</param>
    /// <param name="what">What it must be.</param>
    public void Require(bool condition, string field, string what)
    {
        if (!condition)
        {
            throw Value(field) is { } value ? Wrong(field, value, what) : new CheckpointException($"{Path} has no {_prefix}{field}; it must be {what}.");
        }
    }

    private JsonElement? Find(string field)
    {
        try
        {
            return Root.TryGetProperty(field, out JsonElement value) ? value : null;
        }
        catch (InvalidOperationException e) // a name with half a surrogate pair
        {
            throw new CheckpointException($"{Path} is not valid JSON: {e.Message}", e);
        }
    }

    private string Unescaped(string field, JsonElement text)
    {
        try
        {
            return text.GetString()!;
        }
        catch (InvalidOperationException) // half a surrogate pair
        {
            throw Wrong(field, text, "text in quotes");
        }
    }

    private CheckpointException Wrong(string field, JsonElement value, string what)
    {
        string found = value.GetRawText();
        found = found.Length > ShownCharacters ? found[..ShownCharacters] + "…" : found;
        return new CheckpointException($"{Path}: {_prefix}{field} is {found}; it must be {what}. Correct the file or take it from the model's source again.");
    }

    private static string ReadText(string path)
    {
        return BoundedFile.ReadText(path, MaximumBytes) ?? throw new CheckpointException(NotSafetensors.Of(path) is { } what
            ? $"{path} {what}"
            : $"{path} has more than {MaximumBytes} bytes; no such file has. Take it from the model's source again.");
    }
}
