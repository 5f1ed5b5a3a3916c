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
internal sealed record ColumnNames(string Instruction, string? Input, string Output, string Answer, string? System = null, string? History = null,
    string? Conversation = null, string? Text = null)
{
    public const string DefaultInstruction = "Instruction";
    public const string DefaultInput = "Input";
    public const string DefaultOutput = "Output";
    public const string DefaultAnswer = "Answer";
    public const string DefaultSystem = "System";
    public const string DefaultHistory = "History";
    public const string DefaultConversation = "Conversation";
    public const string DefaultText = "Text";

    /// <summary>Without the default columns whose name was given to another: a data set may well call its questions Text.</summary>
    public ColumnNames WithoutTakenDefaults()
    {
        string?[] taken = [Instruction, Input, Output];
        return this with
        {
            System = System == DefaultSystem && taken.Contains(System) ? null : System,
            History = History == DefaultHistory && taken.Contains(History) ? null : History,
            Conversation = Conversation == DefaultConversation && taken.Contains(Conversation) ? null : Conversation,
            Text = Text == DefaultText && taken.Contains(Text) ? null : Text,
        };
    }

    /// <summary>Throws an <see cref="OptionException"/> that names the first option without a name, or two columns that are the same.</summary>
    public void Validate()
    {
        Require(Instruction, nameof(QwenLoraTrainer.Options.InstructionColumnName));
        Require(Output, nameof(QwenLoraTrainer.Options.OutputColumnName));
        Require(Answer, nameof(QwenLoraTrainer.Options.AnswerColumnName));
        if (Instruction == Output || Input == Output || Instruction == Input)
        {
            throw new OptionException($"The instruction, input and output columns must be three columns; they are '{Instruction}', '{Input}' and '{Output}'.");
        }

        string?[] all = [Instruction, Input, Output, System, History, Conversation, Text];
        if (all.Where(name => name is not null).GroupBy(name => name).FirstOrDefault(group => group.Count() > 1) is { Key: string twice })
        {
            throw new OptionException($"Two of the column names are '{twice}'; every part of a row needs a column of its own. Rename one, or set the option of a part that the data does not have to null.");
        }
    }

    private static void Require(string? name, string option)
    {
        if (string.IsNullOrEmpty(name))
        {
            throw new OptionException($"{option} is empty; it must be the name of a column.");
        }
    }
}
