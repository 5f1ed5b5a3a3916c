namespace MLNetLora.Text;

/// <summary>
/// What the user's message of an instruction row is made of, such as <c>根据公司内部知识回答：{instruction}</c>. <c>{input}</c> stands for the input, which otherwise
/// follows the instruction on a new line.
/// </summary>
internal static class PromptTemplate
{
    private const string Instruction = "{instruction}";
    private const string Input = "{input}";
    private const int LongestTemplate = 100_000;
    private const int MostPlaces = 100; // of instruction and input: each makes the prompt longer by a whole question

    /// <summary>Refuses a template that would ask the same of every row.</summary>
    /// <param name="template">The template; null for none.</param>
    /// <exception cref="OptionException">It does not contain {instruction}, or is longer than any, or asks the same a hundred times.</exception>
    public static void Validate(string? template)
    {
        if (template?.Contains(Instruction, StringComparison.Ordinal) == false)
        {
            string shown = template.Length <= 100 ? template : template[..100] + "…";
            throw new OptionException($"PromptTemplate is \"{shown}\"; it must contain {Instruction}, or every row would ask the same.");
        }

        Require.That(template is not { Length: > LongestTemplate }, nameof(PromptTemplate), $"{template?.Length} characters", $"at most {LongestTemplate}");
        int places = template is null ? 0 : template.Split(Instruction).Length + template.Split(Input).Length - 2;
        Require.That(places <= MostPlaces, nameof(PromptTemplate), $"a text with {places} places for instruction and input", $"one with at most {MostPlaces}");
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
