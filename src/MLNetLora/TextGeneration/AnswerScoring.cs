using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Evaluation;
using MLNetLora.Text;

namespace MLNetLora.TextGeneration;

/// <summary>Scores the answers of a view against its references in one pass.</summary>
/// <param name="Answer">Text column with what was answered.</param>
/// <param name="Label">Text column with the reference.</param>
/// <param name="Conversation">Text column with a conversation that ends with it, where the label's is empty; null for none.</param>
/// <param name="Error">Text column that says why a row has no answer; null for none.</param>
/// <param name="Tokenizer">What ROUGE takes for a word.</param>
internal sealed record AnswerScoring(string Answer, string Label, string? Conversation, string? Error, RougeTokenizer Tokenizer)
{
    /// <summary>Reads the view.</summary>
    /// <exception cref="ArgumentOutOfRangeException">A column is missing or is not text.</exception>
    /// <exception cref="DatasetException">No row has a reference.</exception>
    public TextGenerationMetrics Run(IDataView data)
    {
        RequireAnswers(TextColumns.Of(data.Schema));
        string?[] references = References(data.Schema);
        using DataViewRowCursor cursor = Cursor(data, [Answer, Error, .. references]);
        Func<string> answer = Reader(cursor, Answer);
        Func<string> error = Reader(cursor, Error);
        Func<string?> reference = Reference(cursor, references);
        TextScores scores = new(Tokenizer);
        (long failed, long withoutReference) = (0, 0);
        while (cursor.MoveNext())
        {
            // The reference first: where there is none, the answer need not be generated.
            if (reference() is { } expected)
            {
                scores.Add(answer(), expected);
                failed += error().Length > 0 ? 1 : 0;
            }
            else
            {
                withoutReference++;
            }
        }

        return scores.Rows > 0 ? scores.Metrics(Error is null ? null : failed, withoutReference) : throw new DatasetException(withoutReference == 0
            ? "The data has no rows."
            : $"None of the {withoutReference} rows has a reference to compare its answer with: column '{Label}' is empty. Set labelColumnName to the "
                + "column that has it.");
    }

    /// <summary>Whether any row has a reference; answers are not asked for.</summary>
    public bool HasReference(IDataView data)
    {
        string?[] references = References(data.Schema);
        using DataViewRowCursor cursor = Cursor(data, references);
        Func<string?> reference = Reference(cursor, references);
        while (cursor.MoveNext())
        {
            if (reference() is not null)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The columns with references: the label's and the conversation's, null for one that there is not.</summary>
    /// <exception cref="ArgumentOutOfRangeException">One is missing or is not text.</exception>
    public string?[] References(DataViewSchema schema)
    {
        TextColumns columns = TextColumns.Of(schema);
        bool conversation = Conversation == ColumnNames.DefaultConversation
            ? columns.Has(Conversation)
            : Conversation is not null && columns.Require(Conversation, "conversationColumnName");
        bool label = conversation && Label == ColumnNames.DefaultOutput ? columns.Has(Label) : columns.Require(Label, "labelColumnName");
        return [label ? Label : null, conversation ? Conversation : null];
    }

    /// <summary>Refuses rows that nobody answered.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The answer's column, or the errors', is missing or is not text.</exception>
    public void RequireAnswers(TextColumns columns)
    {
        columns.Require(Answer, "predictedColumnName");
        if (Error is not null)
        {
            columns.Require(Error, "errorColumnName");
        }
    }

    /// <summary>Reads the reference of the row that the cursor is on; null where it has none.</summary>
    private Func<string?> Reference(DataViewRowCursor cursor, string?[] columns)
    {
        Func<string> label = Reader(cursor, columns[0]);
        Func<string> conversation = Reader(cursor, columns[1]);
        return () =>
        {
            string? text = label() is { Length: > 0 } own ? own : LastAnswer(conversation(), cursor.Position + 1);
            string? reference = text is null ? null : ThinkTags.Split(text).Answer;
            return string.IsNullOrWhiteSpace(reference) ? null : reference;
        };
    }

    /// <summary>What the assistant says at the end of a conversation, where a transformer is asked; null where it says nothing.</summary>
    private string? LastAnswer(string json, long number)
    {
        if (string.IsNullOrWhiteSpace(json))
        {
            return null;
        }

        IReadOnlyList<ChatMessage> messages = ConversationJson.Read(json, $"Row {number}, column '{Conversation}'").Messages;
        int asked = messages.ToList().FindLastIndex(message => message.Role != "assistant") + 1;
        return asked < messages.Count ? messages[asked].Content : null;
    }

    private static DataViewRowCursor Cursor(IDataView data, IEnumerable<string?> columns) =>
        data.GetRowCursor(columns.OfType<string>().Distinct().Select(name => data.Schema[name]));

    private static Func<string> Reader(DataViewRow row, string? name)
    {
        if (name is null)
        {
            return () => "";
        }

        ValueGetter<ReadOnlyMemory<char>> getter = row.GetGetter<ReadOnlyMemory<char>>(row.Schema[name]);
        ReadOnlyMemory<char> value = default;
        return () =>
        {
            getter(ref value);
            return value.ToString();
        };
    }
}
