using System.Text.Json;

namespace MLNetLora.Inference.Constraints;

/// <summary>Makes the grammar of a JSON schema.</summary>
internal sealed partial class SchemaCompiler
{
    private const int MostRules = 20_000;
    private const int MostConstants = 1000; // that are objects or arrays: each is a state of its own while an answer may be any of them

    private readonly TermStore _store;
    private readonly SchemaReader _reader;
    private readonly ScalarTerms _scalars;
    private readonly Dictionary<string, GrammarNode.Rule> _rules = new(StringComparer.Ordinal);
    private readonly Queue<(GrammarNode.Rule Rule, IReadOnlyList<Schema> Schemas)> _pending = [];
    private readonly GrammarNode _anything;

    private SchemaCompiler(TermStore store, SchemaDocument document, GrammarNode anything)
    {
        (_store, _anything) = (store, anything);
        _reader = new SchemaReader(document);
        _scalars = new ScalarTerms(store);
    }

    /// <summary>The grammar of values.</summary>
    /// <param name="store">Makes the terms.</param>
    /// <param name="document">The schema.</param>
    /// <param name="types">The types that the whole may have.</param>
    /// <exception cref="ConstraintException">The schema is wrong, says what cannot be held to, or is too large.</exception>
    public static GrammarNode Compile(TermStore store, SchemaDocument document, JsonTypes types = JsonTypes.Any)
    {
        SchemaCompiler compiler = new(store, document, JsonNodes.AnyValue());
        GrammarNode root = types == JsonTypes.Any ? compiler.Value([document.Root]) : compiler.Body([document.Root], types);
        compiler.Finish();
        return root;
    }

    /// <summary>The type of a value.</summary>
    public static JsonTypes TypeOf(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Null => JsonTypes.Null,
        JsonValueKind.True or JsonValueKind.False => JsonTypes.Boolean,
        JsonValueKind.Object => JsonTypes.Object,
        JsonValueKind.Array => JsonTypes.Array,
        JsonValueKind.String => JsonTypes.String,
        _ => SchemaKeywords.Number(value) is { } number && number == decimal.Truncate(number) ? JsonTypes.Integer : JsonTypes.Fraction,
    };

    /// <summary>Makes what was referred to.</summary>
    private void Finish()
    {
        while (_pending.TryDequeue(out (GrammarNode.Rule Rule, IReadOnlyList<Schema> Schemas) next))
        {
            next.Rule.Body = Body(next.Schemas);
        }
    }

    private GrammarNode Value(IReadOnlyList<Schema> schemas)
    {
        schemas = [.. schemas.Select(_reader.Follow).Where(schema => !schema.IsAnything).Distinct().OrderBy(schema => schema.Pointer, StringComparer.Ordinal)];
        if (schemas.Count == 0)
        {
            return _anything;
        }

        string key = string.Join('\n', schemas.Select(schema => schema.Pointer));
        if (!_rules.TryGetValue(key, out GrammarNode.Rule? rule))
        {
            if (_rules.Count >= MostRules)
            {
                throw schemas[0].Refused("", $"is one of more than {MostRules} values that the schema speaks of; write it smaller.");
            }

            rule = new GrammarNode.Rule { Pointer = schemas[0].Pointer };
            _rules.Add(key, rule);
            _pending.Enqueue((rule, schemas));
        }

        return rule;
    }

    private GrammarNode Body(IReadOnlyList<Schema> schemas, JsonTypes types = JsonTypes.Any)
    {
        List<GrammarNode> nodes = [];
        foreach (Shape shape in _reader.Read(schemas))
        {
            try
            {
                nodes.Add(Node(shape with { Types = shape.Types & types }));
            }
            catch (ConstraintException e) when (e.Pointer is null)
            {
                throw Schema.Refused(shape.Pointer, $"cannot be held to. {e.Message}", e);
            }
        }

        return JsonNodes.Choice(nodes);
    }

    private GrammarNode Node(Shape shape)
    {
        if (shape.Values is not null)
        {
            return Values(shape);
        }

        List<GrammarNode> nodes = [];
        Term scalars = _scalars.Of(shape);
        if (!scalars.IsEmpty)
        {
            nodes.Add(JsonNodes.Of(scalars));
        }

        if (shape.Written.HasFlag(JsonTypes.Array) && Array(shape) is { } array)
        {
            nodes.Add(array);
        }

        if (shape.Written.HasFlag(JsonTypes.Object) && Object(shape) is { } value)
        {
            nodes.Add(value);
        }

        return JsonNodes.Choice(nodes);
    }

    private GrammarNode Values(Shape shape)
    {
        List<byte[]> scalars = [];
        List<GrammarNode> nodes = [];
        Term strings = _scalars.Of(shape with { Types = JsonTypes.String });
        foreach (JsonElement value in shape.Values!.Where(value => shape.Types.HasFlag(TypeOf(value))))
        {
            if (value.ValueKind is not (JsonValueKind.Object or JsonValueKind.Array))
            {
                if (_scalars.Allows(shape, value, strings))
                {
                    scalars.Add(System.Text.Encoding.UTF8.GetBytes(ScalarTerms.Write(value)));
                }
            }
            else if ((shape.SpokenOf & TypeOf(value)) != JsonTypes.None)
            {
                throw Schema.Refused(shape.Pointer, "has an enum or a const of objects or arrays beside other keywords for them; leave those out.", null);
            }
            else if (nodes.Count == MostConstants)
            {
                throw Schema.Refused(shape.Pointer + "/enum", $"has more than {MostConstants} objects and arrays; write fewer.", null);
            }
            else
            {
                nodes.Add(Constant(value));
            }
        }

        if (scalars.Count > 0)
        {
            nodes.Add(JsonNodes.Of(_store.Literals(scalars.DistinctBy(Convert.ToHexString))));
        }

        return JsonNodes.Choice(nodes);
    }

    private GrammarNode Constant(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Object => JsonNodes.Object(
            [.. value.EnumerateObject().Select(
                property => new JsonNodes.Property(_store.Literal(JsonTerms.Quote(property.Name)), Constant(property.Value), true))],
            JsonTerms.Name,
            null),
        JsonValueKind.Array => JsonNodes.Array([.. value.EnumerateArray().Select(Constant)], null, value.GetArrayLength(), value.GetArrayLength()),
        _ => JsonNodes.Of(_store.Literal(ScalarTerms.Write(value))),
    };

    private GrammarNode? Array(Shape shape)
    {
        if (shape.UniqueItems is { } pointer && shape.MaxItems > 1)
        {
            throw Schema.Refused(pointer, "cannot be held to with more than one item; leave it out, or name in an object what may be there.", null);
        }

        if (shape.MinItems > shape.MaxItems)
        {
            return null;
        }

        // What nothing is said of is not written, if it need not be.
        bool isOpen = shape.Items is not null || shape.FirstItems.Count == 0 || shape.MinItems > shape.FirstItems.Count;
        GrammarNode? others = isOpen ? Value(shape.Items ?? []) : null;
        return JsonNodes.Array([.. shape.FirstItems.Select(Value)], others, shape.MinItems, shape.MaxItems);
    }

    private GrammarNode? Object(Shape shape)
    {
        IReadOnlyList<NamedProperty> properties = Properties(shape);
        bool isOpen = !shape.IsClosed && (shape.Others is not null || properties.Count == 0);
        RequireCounts(shape, properties, isOpen);
        Term others = JsonTerms.String;
        if (isOpen && properties.Count > 0)
        {
            Term names = _store.Literals(properties.Select(property => System.Text.Encoding.UTF8.GetBytes(JsonTerms.Quote(property.Name))));
            others = _store.Intersection(JsonTerms.Name, _store.Complement(names));
        }

        return JsonNodes.Object(
            [.. properties.Select(property => new JsonNodes.Property(
                _store.Literal(JsonTerms.Quote(property.Name)), Value(property.Schemas), property.IsRequired))],
            others,
            isOpen ? Value(shape.Others ?? []) : null);
    }

    /// <summary>The properties that are named, those of required behind the others.</summary>
    private static List<NamedProperty> Properties(Shape shape)
    {
        bool forbidsOthers = shape.Others is not null && shape.IsClosed;
        HashSet<string> missing = [.. shape.Required];
        List<NamedProperty> properties = [.. shape.Properties.Select(property => new NamedProperty(
            property.Name, property.Schemas, missing.Remove(property.Name)))];
        foreach (string name in shape.Required.Where(missing.Contains))
        {
            if (forbidsOthers)
            {
                throw Schema.Refused(shape.Pointer + "/required", $"asks for '{name}', which properties does not name and additionalProperties forbids.", null);
            }

            properties.Add(new NamedProperty(name, shape.Others ?? [], IsRequired: true));
        }

        return properties;
    }

    private static void RequireCounts(Shape shape, IReadOnlyList<NamedProperty> properties, bool isOpen)
    {
        if (shape.MinProperties.Count > properties.Count(property => property.IsRequired))
        {
            throw Schema.Refused(
                shape.MinProperties.Pointer, "asks for more properties than required names, which cannot be held to; name them in required.", null);
        }

        if (isOpen ? shape.MaxProperties.Count != int.MaxValue : shape.MaxProperties.Count < properties.Count)
        {
            throw Schema.Refused(shape.MaxProperties.Pointer, "cannot be held to where more properties may be there; name fewer, and forbid others.", null);
        }
    }

    /// <summary>A property that an object has or may have.</summary>
    private readonly record struct NamedProperty(string Name, IReadOnlyList<Schema> Schemas, bool IsRequired);
}
