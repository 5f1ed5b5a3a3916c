using System.Numerics;
using System.Text.Json;

namespace MLNetLora.Inference.Constraints;

/// <summary>Sees that no value satisfies two schemas, as the branches of oneOf must be: by types, constants, bounds, and properties that tell objects
/// apart.</summary>
/// <param name="reader">Reads the schemas of properties.</param>
internal sealed class SchemaExclusion(SchemaReader reader)
{
    private const int Deepest = 4;
    private const int NamesForOne = 16; // that are compared as fast as another part is looked at

    private int _depth;

    /// <summary>Whether it is seen that nothing that is written for one satisfies the other.</summary>
    public bool IsApart(Shape x, Shape y)
    {
        if (++_depth > Deepest)
        {
            _depth--;
            return false;
        }

        bool isApart = AreApart(x, y);
        _depth--;
        return isApart;
    }

    private bool AreApart(Shape x, Shape y)
    {
        reader.Spend(1 + (x.Values?.Count ?? 0) + (y.Values?.Count ?? 0));
        if (x.Values is not null && y.Values is not null)
        {
            reader.Spend((long)x.Values.Count * y.Values.Count);
            return !x.Values.Any(value => y.Values.Any(other => JsonElement.DeepEquals(value, other)));
        }

        JsonTypes both = (TypesOf(x, x.Written) & TypesOf(y, y.Types)) | (TypesOf(x, x.Types) & TypesOf(y, y.Written));
        for (JsonTypes rest = both; rest != JsonTypes.None; rest &= rest - 1)
        {
            bool isApart = (JsonTypes)(1 << BitOperations.TrailingZeroCount((int)rest)) switch
            {
                JsonTypes.Integer or JsonTypes.Fraction => x.Values is null && y.Values is null && x.Range.IsApartFrom(y.Range),
                JsonTypes.Object => x.Values is null && y.Values is null && Excludes(x, y) && Excludes(y, x),
                JsonTypes.Array => x.MaxItems < y.MinItems || y.MaxItems < x.MinItems,
                JsonTypes.String => x.MaxLength < y.MinLength || y.MaxLength < x.MinLength,
                _ => false,
            };
            if (!isApart)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Whether no object that is written for one satisfies the other.</summary>
    private bool Excludes(Shape written, Shape other)
    {
        foreach (string name in other.Required)
        {
            reader.Spend(1 + ((written.Required.Count + written.Properties.Count) / NamesForOne));
            if (written.IsClosed && !written.Required.Contains(name) && !written.Properties.Any(property => property.Name == name))
            {
                return true;
            }
        }

        foreach (string name in written.Required)
        {
            reader.Spend(1 + ((written.Properties.Count + other.Properties.Count) / NamesForOne));
            if (other.Property(name) is not { } theirs)
            {
                return true;
            }

            IReadOnlyList<Shape> ours = reader.Read(written.Property(name) ?? []);
            IReadOnlyList<Shape> others = reader.Read(theirs);
            if (ours.All(x => others.All(y => IsApart(x, y))))
            {
                return true;
            }
        }

        return false;
    }

    private static JsonTypes TypesOf(Shape shape, JsonTypes types) => shape.Values is null
        ? types
        : shape.Types & shape.Values.Aggregate(JsonTypes.None, (found, value) => found | SchemaCompiler.TypeOf(value));
}
