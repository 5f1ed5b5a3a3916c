using System.Text.Json;

namespace MLNetLora.Inference.Constraints;

/// <summary>A schema within a document.</summary>
/// <param name="Element">true, false or an object.</param>
/// <param name="Pointer">Where it stands, as a JSON pointer with a # before it.</param>
internal sealed record Schema(JsonElement Element, string Pointer)
{
    /// <summary>Whether it says nothing.</summary>
    public bool IsAnything => Element.ValueKind == JsonValueKind.True
        || (Element.ValueKind == JsonValueKind.Object && Element.EnumerateObject().All(keyword => SchemaKeywords.IsAnnotation(keyword.Name)));

    /// <summary>Where one of its keywords stands.</summary>
    public string At(string keyword) => $"{Pointer}/{Escape(keyword)}";

    /// <summary>A name within a pointer.</summary>
    public static string Escape(string name) => name.Replace("~", "~0", StringComparison.Ordinal).Replace("/", "~1", StringComparison.Ordinal);

    /// <summary>An error at one of its keywords.</summary>
    public ConstraintException Refused(string keyword, string what) => Refused(At(keyword), what, null);

    /// <summary>An error at a place of a schema.</summary>
    public static ConstraintException Refused(string pointer, string what, Exception? inner) => new($"{pointer} {what}", inner) { Pointer = pointer };
}

/// <summary>The document of a schema: finds what $ref names.</summary>
internal sealed class SchemaDocument
{
    private const int LongestText = 1 << 20;
    private const int DeepestText = 256;
    private const long MostPointers = 1 << 24; // characters of all of them: those inside of a long name repeat it

    private readonly Dictionary<string, Schema> _schemas = new(StringComparer.Ordinal);
    private readonly string? _id;
    private Dictionary<string, string>? _anchors;
    private long _pointers;

    private SchemaDocument(JsonElement root)
    {
        Root = new Schema(root, "#");
        _schemas["#"] = Root;
        _id = root.ValueKind == JsonValueKind.Object && root.TryGetProperty("$id", out JsonElement id) && id.ValueKind == JsonValueKind.String
            ? id.GetString()!.TrimEnd('#')
            : null;
    }

    /// <summary>The whole.</summary>
    public Schema Root { get; }

    /// <summary>Reads a document.</summary>
    /// <exception cref="ConstraintException">It is no JSON, or too large.</exception>
    public static SchemaDocument Read(string json)
    {
        if (json.Length > LongestText)
        {
            throw Schema.Refused("#", $"has {json.Length} characters; a schema may have {LongestText}.", null);
        }

        try
        {
            using JsonDocument document = JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = DeepestText });
            RequireText(document.RootElement);
            return new SchemaDocument(document.RootElement.Clone());
        }
        catch (JsonException e)
        {
            throw Schema.Refused("#", $"is not JSON, or nests deeper than {DeepestText}: {e.Message}", e);
        }
    }

    /// <summary>The schema of a keyword.</summary>
    public Schema Child(Schema schema, string keyword) => Keep(schema.Element.GetProperty(keyword), schema.At(keyword));

    /// <summary>The schemas of a keyword that has a list of them.</summary>
    public IReadOnlyList<Schema> List(Schema schema, string keyword)
    {
        JsonElement list = schema.Element.GetProperty(keyword);
        return list.ValueKind == JsonValueKind.Array
            ? [.. list.EnumerateArray().Select((element, i) => Keep(element, $"{schema.At(keyword)}/{i}"))]
            : throw schema.Refused(keyword, "must be an array of schemas.");
    }

    /// <summary>The schemas of a keyword that has one for each name, in their order.</summary>
    public IReadOnlyList<(string Name, Schema Schema)> Map(Schema schema, string keyword)
    {
        JsonElement map = schema.Element.GetProperty(keyword);
        if (map.ValueKind != JsonValueKind.Object)
        {
            throw schema.Refused(keyword, "must be an object of schemas.");
        }

        Dictionary<string, Schema> found = new(StringComparer.Ordinal); // of a name that is there twice, readers take the last
        foreach (JsonProperty property in map.EnumerateObject())
        {
            found[property.Name] = Keep(property.Value, $"{schema.At(keyword)}/{Schema.Escape(property.Name)}");
        }

        return [.. found.Select(pair => (pair.Key, pair.Value))];
    }

    /// <summary>What a $ref names.</summary>
    /// <exception cref="ConstraintException">It is not in this document.</exception>
    public Schema Resolve(Schema schema)
    {
        JsonElement element = schema.Element.GetProperty("$ref");
        string reference = element.ValueKind == JsonValueKind.String ? element.GetString()! : throw schema.Refused("$ref", "must be a string.");
        if (_id is not null && reference.StartsWith(_id, StringComparison.Ordinal) && (reference.Length == _id.Length || reference[_id.Length] == '#'))
        {
            reference = reference.Length == _id.Length ? "#" : reference[_id.Length..];
        }

        if (!reference.StartsWith('#'))
        {
            throw schema.Refused("$ref", $"names '{reference}', which is outside of this document; bring it in, under $defs.");
        }

        string path = Uri.UnescapeDataString(reference[1..]);
        if (path.Length > 0 && path[0] != '/')
        {
            path = (_anchors ??= Anchors()).GetValueOrDefault(path) ?? throw Missing();
        }

        string pointer = "#" + path;
        if (_schemas.TryGetValue(pointer, out Schema? known))
        {
            return known;
        }

        JsonElement at = Root.Element;
        foreach (string part in path.Split('/').Skip(1))
        {
            string name = part.Replace("~1", "/", StringComparison.Ordinal).Replace("~0", "~", StringComparison.Ordinal);
            bool isFound = at.ValueKind switch
            {
                JsonValueKind.Object => at.TryGetProperty(name, out at),
                JsonValueKind.Array => int.TryParse(name, out int index) && index >= 0 && index < at.GetArrayLength() && (at = at[index]).ValueKind >= 0,
                _ => false,
            };
            if (!isFound)
            {
                throw Missing();
            }
        }

        return Keep(at, pointer);

        ConstraintException Missing() => schema.Refused("$ref", $"names '{reference}', which is not in the schema.");
    }

    /// <summary>Throws where a text cannot be read.</summary>
    /// <exception cref="ConstraintException">One has half of a surrogate pair.</exception>
    public static void RequireText(JsonElement element)
    {
        try
        {
            ReadText(element);
        }
        catch (InvalidOperationException e)
        {
            throw Schema.Refused("#", @"has a text with half of a surrogate pair (\uD83D without \uDE00).", e);
        }
    }

    private static void ReadText(JsonElement element)
    {
        switch (element.ValueKind)
        {
            case JsonValueKind.String:
                _ = element.GetString();
                break;
            case JsonValueKind.Array:
                foreach (JsonElement item in element.EnumerateArray())
                {
                    ReadText(item);
                }

                break;
            case JsonValueKind.Object:
                foreach (JsonProperty property in element.EnumerateObject())
                {
                    _ = property.Name;
                    ReadText(property.Value);
                }

                break;
        }
    }

    private Schema Keep(JsonElement element, string pointer)
    {
        if (!_schemas.TryGetValue(pointer, out Schema? schema))
        {
            if (element.ValueKind is not (JsonValueKind.True or JsonValueKind.False or JsonValueKind.Object))
            {
                throw Schema.Refused(pointer, "must be a schema: an object, true or false.", null);
            }

            Count(pointer);
            _schemas[pointer] = schema = new Schema(element, pointer);
        }

        return schema;
    }

    private void Count(string pointer)
    {
        _pointers += pointer.Length;
        if (_pointers > MostPointers)
        {
            throw Schema.Refused("#", "has long names around too many schemas; shorten the names.", null);
        }
    }

    private Dictionary<string, string> Anchors()
    {
        Dictionary<string, string> anchors = new(StringComparer.Ordinal);
        Find(Root.Element, "");
        return anchors;

        void Find(JsonElement element, string path)
        {
            Count(path);
            if (element.ValueKind == JsonValueKind.Array)
            {
                foreach ((int i, JsonElement item) in element.EnumerateArray().Index())
                {
                    Find(item, $"{path}/{i}");
                }
            }
            else if (element.ValueKind == JsonValueKind.Object)
            {
                foreach (JsonProperty property in element.EnumerateObject())
                {
                    if (property is { Name: "$anchor", Value.ValueKind: JsonValueKind.String })
                    {
                        anchors.TryAdd(property.Value.GetString()!, path);
                    }

                    Find(property.Value, $"{path}/{Schema.Escape(property.Name)}");
                }
            }
        }
    }
}
