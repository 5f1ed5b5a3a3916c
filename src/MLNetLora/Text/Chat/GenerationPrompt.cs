namespace MLNetLora.Text;

/// <summary>One way in which a template asks for an answer: with or without thinking, where it knows the difference.</summary>
/// <param name="Variables">The template's variables.</param>
/// <param name="Text">
/// What the template writes behind the last &lt;|im_start|&gt; where the assistant is to speak: <c>assistant\n</c>, and behind it perhaps an empty or an open
/// thinking block.
/// </param>
/// <param name="Ids">The same as ids, [tokens].</param>
internal sealed record GenerationPrompt(IReadOnlyDictionary<string, object?> Variables, string Text, int[] Ids)
{
    /// <summary>What every assistant's turn begins with.</summary>
    public const string Header = "assistant\n";

    /// <summary>Whether the answer begins inside of thinking.</summary>
    public bool OpensThinking => ThinkTags.IsOpen(Text);
}
