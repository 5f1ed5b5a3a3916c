using Microsoft.ML;
using Microsoft.ML.Data;

namespace MLNetLora.TextGeneration;

/// <summary>
/// Which of the columns that a row can have are in some data. A column named by hand must be there: leaving it out silently would train on half the data. One with its default name may be absent,
/// as long as the rest says what is asked.
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
        bool conversation = Optional(names.Conversation, ColumnNames.DefaultConversation, nameof(QwenLoraTrainer.Options.ConversationColumnName), required: training);
        bool text = training && Optional(names.Text, ColumnNames.DefaultText, nameof(QwenLoraTrainer.Options.TextColumnName), required: true);
        bool instruction = conversation || text
            ? Optional(names.Instruction, ColumnNames.DefaultInstruction, nameof(QwenLoraTrainer.Options.InstructionColumnName), required: training)
            : data.Require(names.Instruction, nameof(QwenLoraTrainer.Options.InstructionColumnName));
        if (training && instruction)
        {
            // Where there are conversations or documents, a column of instructions without answers is somebody else's.
            instruction = (conversation || text) && names is { Instruction: ColumnNames.DefaultInstruction, Output: ColumnNames.DefaultOutput }
                ? data.Has(names.Output)
                : data.Require(names.Output, nameof(QwenLoraTrainer.Options.OutputColumnName));
        }

        bool input = names.Input == ColumnNames.DefaultInput || !instruction
            ? data.Find(names.Input, nameof(QwenLoraTrainer.Options.InputColumnName))
            : names.Input is not null && data.Require(names.Input, nameof(QwenLoraTrainer.Options.InputColumnName));
        return new RowColumns(instruction, instruction && input,
            instruction & Optional(names.System, ColumnNames.DefaultSystem, nameof(QwenLoraTrainer.Options.SystemColumnName), required: instruction),
            instruction & Optional(names.History, ColumnNames.DefaultHistory, nameof(QwenLoraTrainer.Options.HistoryColumnName), required: instruction),
            conversation, text);

        // A default name is a guess: a column of that name and another type is something else.
        bool Optional(string? name, string byDefault, string option, bool required) =>
            name is not null && (name == byDefault ? data.Has(name) : required ? data.Require(name, option) : data.Find(name, option));
    }

    /// <summary>The columns that are read.</summary>
    public IEnumerable<DataViewSchema.Column> Of(DataViewSchema schema, ColumnNames names, bool training) =>
        ((IEnumerable<(bool Read, string? Name)>)[(Instruction, names.Instruction), (Input, names.Input), (Instruction && training, names.Output), (System, names.System), (History, names.History), (Conversation, names.Conversation), (Text, names.Text)])
        .Where(column => column.Read).Select(column => schema[column.Name!]);
}
