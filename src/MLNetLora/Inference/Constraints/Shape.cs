using System.Text.Json;

namespace MLNetLora.Inference.Constraints;

/// <summary>The types of JSON Schema.</summary>
[Flags]
internal enum JsonTypes
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>null.</summary>
    Null = 1,

    /// <summary>true and false.</summary>
    Boolean = 2,

    /// <summary>Objects.</summary>
    Object = 4,

    /// <summary>Arrays.</summary>
    Array = 8,

    /// <summary>Numbers that are integers.</summary>
    Integer = 16,

    /// <summary>Numbers that are none.</summary>
    Fraction = 32,

    /// <summary>Strings.</summary>
    String = 64,

    /// <summary>All numbers.</summary>
    Number = Integer | Fraction,

    /// <summary>All.</summary>
    Any = Null | Boolean | Object | Array | Number | String,
}

/// <summary>All that schemas say of one value, without alternatives: several schemas that hold together are one shape.</summary>
internal sealed record Shape
{
    /// <summary>Where the first of the schemas stands.</summary>
    public required string Pointer { get; init; }

    /// <summary>What type says.</summary>
    public JsonTypes Types { get; init; } = JsonTypes.Any;

    /// <summary>The types that other keywords speak of: meant where no type is given.</summary>
    public JsonTypes SpokenOf { get; init; }

    /// <summary>The values of enum and const; null for any.</summary>
    public IReadOnlyList<JsonElement>? Values { get; init; }

    /// <summary>Fewest characters.</summary>
    public int MinLength { get; init; }

    /// <summary>Most characters.</summary>
    public int MaxLength { get; init; } = Term.Unlimited;

    /// <summary>What strings match, each of them.</summary>
    public IReadOnlyList<Pattern> Patterns { get; init; } = [];

    /// <summary>Bounds of numbers.</summary>
    public NumberTerms.Range Range { get; init; }

    /// <summary>What numbers are multiples of.</summary>
    public IReadOnlyList<decimal> Divisors { get; init; } = [];

    /// <summary>The properties that are named, in their order, and what is said of each.</summary>
    public IReadOnlyList<(string Name, IReadOnlyList<Schema> Schemas)> Properties { get; init; } = [];

    /// <summary>The names of properties that must be there.</summary>
    public IReadOnlyList<string> Required { get; init; } = [];

    /// <summary>What is said of properties that are not named; null where nothing is.</summary>
    public IReadOnlyList<Schema>? Others { get; init; }

    /// <summary>Fewest properties, and where that is said.</summary>
    public (int Count, string Pointer) MinProperties { get; init; }

    /// <summary>Most properties, and where that is said.</summary>
    public (int Count, string Pointer) MaxProperties { get; init; } = (int.MaxValue, "");

    /// <summary>What is said of the first items.</summary>
    public IReadOnlyList<IReadOnlyList<Schema>> FirstItems { get; init; } = [];

    /// <summary>What is said of the items behind them; null where nothing is.</summary>
    public IReadOnlyList<Schema>? Items { get; init; }

    /// <summary>Fewest items.</summary>
    public int MinItems { get; init; }

    /// <summary>Most items.</summary>
    public int MaxItems { get; init; } = Term.Unlimited;

    /// <summary>Where uniqueItems is true; null where it is not.</summary>
    public string? UniqueItems { get; init; }

    /// <summary>Whether properties that are not named must not be there, or nothing is said of them although others are named: they are then not
    /// written.</summary>
    public bool IsClosed => Others is null ? Properties.Count > 0 : Others.Any(schema => schema.Element.ValueKind == JsonValueKind.False);

    /// <summary>The types that are written: those that are allowed and, where type does not say which, meant.</summary>
    public JsonTypes Written => Types == JsonTypes.Any && SpokenOf != JsonTypes.None ? SpokenOf : Types;

    /// <summary>How many parts it has.</summary>
    public long Size => 1 + Properties.Sum(property => 1L + property.Schemas.Count) + Required.Count + (Values?.Count ?? 0) + Patterns.Count + Divisors.Count
        + FirstItems.Sum(item => 1L + item.Count) + (Items?.Count ?? 0) + (Others?.Count ?? 0);

    /// <summary>How many parts are looked at for <see cref="And"/>.</summary>
    public long WorkOfAnd(Shape other) => Size + other.Size + ((long)(Values?.Count ?? 0) * (other.Values?.Count ?? 0))
        + ((long)Properties.Count * (other.Others?.Count ?? 0)) + ((long)other.Properties.Count * (Others?.Count ?? 0))
        + ((long)FirstItems.Count * (other.Items?.Count ?? 0)) + ((long)other.FirstItems.Count * (Items?.Count ?? 0));

    /// <summary>What is said of a property; null where it must not be there.</summary>
    public IReadOnlyList<Schema>? Property(string name)
    {
        foreach ((string known, IReadOnlyList<Schema> schemas) in Properties)
        {
            if (known == name)
            {
                return schemas;
            }
        }

        return Others is not null && IsClosed ? null : Others ?? [];
    }

    /// <summary>What both say.</summary>
    public Shape And(Shape other) => this with
    {
        Types = Types & other.Types,
        SpokenOf = SpokenOf | other.SpokenOf,
        Values = Values is null ? other.Values : other.Values is null ? Values : [.. Values.Where(x => other.Values.Any(y => JsonElement.DeepEquals(x, y)))],
        MinLength = Math.Max(MinLength, other.MinLength),
        MaxLength = Math.Min(MaxLength, other.MaxLength),
        Patterns = [.. Patterns, .. other.Patterns],
        Range = Range.And(other.Range),
        Divisors = [.. Divisors, .. other.Divisors],
        Properties = Both(other),
        Required = [.. Required.Union(other.Required)],
        Others = Both(Others, other.Others),
        MinProperties = MinProperties.Count >= other.MinProperties.Count ? MinProperties : other.MinProperties,
        MaxProperties = MaxProperties.Count <= other.MaxProperties.Count ? MaxProperties : other.MaxProperties,
        FirstItems = [.. Enumerable.Range(0, Math.Max(FirstItems.Count, other.FirstItems.Count)).Select(i => Both(Item(i), other.Item(i)) ?? [])],
        Items = Both(Items, other.Items),
        MinItems = Math.Max(MinItems, other.MinItems),
        MaxItems = Math.Min(MaxItems, other.MaxItems),
        UniqueItems = UniqueItems ?? other.UniqueItems,
    };

    private static IReadOnlyList<Schema>? Both(IReadOnlyList<Schema>? x, IReadOnlyList<Schema>? y) => x is null ? y : y is null ? x : [.. x.Union(y)];

    private IReadOnlyList<Schema>? Item(int i) => i < FirstItems.Count ? FirstItems[i] : Items;

    private List<(string Name, IReadOnlyList<Schema> Schemas)> Both(Shape other)
    {
        List<(string, IReadOnlyList<Schema>)> properties = [];
        Dictionary<string, IReadOnlyList<Schema>> others = other.Properties.ToDictionary(property => property.Name, property => property.Schemas);
        foreach ((string name, IReadOnlyList<Schema> schemas) in Properties)
        {
            properties.Add((name, Both(schemas, others.Remove(name, out IReadOnlyList<Schema>? more) ? more : other.Others)!));
        }

        foreach ((string name, IReadOnlyList<Schema> schemas) in other.Properties.Where(property => others.ContainsKey(property.Name)))
        {
            properties.Add((name, Both(schemas, Others)!));
        }

        return properties;
    }
}
