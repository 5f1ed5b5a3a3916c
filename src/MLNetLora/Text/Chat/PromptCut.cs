namespace MLNetLora.Text;

/// <summary>
/// Cuts a conversation from the left until its prompt is short enough: whole turns first, the oldest before the others, then the beginning of the last message.
/// </summary>
internal static class PromptCut
{
    /// <summary>The prompt of what is left of a conversation.</summary>
    /// <param name="conversation">A conversation that ends with the user or a tool.</param>
    /// <param name="prompt">Makes a prompt of it.</param>
    /// <param name="maximumLength">How many tokens it may have.</param>
    /// <returns>The tokens; more than the maximum where system message, tools and what the template writes are longer alone.</returns>
    public static int[] Fit(Conversation conversation, Func<Conversation, int[]> prompt, int maximumLength)
    {
        int[] ids = prompt(conversation);
        ChatMessage[] system = [.. conversation.Messages.TakeWhile(message => message.Role == "system")];
        ChatMessage[] turns = [.. conversation.Messages.Skip(system.Length)];
        while (ids.Length > maximumLength && Array.FindIndex(turns, Math.Min(1, turns.Length), message => message.Role == "user") is > 0 and int next)
        {
            turns = turns[next..];
            ids = prompt(conversation with { Messages = [.. system, .. turns] });
        }

        if (ids.Length <= maximumLength || turns.Length == 0)
        {
            return ids;
        }

        // How many characters of the last message have to go is found by halves: more characters never need fewer tokens, but for a few where a word is cut.
        string text = turns[^1].Content ?? "";
        (int kept, int gone) = (0, text.Length);
        ids = Cut(gone);
        while (kept + 1 < gone && ids.Length <= maximumLength)
        {
            int middle = (kept + gone) / 2;
            int[] shorter = Cut(middle);
            if (shorter.Length <= maximumLength)
            {
                (ids, gone) = (shorter, middle);
            }
            else
            {
                kept = middle;
            }
        }

        return ids;

        int[] Cut(int characters)
        {
            int start = characters < text.Length && char.IsLowSurrogate(text[characters]) ? characters + 1 : characters;
            return prompt(conversation with { Messages = [.. system, .. turns[..^1], turns[^1] with { Content = text[start..] }] });
        }
    }
}
