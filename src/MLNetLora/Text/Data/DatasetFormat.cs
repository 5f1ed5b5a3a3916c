namespace MLNetLora.Text;

/// <summary>How the rows of a data set are written.</summary>
public enum DatasetFormat
{
    /// <summary>Recognised by the fields of each file's first row.</summary>
    Recognize,

    /// <summary>instruction, input, output, system, history (alpaca).</summary>
    Instruction,

    /// <summary>conversations or conversation with from and value (ShareGPT), system and tools beside it.</summary>
    ShareGpt,

    /// <summary>messages with role and content (OpenAI), tool_calls, reasoning_content and weight in them, tools beside them.</summary>
    Messages,

    /// <summary>prompt and completion (or response): texts, which become a question and its answer, or lists of messages.</summary>
    PromptCompletion,

    /// <summary>text: a document for continued pretraining. In a .txt file every line is one.</summary>
    Text,
}
