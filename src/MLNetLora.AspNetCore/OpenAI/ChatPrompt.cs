using MLNetLora.Text;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>Makes a conversation of a request's messages.</summary>
internal static class ChatPrompt
{
    /// <summary>The conversation.</summary>
    /// <param name="body">The request.</param>
    /// <param name="ignoreUnknown">Whether fields that nobody knows are passed over.</param>
    /// <exception cref="ApiException">A message cannot be.</exception>
    public static Conversation Read(ChatRequestBody body, bool ignoreUnknown)
    {
        IReadOnlyList<ChatRequestMessage?> messages = Field.Required("messages", body.Messages);
        Field.Require(messages.Count > 0, "messages", "'messages' is empty: nobody asks anything.");
        bool continues = Continues(body);
        ChatMessage[] turns = [.. messages.Select((message, i) => Message(message, $"messages[{i}]", ignoreUnknown))];
        RequireEnd(turns, continues);
        int system = turns.TakeWhile(turn => turn.Role == "system").Count();
        if (system < 2)
        {
            return new Conversation(turns);
        }

        // Templates know one system message, at the beginning: those that come first become one.
        return new Conversation([ChatMessage.System(string.Join("\n\n", turns.Take(system).Select(turn => turn.Content))), .. turns.Skip(system)]);
    }

    /// <summary>Whether the assistant's message at the end is gone on with.</summary>
    /// <param name="body">The request.</param>
    /// <exception cref="ApiException">Two fields say two things.</exception>
    public static bool Continues(ChatRequestBody body)
    {
        bool continues = body.ContinueFinalMessage ?? false;
        Field.Require(
            !continues || body.AddGenerationPrompt != true,
            "add_generation_prompt",
            "'add_generation_prompt' and 'continue_final_message' are both true: a message that is gone on with has no new one behind it.");
        return continues || body.AddGenerationPrompt != false
            ? continues
            : throw Field.Unsupported("add_generation_prompt", "'add_generation_prompt' is false; it is only with 'continue_final_message'.");
    }

    private static void RequireEnd(ChatMessage[] turns, bool continues)
    {
        string last = $"messages[{turns.Length - 1}]";
        if (continues)
        {
            Field.Require(
                turns[^1].Role == "assistant", last, $"'{last}' is not the assistant's, so there is no message that 'continue_final_message' could mean.");
            Field.Require(turns[^1].ToolCalls is null, last, $"'{last}' calls tools, which cannot be gone on with: let the tools' messages follow.");
        }
        else
        {
            Field.Require(
                turns[^1].Role != "assistant",
                last,
                $"'{last}' is the assistant's, so nobody asks anything. Set 'continue_final_message' to have it gone on with.");
        }
    }

    private static ChatMessage Message(ChatRequestMessage? given, string where, bool ignoreUnknown)
    {
        ChatRequestMessage message = Field.Required(where, given);
        OtherFields.Require(message, $"{where}.", ignoreUnknown);
        string role = Field.Required($"{where}.role", message.Role) switch
        {
            "developer" => "system", // what OpenAI calls it for models that think
            "system" or "user" or "assistant" or "tool" => message.Role!,
            string other => throw Field.Invalid(
                $"{where}.role", $"'{where}.role' is '{ApiError.Shown(other)}'; it must be system, developer, user, assistant or tool."),
        };
        ToolCall[] calls = [.. (message.ToolCalls ?? []).Select((call, i) => Call(call, $"{where}.tool_calls[{i}]", ignoreUnknown))];
        Only("assistant", calls.Length > 0, "tool_calls");
        Only("assistant", message.ReasoningContent is not null, "reasoning_content");
        Only("tool", message.ToolCallId is not null, "tool_call_id");
        string? content = message.Content is null ? null : Content(message.Content, $"{where}.content", ignoreUnknown);
        if (content is null && calls.Length == 0)
        {
            throw new ApiException(ApiError.Missing($"{where}.content"));
        }

        return new ChatMessage(role, content)
        {
            Name = message.Name,
            Thinking = message.ReasoningContent,
            ToolCalls = calls.Length > 0 ? calls : null,
            ToolCallId = message.ToolCallId,
        };

        void Only(string whose, bool given, string field) => Field.Require(
            !given || role == whose, $"{where}.{field}", $"'{where}.{field}' stands in a message of the role '{role}'; only '{whose}' has it.");
    }

    private static string Content(MessageContent content, string where, bool ignoreUnknown)
    {
        if (content.Text is { } text)
        {
            return text;
        }

        for (int i = 0; i < content.Parts!.Count; i++)
        {
            ContentPart part = content.Parts[i];
            if (Field.Required($"{where}[{i}].type", part.Type) is not "text" and string type)
            {
                throw Field.Unsupported($"{where}[{i}].type", $"'{where}[{i}].type' is '{ApiError.Shown(type)}'; the models here read text alone.");
            }

            OtherFields.Require(part, $"{where}[{i}].", ignoreUnknown);
            Field.Required<string>($"{where}[{i}].text", part.Text);
        }

        return string.Concat(content.Parts.Select(part => part.Text));
    }

    private static ToolCall Call(ToolCallMessage? given, string where, bool ignoreUnknown)
    {
        ToolCallMessage call = Field.Required(where, given);
        OtherFields.Require(call, $"{where}.", ignoreUnknown);
        Field.Require(call.Type is null or "function", $"{where}.type", $"'{where}.type' must be function.");
        CalledFunction function = Field.Required($"{where}.function", call.Function);
        OtherFields.Require(function, $"{where}.function.", ignoreUnknown);
        return new ToolCall(
            Field.Required($"{where}.function.name", function.Name),
            Field.Required<string>($"{where}.function.arguments", function.Arguments),
            call.Id);
    }
}
