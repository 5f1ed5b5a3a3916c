using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Inference;

namespace MLNetLora.TextGeneration;

/// <summary>A column that the transformer adds to every row.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Type">Its type.</param>
/// <param name="Getter">Makes a <see cref="ValueGetter{TValue}"/> of that type out of what gives the current row's answer.</param>
internal sealed record AnswerColumn(string Name, PrimitiveDataViewType Type, Func<Func<GeneratedText>, Delegate> Getter)
{
    /// <summary>The answer, and what was asked for beside it, in their order in the schema.</summary>
    public static IReadOnlyList<AnswerColumn> Of(ColumnNames names)
    {
        AnswerDetails details = names.Details ?? new AnswerDetails();
        AnswerColumn?[] columns =
        [
            Text(names.Answer, answer => answer.Text),
            Text(details.Thinking, answer => answer.Thinking),
            Text(details.FinishReason, Reason),
            Number(details.PromptTokens, answer => answer.PromptTokens),
            Number(details.NewTokens, answer => answer.NewTokens),
            Text(details.Error, answer => answer.Error?.Message),
        ];
        return [.. columns.OfType<AnswerColumn>()];
    }

    /// <summary>The words that OpenAI's interface has for it, and "error" for a row without an answer.</summary>
    private static string Reason(GeneratedText answer) => answer switch
    {
        { Error: not null } => "error",
        { Reason: FinishReason.Stop } => "stop",
        _ => "length",
    };

    private static AnswerColumn? Text(string? name, Func<GeneratedText, string?> read) => name is null ? null : new AnswerColumn(
        name,
        TextDataViewType.Instance,
        current => (ValueGetter<ReadOnlyMemory<char>>)((ref ReadOnlyMemory<char> value) => value = read(current()).AsMemory()));

    private static AnswerColumn? Number(string? name, Func<GeneratedText, int> read) => name is null ? null : new AnswerColumn(
        name,
        NumberDataViewType.Int32,
        current => (ValueGetter<int>)((ref int value) => value = read(current())));
}
