namespace MLNetLora.Text;

/// <summary>
/// What the user's message of an instruction row is made of, such as <c>根据公司内部知识回答：{instruction}</c>. <c>{input}</c> stands for the input, which otherwise
/// follows the instruction on a new line.
/// </summary>
internal static class PromptTemplate
{
    private const string Instruction = "{instruction}";
    private const string Input = "{input}";

    /// <summary>Refuses a template that would ask the same of every row.</summary>
    /// <param name="template">The template; null for none.</param>
    /// <exception cref="OptionException">It does not contain {instruction}.</exception>
    public static void Validate(string? template)
    {
        if (template?.Contains(Instruction, StringComparison.Ordinal) == false)
        {
            throw new OptionException($"PromptTemplate is \"{template}\"; it must contain {Instruction}, or every row would ask the same.");
        }
    }

    /// <summary>The user's message, in one pass: what a row brings is never searched for placeholders.</summary>
    /// <param name="row">The row.</param>
    /// <param name="template">The template; null for the instruction itself.</param>
    public static string Fill(InstructionRow row, string? template)
    {
        string both = string.IsNullOrEmpty(row.Input) ? row.Instruction : $"{row.Instruction}\n{row.Input}";
        if (template is null)
        {
            return both;
        }

        string instruction = template.Contains(Input, StringComparison.Ordinal) ? row.Instruction : both;
        return string.Join(instruction, template.Split(Instruction).Select(piece => string.Join(row.Input ?? "", piece.Split(Input))));
    }
}
