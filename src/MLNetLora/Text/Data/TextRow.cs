namespace MLNetLora.Text;

/// <summary>A row to learn or to ask: one of an instruction with its parts, a conversation, or a document.</summary>
/// <param name="Instruction">The instruction row, before any prompt template.</param>
/// <param name="Conversation">The conversation.</param>
/// <param name="Document">The document, which is learned whole.</param>
internal sealed record TextRow(InstructionRow? Instruction = null, Conversation? Conversation = null, string? Document = null);
