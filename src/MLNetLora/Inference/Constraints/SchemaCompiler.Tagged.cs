using System.Text;
using System.Text.Json;
using MLNetLora.Text;

namespace MLNetLora.Inference.Constraints;

/// <content>The arguments of calls that are written in tags.</content>
internal sealed partial class SchemaCompiler
{
    private Term? _tagText;

    /// <summary>The grammar of arguments, each in tags, in the order of the schema; those that it does not name only where additionalProperties says what
    /// they are.</summary>
    /// <param name="store">Makes the terms.</param>
    /// <param name="document">The schema of the arguments.</param>
    /// <exception cref="ConstraintException">The schema is wrong, says what cannot be held to, or is too large.</exception>
    public static GrammarNode CompileTagged(TermStore store, SchemaDocument document)
    {
        SchemaCompiler compiler = new(store, document, JsonNodes.AnyValue());
        List<GrammarNode> nodes = [];
        foreach (Shape shape in compiler._reader.Read([document.Root]).Where(shape => shape.Written.HasFlag(JsonTypes.Object)))
        {
            if (shape.Values is not null)
            {
                throw Schema.Refused(shape.Pointer, "has an enum or a const of whole arguments, which calls in tags cannot be held to; leave it out.", null);
            }

            nodes.Add(compiler.Tagged(shape, document.Root.Element));
        }

        compiler.Finish();
        return JsonNodes.Choice(nodes);
    }

    /// <summary>Throws where a name cannot stand in a tag.</summary>
    /// <param name="name">A function's, or a parameter's.</param>
    /// <exception cref="ConstraintException">It holds what ends it.</exception>
    public static void RequireTagName(string name)
    {
        if (name.Length == 0 || name.AsSpan().ContainsAny("<>\r\n") || name.Trim().Length != name.Length)
        {
            throw new ConstraintException(
                $"'{name}' is no name that a call in tags can have, as this checkpoint's template asks for: it is empty, holds <, > or a line break, or has "
                + "white space around it. Rename it.");
        }
    }

    private GrammarNode Tagged(Shape shape, JsonElement root)
    {
        List<GrammarNode> parts = [];
        IReadOnlyList<NamedProperty> properties = Properties(shape);
        bool isOpen = !shape.IsClosed && shape.Others is not null;
        RequireCounts(shape, properties, isOpen);
        foreach (NamedProperty property in properties)
        {
            RequireTagName(property.Name);
            _reader.Spend(1 + properties.Count); // its schema is looked for by its name
            GrammarNode parameter = Parameter(_store.Literal(property.Name), TagValue(root, property));
            parts.Add(property.IsRequired ? parameter : new GrammarNode.Repeat(parameter, 0, 1));
        }

        if (isOpen)
        {
            CharacterSet letters = CharacterSet.Of("_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
            Term name = _store.Sequence(
                letters.Utf8(_store), _store.Repeat(letters.Or(CharacterSet.Of("0123456789.-")).Utf8(_store), 0, Term.Unlimited));
            Term named = _store.Literals(properties.Select(property => Encoding.UTF8.GetBytes(property.Name)));
            GrammarNode parameter = Parameter(
                _store.Intersection(name, _store.Complement(named)), TagValue(root, new NamedProperty("", shape.Others!, IsRequired: false)));
            parts.Add(new GrammarNode.Repeat(parameter, 0, Term.Unlimited));
        }

        return parts.Count == 0 ? JsonNodes.Of(TermStore.Epsilon) : JsonNodes.Sequence([.. parts]);
    }

    private GrammarNode Parameter(Term name, GrammarNode value) => JsonNodes.Sequence(
        JsonNodes.Of(_store.Sequence(_store.Literal(ToolCallTags.Parameter), name, _store.Literal(">\n"))),
        value,
        JsonNodes.Of(_store.Literal($"\n{ToolCallTags.ParameterEnd}\n")));

    /// <summary>A value, written as <see cref="TaggedValue"/> says.</summary>
    private GrammarNode TagValue(JsonElement root, NamedProperty property)
    {
        if (property.Schemas.Select(_reader.Follow).All(schema => schema.IsAnything))
        {
            return JsonNodes.Of(TagText);
        }

        JsonElement? schema = TaggedValue.Schema(root, property.Name);
        if (!TaggedValue.Names(root, schema, JsonTypes.String))
        {
            return Value(property.Schemas);
        }

        List<Term> parts = [];
        foreach (Shape shape in _reader.Read(property.Schemas))
        {
            try
            {
                parts.Add(_store.Intersection(_scalars.Unquoted(shape), TagText));
            }
            catch (ConstraintException e) when (e.Pointer is null)
            {
                throw Schema.Refused(shape.Pointer, $"cannot be held to. {e.Message}", e);
            }
        }

        if (TaggedValue.Names(root, schema, JsonTypes.Null))
        {
            parts.Add(JsonTerms.Null);
        }

        return JsonNodes.Of(_store.Union(parts));
    }

    /// <summary>Any text that ends neither the parameter nor the call.</summary>
    private Term TagText => _tagText ??= _store.Intersection(
        _store.Repeat(CharacterSet.All.Utf8(_store), 0, Term.Unlimited),
        JsonTerms.Without(_store, ToolCallTags.ParameterEnd),
        JsonTerms.Without(_store, ToolCallTags.Close));
}
