using System.Text.Json;

namespace MLNetLora.Inference.Constraints;

/// <summary>Reads what schemas say into shapes: one for each alternative.</summary>
/// <param name="document">The document that the schemas stand in.</param>
internal sealed class SchemaReader(SchemaDocument document)
{
    private const int MostAlternatives = 256;
    private const int DeepestReference = 64;

    /// <summary>Keywords, properties and constants that may be looked at for one document: about a second.</summary>
    private const long MostWork = 10_000_000;

    private long _work;

    /// <summary>What schemas say together: each value that satisfies all of them is of one of the shapes.</summary>
    public IReadOnlyList<Shape> Read(IReadOnlyList<Schema> schemas)
    {
        List<Shape> shapes = [new Shape { Pointer = schemas.Count == 0 ? "#" : schemas[0].Pointer }];
        foreach (Schema schema in schemas)
        {
            shapes = And(shapes, schema, []);
        }

        return shapes;
    }

    /// <summary>Counts work.</summary>
    /// <param name="work">Parts that are looked at.</param>
    /// <exception cref="ConstraintException">It is too much.</exception>
    public void Spend(long work)
    {
        _work += work;
        if (_work > MostWork)
        {
            throw new ConstraintException(
                "The schema combines or compares too many properties and constants in allOf, anyOf, oneOf and $ref; write it with fewer of them.");
        }
    }

    /// <summary>The schema itself, or what it refers to where it does nothing else.</summary>
    public Schema Follow(Schema schema)
    {
        HashSet<Schema> seen = [];
        while (schema.Element.ValueKind == JsonValueKind.Object && schema.Element.TryGetProperty("$ref", out _)
            && schema.Element.EnumerateObject().All(keyword => keyword.Name == "$ref" || SchemaKeywords.IsAnnotation(keyword.Name)))
        {
            if (!seen.Add(schema))
            {
                throw schema.Refused("$ref", "leads back to itself, so that it says nothing; remove it.");
            }

            schema = document.Resolve(schema);
        }

        return schema;
    }

    private List<Shape> And(List<Shape> shapes, Schema schema, HashSet<Schema> within)
    {
        if (schema.Element.ValueKind != JsonValueKind.Object)
        {
            return schema.Element.ValueKind == JsonValueKind.True ? shapes : [];
        }

        Spend(1 + schema.Element.GetPropertyCount());
        SchemaKeywords.RequireKnown(schema);
        if (!within.Add(schema) || within.Count > DeepestReference)
        {
            throw schema.Refused("$ref", "leads back to itself without an object or an array between, or through too many others; remove it.");
        }

        Shape own = Own(schema);
        Spend(own.Size * (1 + (schema.Pointer.Length / 64)));
        shapes.ForEach(shape => Spend(shape.WorkOfAnd(own)));
        shapes = [.. shapes.Select(shape => shape.And(own))];
        JsonElement keywords = schema.Element;
        if (keywords.TryGetProperty("$ref", out _))
        {
            shapes = And(shapes, document.Resolve(schema), within);
        }

        if (keywords.TryGetProperty("allOf", out _))
        {
            foreach (Schema part in document.List(schema, "allOf"))
            {
                shapes = And(shapes, part, within);
            }
        }

        shapes = AndAny(shapes, schema, "anyOf", within);
        shapes = AndAny(shapes, schema, "oneOf", within);
        if (keywords.TryGetProperty("unevaluatedProperties", out _))
        {
            // Of what the schema says all is known here, if nothing around it says more.
            if (within.Count > 1)
            {
                throw schema.Refused("unevaluatedProperties", "is held to at the top of a value's schema only, not inside of allOf, anyOf, oneOf or $ref.");
            }

            IReadOnlyList<Schema> others = [document.Child(schema, "unevaluatedProperties")];
            shapes = [.. shapes.Select(shape => shape with { Others = shape.Others ?? others, SpokenOf = shape.SpokenOf | JsonTypes.Object })];
        }

        within.Remove(schema);
        return shapes;
    }

    private List<Shape> AndAny(List<Shape> shapes, Schema schema, string keyword, HashSet<Schema> within)
    {
        if (!schema.Element.TryGetProperty(keyword, out _))
        {
            return shapes;
        }

        List<List<Shape>> branches = [];
        int alternatives = 0;
        foreach (Schema branch in document.List(schema, keyword))
        {
            branches.Add(And(shapes, branch, within));
            alternatives += branches[^1].Count;
            if (alternatives > MostAlternatives)
            {
                throw schema.Refused(keyword, $"makes more than {MostAlternatives} alternatives together with what stands around it; write fewer.");
            }
        }

        if (keyword == "oneOf")
        {
            SchemaExclusion exclusion = new(this);
            for (int i = 0; i < branches.Count; i++)
            {
                Spend(branches.Count);
                int other = branches.FindIndex(i + 1, others => !branches[i].All(x => others.TrueForAll(y => exclusion.IsApart(x, y))));
                if (other >= 0)
                {
                    throw schema.Refused(
                        keyword,
                        $"has branches {i} and {other}, of which it is not seen that no value satisfies both; write anyOf, or give both a required property "
                        + "with different const.");
                }
            }
        }

        return [.. branches.SelectMany(branch => branch)];
    }

    /// <summary>What a schema says itself, without the schemas that it combines.</summary>
    private Shape Own(Schema schema)
    {
        JsonElement keywords = schema.Element;
        Shape shape = new()
        {
            Pointer = schema.Pointer,
            Types = Types(schema),
            MinLength = SchemaKeywords.Count(schema, "minLength") ?? 0,
            MaxLength = SchemaKeywords.Count(schema, "maxLength") ?? Term.Unlimited,
            Patterns = [.. Patterns(schema)],
            Range = Range(schema),
            Divisors = SchemaKeywords.Number(schema, "multipleOf") is not { } divisor ? []
                : divisor > 0 ? [divisor] : throw schema.Refused("multipleOf", "must be above 0."),
            Required = Required(schema),
            Properties = keywords.TryGetProperty("properties", out _)
                ? [.. document.Map(schema, "properties").Select(property => (property.Name, (IReadOnlyList<Schema>)[property.Schema]))]
                : [],
            Others = keywords.TryGetProperty("additionalProperties", out _) ? [document.Child(schema, "additionalProperties")] : null,
            MinProperties = (SchemaKeywords.Count(schema, "minProperties") ?? 0, schema.At("minProperties")),
            MaxProperties = (SchemaKeywords.Count(schema, "maxProperties") ?? int.MaxValue, schema.At("maxProperties")),
            MinItems = SchemaKeywords.Count(schema, "minItems") ?? 0,
            MaxItems = SchemaKeywords.Count(schema, "maxItems") ?? Term.Unlimited,
            UniqueItems = SchemaKeywords.Flag(schema, "uniqueItems") ? schema.At("uniqueItems") : null,
            Values = Values(schema),
        };
        string? first = keywords.TryGetProperty("prefixItems", out _) ? "prefixItems"
            : keywords.TryGetProperty("items", out JsonElement list) && list.ValueKind == JsonValueKind.Array ? "items" // up to draft 2019-09
            : null;
        string items = first == "items" ? "additionalItems" : "items";
        shape = shape with
        {
            FirstItems = first is null ? [] : [.. document.List(schema, first).Select(item => (IReadOnlyList<Schema>)[item])],
            Items = keywords.TryGetProperty(items, out _) ? [document.Child(schema, items)] : null,
        };
        return shape with { SpokenOf = SpokenOf(shape) };
    }

    private static JsonTypes SpokenOf(Shape shape)
    {
        JsonTypes types = JsonTypes.None;
        types |= shape.MinLength > 0 || shape.MaxLength != Term.Unlimited || shape.Patterns.Count > 0 ? JsonTypes.String : 0;
        types |= shape.Range.IsBounded || shape.Divisors.Count > 0 ? JsonTypes.Number : 0;
        types |= shape.Required.Count > 0 || shape.Properties.Count > 0 || shape.Others is not null || shape.MinProperties.Count > 0
            || shape.MaxProperties.Count != int.MaxValue ? JsonTypes.Object : 0;
        types |= shape.FirstItems.Count > 0 || shape.Items is not null || shape.MinItems > 0 || shape.MaxItems != Term.Unlimited
            || shape.UniqueItems is not null ? JsonTypes.Array : 0;
        return types;
    }

    private static JsonTypes Types(Schema schema)
    {
        if (!schema.Element.TryGetProperty("type", out JsonElement type))
        {
            return JsonTypes.Any;
        }

        JsonElement[] names = type.ValueKind == JsonValueKind.Array ? [.. type.EnumerateArray()] : [type];
        return names.Aggregate(JsonTypes.None, (types, name) => types | (name.ValueKind == JsonValueKind.String ? name.GetString() : null) switch
        {
            "null" => JsonTypes.Null,
            "boolean" => JsonTypes.Boolean,
            "object" => JsonTypes.Object,
            "array" => JsonTypes.Array,
            "integer" => JsonTypes.Integer,
            "number" => JsonTypes.Number,
            "string" => JsonTypes.String,
            _ => throw schema.Refused("type", "must be null, boolean, object, array, integer, number, string, or an array of these."),
        });
    }

    private static IEnumerable<Pattern> Patterns(Schema schema)
    {
        if (SchemaKeywords.Text(schema, "pattern") is { } pattern)
        {
            Pattern parsed;
            try
            {
                parsed = new PatternParser(pattern).Search();
            }
            catch (ConstraintException e)
            {
                throw Schema.Refused(schema.At("pattern"), $"is refused. {e.Message}", e);
            }

            yield return parsed;
        }

        if (SchemaKeywords.Text(schema, "format") is { } name && StringFormats.Of(schema, name) is { } format)
        {
            yield return format;
        }
    }

    private static NumberTerms.Range Range(Schema schema)
    {
        NumberTerms.Range range = new(SchemaKeywords.Number(schema, "minimum"), Draft4("exclusiveMinimum"), SchemaKeywords.Number(schema, "maximum"),
            Draft4("exclusiveMaximum"));
        NumberTerms.Range excluded = new(Bound("exclusiveMinimum"), true, Bound("exclusiveMaximum"), true);
        return range.And(excluded);

        // Up to draft 4 it was a flag beside the bound.
        bool Draft4(string keyword) => schema.Element.TryGetProperty(keyword, out JsonElement value) && value.ValueKind == JsonValueKind.True;

        decimal? Bound(string keyword) => schema.Element.TryGetProperty(keyword, out JsonElement value)
            && value.ValueKind is JsonValueKind.True or JsonValueKind.False ? null : SchemaKeywords.Number(schema, keyword);
    }

    private static IReadOnlyList<string> Required(Schema schema)
    {
        if (!schema.Element.TryGetProperty("required", out JsonElement required))
        {
            return [];
        }

        return required.ValueKind == JsonValueKind.Array && required.EnumerateArray().All(name => name.ValueKind == JsonValueKind.String)
            ? [.. required.EnumerateArray().Select(name => name.GetString()!).Distinct()]
            : throw schema.Refused("required", "must be an array of names.");
    }

    private static IReadOnlyList<JsonElement>? Values(Schema schema)
    {
        IReadOnlyList<JsonElement>? values = null;
        if (schema.Element.TryGetProperty("enum", out JsonElement list))
        {
            values = list.ValueKind == JsonValueKind.Array ? [.. list.EnumerateArray()] : throw schema.Refused("enum", "must be an array of values.");
        }

        if (schema.Element.TryGetProperty("const", out JsonElement value))
        {
            values = values is null || values.Any(other => JsonElement.DeepEquals(other, value)) ? [value] : [];
        }

        return values;
    }
}
