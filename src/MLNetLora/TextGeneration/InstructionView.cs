using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Text;

namespace MLNetLora.TextGeneration;

/// <summary>The rows of data set files as a view that reads the files anew in every pass.</summary>
internal static class InstructionView
{
    /// <summary>Reads the files once, for their errors and their columns, and makes the view.</summary>
    public static IDataView Create(DataOperationsCatalog catalog, string[] paths, DatasetFormat format)
    {
        HashSet<string> columns = [];
        foreach (DatasetRow row in Dataset.Read(paths, format))
        {
            columns.UnionWith(Columns(row));
        }

        // One order, whatever row came first.
        SchemaDefinition schema = SchemaDefinition.Create(typeof(Record));
        foreach (SchemaDefinition.Column column in schema.Where(column => !columns.Contains(column.ColumnName)).ToArray())
        {
            schema.Remove(column);
        }

        return catalog.LoadFromEnumerable(Rows(), schema);

        IEnumerable<Record> Rows()
        {
            foreach (DatasetRow row in Dataset.Read(paths, format))
            {
                string[] added = [.. Columns(row).Except(columns)];
                yield return added.Length == 0 ? Record.From(row) : throw new DatasetException(
                    $"{row.Where} has changed since the file was loaded: it now has {string.Join(", ", added)}. Load the file again.");
            }
        }
    }

    private static List<string> Columns(DatasetRow row)
    {
        if (row.Instruction is not { } instruction)
        {
            return [row.Document is null ? ColumnNames.DefaultConversation : ColumnNames.DefaultText];
        }

        List<string> columns = [ColumnNames.DefaultInstruction, ColumnNames.DefaultInput, ColumnNames.DefaultOutput];
        if (instruction.System is not null)
        {
            columns.Add(ColumnNames.DefaultSystem);
        }

        if (instruction.History is not null)
        {
            columns.Add(ColumnNames.DefaultHistory);
        }

        return columns;
    }

    /// <summary>The names of these members are the names of the columns.</summary>
    private sealed record Record(
        string Instruction = "",
        string Input = "",
        string Output = "",
        string System = "",
        string History = "",
        string Conversation = "",
        string Text = "")
    {
        public static Record From(DatasetRow row) => row switch
        {
            { Instruction: { } instruction } => new Record(instruction.Instruction, instruction.Input ?? "", instruction.Output ?? "", instruction.System ?? "",
                instruction.History is null ? "" : ConversationJson.WriteHistory(instruction.History)),
            { Conversation: { } conversation } => new Record(Conversation: ConversationJson.Write(conversation)),
            _ => new Record(Text: row.Document!),
        };
    }
}
