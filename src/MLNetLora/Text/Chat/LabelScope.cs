namespace MLNetLora.Text;

/// <summary>Which tokens of a row are learned.</summary>
public enum LabelScope
{
    /// <summary>The row's answer, the last of a conversation, and the &lt;|im_end|&gt; that ends it: the model learns to answer, and to stop.</summary>
    Answer,

    /// <summary>Every token, the prompt included.</summary>
    Everything,

    /// <summary>All that the assistant says in a conversation, every turn with the &lt;|im_end|&gt; that ends it.</summary>
    AllAssistantTurns,
}
