namespace MLNetLora.Text;

/// <summary>
/// Cuts a conversation from the left until its prompt is short enough: whole turns first, the oldest before the others, then the beginning of the last message
/// that is not the assistant's.
/// </summary>
internal static class PromptCut
{
    /// <summary>The prompt of what is left of a conversation.</summary>
    /// <param name="conversation">A conversation that ends with the user or a tool, or with what the assistant has begun to say.</param>
    /// <param name="prompt">Makes a prompt of it.</param>
    /// <param name="maximumLength">How many tokens it may have.</param>
    /// <param name="cancellation">Ends it between two prompts.</param>
    /// <returns>The tokens; more than the maximum where system message, tools and what the template writes are longer alone.</returns>
    public static int[] Fit(
        Conversation conversation,
        Func<Conversation, int[]> prompt,
        int maximumLength,
        CancellationToken cancellation = default)
    {
        int[] ids = Prompt(conversation);
        ChatMessage[] system = [.. conversation.Messages.TakeWhile(message => message.Role == "system")];
        ChatMessage[] turns = [.. conversation.Messages.Skip(system.Length)];
        if (ids.Length <= maximumLength || turns.Length == 0)
        {
            return ids;
        }

        // How many turns, and how many characters of the last message, have to go is found by halves: more of them never need fewer tokens, but for a few
        // where a word is cut. A turn begins with a user's message.
        int[] starts = [0, .. Enumerable.Range(1, turns.Length - 1).Where(i => turns[i].Role == "user")];
        (int tooLong, int last) = (0, starts.Length - 1);
        ids = last > 0 ? From(starts[last]) : ids;
        while (tooLong + 1 < last && ids.Length <= maximumLength)
        {
            int middle = (tooLong + last) / 2;
            int[] longer = From(starts[middle]);
            if (longer.Length <= maximumLength)
            {
                (ids, last) = (longer, middle);
            }
            else
            {
                tooLong = middle;
            }
        }

        if (ids.Length <= maximumLength)
        {
            return ids;
        }

        turns = turns[starts[last]..];
        int question = Math.Max(0, Array.FindLastIndex(turns, turn => turn.Role != "assistant"));
        string text = turns[question].Content ?? "";
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

        int[] From(int start) => Prompt(conversation with { Messages = [.. system, .. turns[start..]] });

        int[] Cut(int characters)
        {
            int start = characters < text.Length && char.IsLowSurrogate(text[characters]) ? characters + 1 : characters;
            ChatMessage cut = turns[question] with { Content = text[start..] };
            return Prompt(conversation with { Messages = [.. system, .. turns[..question], cut, .. turns[(question + 1)..]] });
        }

        int[] Prompt(Conversation some)
        {
            cancellation.ThrowIfCancellationRequested();
            return prompt(some);
        }
    }
}
