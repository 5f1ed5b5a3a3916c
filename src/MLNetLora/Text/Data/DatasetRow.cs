namespace MLNetLora.Text;

/// <summary>One row of a data set: a conversation with an answer to learn, or a document. One of the two is there.</summary>
/// <param name="File">The file it stands in.</param>
/// <param name="Line">Line on which it begins, from 1; 0 in a file that has no lines (<see cref="DatasetReaders"/>).</param>
/// <param name="Number">Number of the row in its file, from 1.</param>
/// <param name="Conversation">The conversation; null for a document.</param>
/// <param name="Document">The document; null for a conversation.</param>
public sealed record DatasetRow(string File, long Line, long Number, Conversation? Conversation, string? Document)
{
    /// <summary>The row of the instruction format as it is written, before a prompt template; null in every other format.</summary>
    public InstructionRow? Instruction { get; init; }

    /// <summary>Where the row stands, for messages.</summary>
    public string Where => Place(File, Line, Number);

    internal static string Place(string file, long line, long number) => line > 0 ? $"{file}, line {line}, row {number}" : $"{file}, row {number}";
}
