using Microsoft.ML;
using Microsoft.ML.Data;

namespace MLNetLora.TextGeneration;

/// <summary>Finds text columns in a schema, and says which column and which option is meant when one is missing or of another type.</summary>
internal static class TextColumns
{
    /// <summary>The column, or an <see cref="ArgumentOutOfRangeException"/> (ML.NET's kind for a schema mismatch) that names it and the columns that exist.</summary>
    public static DataViewSchema.Column Require(DataViewSchema schema, string name, string option) =>
        Find(schema, name, option) ?? throw Missing(name, option, schema.Where(column => !column.IsHidden).Select(column => column.Name));

    /// <summary>The column, or null when the schema has none of that name; throws when it is there but is not text.</summary>
    public static DataViewSchema.Column? Find(DataViewSchema schema, string? name, string option)
    {
        if (name is null || schema.GetColumnOrNull(name) is not { } column)
        {
            return null;
        }

        return column.Type is TextDataViewType ? column : throw NotText(name, option, column.Type.ToString()!);
    }

    /// <summary>As <see cref="Require(DataViewSchema, string, string)"/>, for the schema shape of a pipeline that is not fitted yet.</summary>
    public static void Require(SchemaShape shape, string name, string option)
    {
        if (!CheckType(shape, name, option))
        {
            throw Missing(name, option, shape.Select(column => column.Name));
        }
    }

    /// <summary>Whether the shape has the column; throws when it is there but is not text.</summary>
    public static bool CheckType(SchemaShape shape, string? name, string option)
    {
        SchemaShape.Column column = shape.FirstOrDefault(column => column.Name == name);
        if (name is null || column.Name is null)
        {
            return false;
        }

        return column is { Kind: SchemaShape.Column.VectorKind.Scalar, ItemType: TextDataViewType, IsKey: false } ? true
            : throw NotText(name, option, column.Kind == SchemaShape.Column.VectorKind.Scalar ? column.ItemType.ToString()! : $"{column.Kind} of {column.ItemType}");
    }

    private static ArgumentOutOfRangeException Missing(string name, string option, IEnumerable<string> existing) =>
        new($"The data has no column '{name}' (option {option}). Its columns are: {string.Join(", ", existing)}. Rename the column, or set {option} to its name.", (Exception?)null);

    private static ArgumentOutOfRangeException NotText(string name, string option, string type) =>
        new($"Column '{name}' (option {option}) is of type {type}; it must be one text (string) per row.", (Exception?)null);
}
