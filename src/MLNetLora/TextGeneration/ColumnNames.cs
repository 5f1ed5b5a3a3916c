namespace MLNetLora.TextGeneration;

/// <summary>The names of the columns that are read and added.</summary>
/// <param name="Instruction">What is asked.</param>
/// <param name="Input">What it is asked about; null when rows never have one.</param>
/// <param name="Output">The answer to learn; read in training only.</param>
/// <param name="Answer">The column that the transformer adds.</param>
internal sealed record ColumnNames(string Instruction, string? Input, string Output, string Answer)
{
    public const string DefaultInstruction = "Instruction";
    public const string DefaultInput = "Input";
    public const string DefaultOutput = "Output";
    public const string DefaultAnswer = "Answer";

    /// <summary>A column named by hand is meant to be there: leaving it out silently would train on half the data. The default name may be absent.</summary>
    public bool InputIsRequired => Input is not null and not DefaultInput;

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
    }

    private static void Require(string? name, string option)
    {
        if (string.IsNullOrEmpty(name))
        {
            throw new OptionException($"{option} is empty; it must be the name of a column.");
        }
    }
}
