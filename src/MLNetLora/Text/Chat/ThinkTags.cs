namespace MLNetLora.Text;

/// <summary>What a model thinks before it answers: text between &lt;think&gt; and &lt;/think&gt; at the head of an assistant's turn.</summary>
internal static class ThinkTags
{
    /// <summary>Begins it.</summary>
    public const string Open = "<think>";

    /// <summary>Ends it.</summary>
    public const string Close = "</think>";

    /// <summary>Takes an assistant's text apart, as the templates of Qwen3 do.</summary>
    /// <param name="text">The text of a turn.</param>
    /// <returns>The thinking without its tags and the line breaks beside them, null where the text has none at its head; and the answer.</returns>
    public static (string? Thinking, string Answer) Split(string text)
    {
        ReadOnlySpan<char> body = text.AsSpan().TrimStart();
        int close = body.StartsWith(Open, StringComparison.Ordinal) ? body.IndexOf(Close, StringComparison.Ordinal) : -1;
        return close < 0 ? (null, text) : (body[Open.Length..close].Trim('\n').ToString(), body[(close + Close.Length)..].TrimStart('\n').ToString());
    }

    /// <summary>Whether a text has thinking at its head that is more than white space.</summary>
    public static bool IsIn(string text) => text.Contains(Close, StringComparison.Ordinal) && !string.IsNullOrWhiteSpace(Split(text).Thinking);

    /// <summary>Whether a message brings thinking: apart from its content, or at the content's head.</summary>
    public static bool IsIn(ChatMessage message) => !string.IsNullOrWhiteSpace(message.Thinking) || IsIn(message.Content ?? "");

    /// <summary>Whether a prompt ends inside of thinking, so that the answer begins with the rest of it (Qwen3.5 opens &lt;think&gt; for the model).</summary>
    public static bool IsOpen(string prompt) => prompt.LastIndexOf(Open, StringComparison.Ordinal) > prompt.LastIndexOf(Close, StringComparison.Ordinal);

    /// <summary>Whether a text begins with thinking that has no end.</summary>
    /// <param name="text">The text of a turn.</param>
    /// <param name="thought">What was thought so far, without the line breaks behind the tag.</param>
    public static bool IsOpen(string text, out string thought)
    {
        ReadOnlySpan<char> body = text.AsSpan().TrimStart();
        bool isOpen = body.StartsWith(Open, StringComparison.Ordinal) && !body.Contains(Close, StringComparison.Ordinal);
        thought = isOpen ? body[Open.Length..].TrimStart('\n').ToString() : "";
        return isOpen;
    }
}
