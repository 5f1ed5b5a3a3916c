namespace MLNetLora.Text;

/// <summary>One example of an instruction data set: what is asked, and what is to be answered.</summary>
/// <param name="Instruction">What the user asks for.</param>
/// <param name="Output">The answer to learn; null where only a prompt is wanted.</param>
/// <param name="Input">
/// What the instruction is about (a text to translate); it follows the instruction on a new line. Null or empty where there is none.
/// </param>
/// <param name="System">The system message; null where the checkpoint's default stands.</param>
/// <param name="History">Earlier turns of the conversation, oldest first; null where there are none.</param>
public sealed record InstructionRow(
    string Instruction,
    string? Output = null,
    string? Input = null,
    string? System = null,
    IReadOnlyList<InstructionTurn>? History = null)
{
    /// <summary>Surrogates without their partner in all texts of the row.</summary>
    internal int UnpairedSurrogates
    {
        get
        {
            IEnumerable<string?> history = History?.SelectMany(turn => (string?[])[turn.Instruction, turn.Output]) ?? [];
            return history.Concat([Instruction, Output, Input, System]).Sum(UnicodeText.UnpairedSurrogates);
        }
    }
}

/// <summary>An earlier turn of a conversation.</summary>
/// <param name="Instruction">What the user said.</param>
/// <param name="Output">What the assistant answered.</param>
public sealed record InstructionTurn(string Instruction, string Output);
