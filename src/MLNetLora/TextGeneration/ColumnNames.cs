namespace MLNetLora.TextGeneration;

/// <summary>The names of the columns that are read and added.</summary>
/// <param name="Instruction">What is asked.</param>
/// <param name="Input">What it is asked about; null when rows never have one.</param>
/// <param name="Output">The answer to learn; read in training only.</param>
/// <param name="Answer">The column that the transformer adds.</param>
/// <param name="System">The row's own system message; null when rows never have one.</param>
/// <param name="History">Earlier turns as JSON; null when rows never have any.</param>
/// <param name="Conversation">A whole conversation as JSON; null when no row is one.</param>
/// <param name="Text">A document; read in training only; null when no row is one.</param>
/// <param name="Details">The columns that stand beside the answer where they are asked for; null for none of them.</param>
internal sealed record ColumnNames(
    string Instruction,
    string? Input,
    string Output,
    string Answer,
    string? System = null,
    string? History = null,
    string? Conversation = null,
    string? Text = null,
    AnswerDetails? Details = null)
{
    public const string DefaultInstruction = "Instruction";
    public const string DefaultInput = "Input";
    public const string DefaultOutput = "Output";
    public const string DefaultAnswer = "Answer";
    public const string DefaultSystem = "System";
    public const string DefaultHistory = "History";
    public const string DefaultConversation = "Conversation";
    public const string DefaultText = "Text";

    /// <summary>
    /// As options mean it: an empty name stands for none, and a default column is left out whose name was given to another, since a data set may well
    /// call its questions Text.
    /// </summary>
    public ColumnNames Normalized()
    {
        string?[] taken = [Instruction, Input, Output];
        return this with
        {
            Input = OrNull(Input),
            System = System == DefaultSystem && taken.Contains(System) ? null : OrNull(System),
            History = History == DefaultHistory && taken.Contains(History) ? null : OrNull(History),
            Conversation = Conversation == DefaultConversation && taken.Contains(Conversation) ? null : OrNull(Conversation),
            Text = Text == DefaultText && taken.Contains(Text) ? null : OrNull(Text),
            Details = Details is null ? null : new AnswerDetails(
                OrNull(Details.Thinking),
                OrNull(Details.FinishReason),
                OrNull(Details.PromptTokens),
                OrNull(Details.NewTokens),
                OrNull(Details.Error)),
        };
    }

    /// <summary>Throws an <see cref="OptionException"/> that names the first option without a name, or two columns that are the same.</summary>
    public void Validate()
    {
        RequireName(Instruction, nameof(QwenLoraTrainer.Options.InstructionColumnName));
        RequireName(Output, nameof(QwenLoraTrainer.Options.OutputColumnName));
        RequireName(Answer, nameof(QwenLoraTrainer.Options.AnswerColumnName));
        if (Instruction == Output || Input == Output || Instruction == Input)
        {
            throw new OptionException($"The instruction, input and output columns must be three columns; they are '{Instruction}', '{Input}' and '{Output}'.");
        }

        if (Twice([Instruction, Input, Output, System, History, Conversation, Text]) is { } read)
        {
            throw new OptionException(
                $"Two of the column names are '{read}'; every part of a row needs a column of its own. "
                + "Rename one, or set the option of a part that the data does not have to null.");
        }

        if (Twice([Answer, .. (Details ?? new AnswerDetails()).Names]) is { } added)
        {
            throw new OptionException($"Two of the columns that the transformer adds are called '{added}'; rename one, or set its option to null.");
        }
    }

    private static string? OrNull(string? name) => string.IsNullOrEmpty(name) ? null : name;

    private static string? Twice(IEnumerable<string?> names) =>
        names.Where(name => name is not null).GroupBy(name => name).FirstOrDefault(group => group.Count() > 1)?.Key;

    private static void RequireName(string? name, string option)
    {
        if (string.IsNullOrEmpty(name))
        {
            throw new OptionException($"{option} is empty; it must be the name of a column.");
        }
    }
}

/// <summary>The names of the columns that can stand beside the answer; null for each that is not wanted.</summary>
/// <param name="Thinking">What the model thought.</param>
/// <param name="FinishReason">Why the answer ended.</param>
/// <param name="PromptTokens">Tokens of the prompt.</param>
/// <param name="NewTokens">Tokens that were generated.</param>
/// <param name="Error">Why the row has no answer.</param>
internal sealed record AnswerDetails(
    string? Thinking = null,
    string? FinishReason = null,
    string? PromptTokens = null,
    string? NewTokens = null,
    string? Error = null)
{
    public IEnumerable<string> Names => new[] { Thinking, FinishReason, PromptTokens, NewTokens, Error }.OfType<string>();
}
