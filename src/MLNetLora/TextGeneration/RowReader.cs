using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Text;

namespace MLNetLora.TextGeneration;

/// <summary>
/// Reads the parts of a row out of its columns. A row is an instruction, a conversation or a document: what its first filled column of these says.
/// </summary>
/// <param name="row">The row or cursor.</param>
/// <param name="names">The columns' names.</param>
/// <param name="columns">Which of them there are.</param>
/// <param name="training">Whether answers are to be learned, or asked for.</param>
/// <param name="what">What messages call a row: "Row 7 of the training data".</param>
internal sealed class RowReader(DataViewRow row, ColumnNames names, RowColumns columns, bool training, Func<string> what)
{
    private readonly Func<string>? _instruction = Reader(row, columns.Instruction, names.Instruction);
    private readonly Func<string>? _input = Reader(row, columns.Input, names.Input);
    private readonly Func<string>? _output = Reader(row, columns.Instruction && training, names.Output);
    private readonly Func<string>? _system = Reader(row, columns.System, names.System);
    private readonly Func<string>? _history = Reader(row, columns.History, names.History);
    private readonly Func<string>? _conversation = Reader(row, columns.Conversation, names.Conversation);
    private readonly Func<string>? _text = Reader(row, columns.Text, names.Text);

    /// <summary>Whether the answer at the end of a conversation that is asked stays, to be gone on with.</summary>
    public bool KeepsAnswers { get; init; }

    /// <summary>The row that the cursor stands on.</summary>
    /// <exception cref="DatasetException">
    /// It says nothing, lacks its answer, or is not what its column should hold; the message names row and column.
    /// </exception>
    public TextRow Read()
    {
        string instruction = _instruction?.Invoke() ?? "";
        string input = _input?.Invoke() ?? "";
        string output = _output?.Invoke() ?? "";
        string conversation = _conversation?.Invoke() ?? "";
        bool isInstruction = !string.IsNullOrWhiteSpace(instruction) || !string.IsNullOrWhiteSpace(input) || !string.IsNullOrWhiteSpace(output);
        if (!string.IsNullOrWhiteSpace(conversation))
        {
            return !isInstruction ? new TextRow(Conversation: ReadConversation(conversation))
                : throw new DatasetException($"{what()} has both an instruction (column '{names.Instruction}') and a conversation (column "
                    + $"'{names.Conversation}'). Leave one of them empty, or set the option of the other column to null.");
        }

        if (!isInstruction && _text?.Invoke() is { } text && !string.IsNullOrWhiteSpace(text))
        {
            return new TextRow(Document: text);
        }

        if (training || columns.Conversation)
        {
            // Asked one by one, an empty question is the asker's affair; learned, it is a gap in the data.
            Require(isInstruction || (columns.Instruction && !columns.Conversation && !columns.Text), Known(), "to say something");
            Require(!string.IsNullOrWhiteSpace(instruction + input), $"column '{names.Instruction}' is empty", "a question");
            Require(!training || !string.IsNullOrWhiteSpace(output), $"column '{names.Output}' is empty", "an answer");
        }

        return new TextRow(new InstructionRow(instruction, training ? output : null, Given(input), Given(_system?.Invoke()), ReadHistory()));
    }

    private static string? Given(string? text) => string.IsNullOrEmpty(text) ? null : text;

    private static Func<string>? Reader(DataViewRow row, bool read, string? name)
    {
        if (!read)
        {
            return null;
        }

        ValueGetter<ReadOnlyMemory<char>> getter = row.GetGetter<ReadOnlyMemory<char>>(row.Schema[name!]);
        ReadOnlyMemory<char> value = default;
        return () =>
        {
            getter(ref value);
            return value.ToString();
        };
    }

    private Conversation ReadConversation(string json)
    {
        string where = $"{what()}, column '{names.Conversation}'";
        Conversation conversation = ConversationJson.Read(json, where);
        if (training)
        {
            return DatasetRows.Checked(conversation, where);
        }

        // A row that was trained on can be asked as it is: its answer at the end is left out, as the output column is.
        int asked = KeepsAnswers ? conversation.Messages.Count : conversation.Messages.ToList().FindLastIndex(message => message.Role != "assistant") + 1;
        return asked > 0 && conversation.Messages[asked - 1].Role != "system"
            ? conversation with { Messages = [.. conversation.Messages.Take(asked)] }
            : throw new DatasetException($"{where}: nobody asks anything. Let the conversation end with a message of the user or of a tool.");
    }

    private IReadOnlyList<InstructionTurn>? ReadHistory() => _history?.Invoke() is not { } json || string.IsNullOrWhiteSpace(json) ? null
        : ConversationJson.ReadHistory(json, $"{what()}, column '{names.History}'");

    /// <summary>"column 'Instruction' and column 'Text' are empty": those of the columns that say what a row is about.</summary>
    private string Known()
    {
        (bool Read, string? Name)[] subjects =
        [
            (columns.Instruction, names.Instruction),
            (columns.Conversation, names.Conversation),
            (columns.Text, names.Text),
        ];
        return string.Join(" and ", subjects.Where(column => column.Read).Select(column => $"column '{column.Name}'")) + " are empty";
    }

    private void Require(bool holds, string wrong, string need)
    {
        if (!holds)
        {
            throw new DatasetException($"{what()}: {wrong}; every row needs {need}. Fill it in or remove the row.");
        }
    }
}
