namespace MLNetLora.Text;

/// <summary>How the rows of a data set are written.</summary>
public enum DatasetFormat
{
    /// <summary>Recognized by the fields of each file's first row.</summary>
    Recognize,

    /// <summary>
    /// instruction, input, output, system, history (alpaca). The same under other names, in any case: for instruction question, query, problem, user, human,
    /// 问题, 提问, 问, 指令, frage; for input context, 输入; for output answer, response, completion, reply, solution, assistant, 回答, 答案, 答, 输出, antwort; for
    /// system system_prompt. A row with input and output alone asks its input.
    /// </summary>
    Instruction,

    /// <summary>conversations or conversation with from and value (ShareGPT), system and tools beside it.</summary>
    ShareGpt,

    /// <summary>messages with role and content (OpenAI), tool_calls, reasoning_content and weight in them, tools beside them.</summary>
    Messages,

    /// <summary>prompt and completion (or response, answer, output): texts, which become a question and its answer, or lists of messages.</summary>
    PromptCompletion,

    /// <summary>text: a document for continued pretraining. In a .txt file every line is one.</summary>
    Text,
}

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
