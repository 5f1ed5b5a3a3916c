using Microsoft.ML;
using Microsoft.ML.Data;
using Options = MLNetLora.TextGeneration.QwenLoraTrainer.Options;

namespace MLNetLora.TextGeneration;

/// <summary>
/// Which of the columns that a row can have are in some data. A column named by hand must be there: leaving it out silently would train on half the data.
/// One with its default name may be absent, as long as the rest says what is asked.
/// </summary>
/// <param name="Instruction">Whether there are instructions; then there is an output, in training.</param>
/// <param name="Input">Whether instructions have an input.</param>
/// <param name="System">Whether instructions have a system message.</param>
/// <param name="History">Whether instructions have earlier turns.</param>
/// <param name="Conversation">Whether there are conversations.</param>
/// <param name="Text">Whether there are documents.</param>
internal sealed record RowColumns(bool Instruction, bool Input, bool System, bool History, bool Conversation, bool Text)
{
    /// <summary>Looks the columns up.</summary>
    /// <param name="names">Their names.</param>
    /// <param name="data">Where.</param>
    /// <param name="training">Whether answers are to be learned, or asked for.</param>
    /// <exception cref="ArgumentOutOfRangeException">A column is missing or is not text; the message names it and its option.</exception>
    public static RowColumns Find(ColumnNames names, TextColumns data, bool training)
    {
        bool conversation = Optional(names.Conversation, ColumnNames.DefaultConversation, nameof(Options.ConversationColumnName), mustExist: training);
        bool text = training && Optional(names.Text, ColumnNames.DefaultText, nameof(Options.TextColumnName), mustExist: true);
        bool instruction = HasInstruction(others: conversation || text) && HasOutput(others: conversation || text);

        // Columns of instructions are read only where there are instructions; those of a wrong type are refused all the same.
        bool input = HasInput(instruction);
        bool system = Optional(names.System, ColumnNames.DefaultSystem, nameof(Options.SystemColumnName), mustExist: instruction);
        bool history = Optional(names.History, ColumnNames.DefaultHistory, nameof(Options.HistoryColumnName), mustExist: instruction);
        return new RowColumns(instruction, instruction && input, instruction && system, instruction && history, conversation, text);

        // Rows that have nothing else must have an instruction.
        bool HasInstruction(bool others) => others
            ? Optional(names.Instruction, ColumnNames.DefaultInstruction, nameof(Options.InstructionColumnName), mustExist: training)
            : data.Require(names.Instruction, nameof(Options.InstructionColumnName));

        // Where there are conversations or documents, a column of instructions without answers is somebody else's.
        bool HasOutput(bool others)
        {
            if (!training)
            {
                return true;
            }

            bool isDefault = names is { Instruction: ColumnNames.DefaultInstruction, Output: ColumnNames.DefaultOutput };
            return others && isDefault ? data.Has(names.Output) : data.Require(names.Output, nameof(Options.OutputColumnName));
        }

        bool HasInput(bool instruction)
        {
            bool mustExist = instruction && names.Input is not null && names.Input != ColumnNames.DefaultInput;
            return mustExist ? data.Require(names.Input!, nameof(Options.InputColumnName)) : data.Find(names.Input, nameof(Options.InputColumnName));
        }

        // A default name is a guess: a column of that name and another type is something else.
        bool Optional(string? name, string byDefault, string option, bool mustExist)
        {
            if (name is null)
            {
                return false;
            }

            if (name == byDefault)
            {
                return data.Has(name);
            }

            return mustExist ? data.Require(name, option) : data.Find(name, option);
        }
    }

    /// <summary>The columns that are read.</summary>
    public IEnumerable<DataViewSchema.Column> Of(DataViewSchema schema, ColumnNames names, bool training)
    {
        (bool Read, string? Name)[] columns =
        [
            (Instruction, names.Instruction),
            (Input, names.Input),
            (Instruction && training, names.Output),
            (System, names.System),
            (History, names.History),
            (Conversation, names.Conversation),
            (Text, names.Text),
        ];
        return columns.Where(column => column.Read).Select(column => schema[column.Name!]);
    }
}

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
                + "it must be one text (string) per row.", (Exception?)null);
    }

    /// <summary>
    /// True, or an <see cref="ArgumentOutOfRangeException"/> (ML.NET's kind for a schema mismatch) that names the column and those that exist.
    /// </summary>
    public bool Require(string name, string option) => Find(name, option) ? true
        : throw new ArgumentOutOfRangeException(
            $"The data has no column '{name}' (option {option}). Its columns are: {string.Join(", ", existing)}. "
                + $"Rename the column, or set {option} to its name.", (Exception?)null);
}
