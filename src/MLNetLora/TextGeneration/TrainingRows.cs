using Microsoft.ML;
using MLNetLora.Text;

namespace MLNetLora.TextGeneration;

/// <summary>Reads the rows to learn from out of a data view.</summary>
internal static class TrainingRows
{
    /// <summary>
    /// All rows, in the order of the view. Throws an <see cref="ArgumentOutOfRangeException"/> that names a missing or mistyped column, and a
    /// <see cref="DatasetException"/> for an empty view or for a row (counted from 1) without instruction or answer.
    /// </summary>
    /// <param name="data">The view; read once.</param>
    /// <param name="columns">The names of its columns.</param>
    /// <param name="what">"training" or "validation", for the messages.</param>
    /// <param name="cancellationToken">Checked at every row.</param>
    public static List<InstructionRow> Read(IDataView data, ColumnNames columns, string what, CancellationToken cancellationToken)
    {
        (DataViewSchema.Column instruction, DataViewSchema.Column? input, DataViewSchema.Column output) = Check(data.Schema, columns);
        using DataViewRowCursor cursor = data.GetRowCursor(input is { } present ? [instruction, present, output] : [instruction, output]);
        ValueGetter<ReadOnlyMemory<char>> readInstruction = cursor.GetGetter<ReadOnlyMemory<char>>(instruction);
        ValueGetter<ReadOnlyMemory<char>>? readInput = input is { } column ? cursor.GetGetter<ReadOnlyMemory<char>>(column) : null;
        ValueGetter<ReadOnlyMemory<char>> readOutput = cursor.GetGetter<ReadOnlyMemory<char>>(output);

        List<InstructionRow> rows = [];
        ReadOnlyMemory<char> text = default;
        while (cursor.MoveNext())
        {
            cancellationToken.ThrowIfCancellationRequested();
            readInstruction(ref text);
            string instructionText = text.ToString();
            string? inputText = null;
            if (readInput is not null)
            {
                readInput(ref text);
                inputText = text.IsEmpty ? null : text.ToString();
            }

            readOutput(ref text);
            string outputText = text.ToString();
            Require(instructionText + inputText, columns.Instruction, "a question");
            Require(outputText, columns.Output, "an answer");
            rows.Add(new InstructionRow(instructionText, outputText, inputText));
        }

        return rows.Count > 0 ? rows : throw new DatasetException($"The {what} data has no rows.");

        void Require(string value, string name, string need)
        {
            if (string.IsNullOrWhiteSpace(value))
            {
                throw new DatasetException($"Row {rows.Count + 1} of the {what} data: column '{name}' is empty; every row needs {need}. Fill it in or remove the row.");
            }
        }
    }

    /// <summary>Checks the columns without reading a row.</summary>
    public static (DataViewSchema.Column Instruction, DataViewSchema.Column? Input, DataViewSchema.Column Output) Check(DataViewSchema schema, ColumnNames columns)
    {
        DataViewSchema.Column instruction = TextColumns.Require(schema, columns.Instruction, nameof(QwenLoraTrainer.Options.InstructionColumnName));
        DataViewSchema.Column? input = columns.InputIsRequired
            ? TextColumns.Require(schema, columns.Input!, nameof(QwenLoraTrainer.Options.InputColumnName))
            : TextColumns.Find(schema, columns.Input, nameof(QwenLoraTrainer.Options.InputColumnName));
        return (instruction, input, TextColumns.Require(schema, columns.Output, nameof(QwenLoraTrainer.Options.OutputColumnName)));
    }
}
