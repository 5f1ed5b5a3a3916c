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
        (bool hasLabel, bool hasConversation) = References(TextColumns.Of(data.Schema));
        RequireAnswers(TextColumns.Of(data.Schema));
        bool hasError = Error is not null;
        string?[] names = [Answer, hasLabel ? Label : null, hasConversation ? Conversation : null, Error];
        using DataViewRowCursor cursor = data.GetRowCursor(names.OfType<string>().Distinct().Select(name => data.Schema[name]));
        Func<string>[] readers = [.. names.Select(name => Reader(cursor, name))];
        TextScores scores = new(Tokenizer);
        (long failed, long withoutReference) = (0, 0);
        while (cursor.MoveNext())
        {
            // The reference first: where there is none, the answer need not be generated.
            string label = readers[1]();
            string? reference = label.Length > 0 ? ThinkTags.Split(label).Answer : OfConversation(readers[2](), cursor.Position + 1);
            if (string.IsNullOrWhiteSpace(reference))
            {
                withoutReference++;
                continue;
            }

            scores.Add(readers[0](), reference);
            failed += readers[3]().Length > 0 ? 1 : 0;
        }

        return scores.Rows > 0 ? scores.Metrics(hasError ? failed : null, withoutReference) : throw new DatasetException(withoutReference == 0
            ? "The data has no rows."
            : $"None of the {withoutReference} rows has a reference to compare its answer with: column '{Label}' is empty. Set labelColumnName to the "
                + "column that has it.");
    }

    /// <summary>Which of the columns with references there are.</summary>
    /// <exception cref="ArgumentOutOfRangeException">One is missing or is not text.</exception>
    public (bool Label, bool Conversation) References(TextColumns columns)
    {
        bool conversation = Conversation == ColumnNames.DefaultConversation
            ? columns.Has(Conversation)
            : Conversation is not null && columns.Require(Conversation, "conversationColumnName");
        return (conversation && Label == ColumnNames.DefaultOutput ? columns.Has(Label) : columns.Require(Label, "labelColumnName"), conversation);
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

    /// <summary>What the assistant says at the end of a conversation, where a transformer is asked; null where it says nothing.</summary>
    private string? OfConversation(string json, long number)
    {
        if (string.IsNullOrWhiteSpace(json))
        {
            return null;
        }

        IReadOnlyList<ChatMessage> messages = ConversationJson.Read(json, $"Row {number}, column '{Conversation}'").Messages;
        int asked = messages.ToList().FindLastIndex(message => message.Role != "assistant") + 1;
        return asked < messages.Count && messages[asked].Content is { } content ? ThinkTags.Split(content).Answer : null;
    }

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
