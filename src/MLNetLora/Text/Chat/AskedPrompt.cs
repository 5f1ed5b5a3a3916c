namespace MLNetLora.Text;

/// <summary>What a prompt has of the answer already.</summary>
internal enum AnswerStart
{
    /// <summary>Nothing: the answer may begin with thinking.</summary>
    Nothing,

    /// <summary>The opening of the thinking.</summary>
    OpenedThinking,

    /// <summary>A part of the thinking.</summary>
    WithinThinking,

    /// <summary>All of the thinking, where there is any, and perhaps a part of the answer: what follows is answer.</summary>
    Answer,
}

/// <summary>A prompt.</summary>
/// <param name="Ids">Its tokens, at least one.</param>
/// <param name="Start">What it has of the answer.</param>
/// <param name="MayThink">Whether the answer may begin with thinking that the model opens itself.</param>
/// <param name="Calls">How the checkpoint's template asks for calls of tools.</param>
internal readonly record struct AskedPrompt(int[] Ids, AnswerStart Start, bool MayThink = false, ToolCallForm Calls = ToolCallForm.Json);
