using Microsoft.ML;
using Microsoft.ML.Data;

namespace MLNetLora.TextGeneration;

/// <summary>
/// The columns of some data, by name, and which of them are text; says which column and which option is meant when one is missing or of another type.
/// </summary>
/// <param name="typeOf">The type of a column when it is not text, "" when it is, null when there is none.</param>
/// <param name="existing">The names of all columns.</param>
internal sealed class TextColumns(Func<string, string?> typeOf, IEnumerable<string> existing)
{
    /// <summary>The columns of a view.</summary>
    public static TextColumns Of(DataViewSchema schema) => new(
        name => schema.GetColumnOrNull(name) is not { } column ? null : column.Type is TextDataViewType ? "" : column.Type.ToString(),
        schema.Where(column => !column.IsHidden).Select(column => column.Name));

    /// <summary>The columns of a pipeline that is not fitted yet.</summary>
    public static TextColumns Of(SchemaShape shape) => new(
        name => shape.FirstOrDefault(column => column.Name == name) switch
        {
            { Name: null } => null,
            { Kind: SchemaShape.Column.VectorKind.Scalar, ItemType: TextDataViewType, IsKey: false } => "",
            { Kind: SchemaShape.Column.VectorKind.Scalar } column => column.ItemType.ToString(),
            SchemaShape.Column column => $"{column.Kind} of {column.ItemType}",
        },
        shape.Select(column => column.Name));

    /// <summary>Whether there is a text column of that name.</summary>
    public bool Has(string name) => typeOf(name) == "";

    /// <summary>Whether there is a column of that name; throws when it is there but is not text.</summary>
    public bool Find(string? name, string option)
    {
        string? type = name is null ? null : typeOf(name);
        return string.IsNullOrEmpty(type) ? type is not null
            : throw new ArgumentOutOfRangeException($"Column '{name}' (option {option}) is of type {type}; "
                + $"it must be one text (string) per row.", (Exception?)null);
    }

    /// <summary>
    /// True, or an <see cref="ArgumentOutOfRangeException"/> (ML.NET's kind for a schema mismatch) that names the column and those that exist.
    /// </summary>
    public bool Require(string name, string option) => Find(name, option) ? true
        : throw new ArgumentOutOfRangeException(
            $"The data has no column '{name}' (option {option}). Its columns are: {string.Join(", ", existing)}. "
                + $"Rename the column, or set {option} to its name.", (Exception?)null);
}
