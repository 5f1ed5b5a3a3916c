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
