using System.Buffers;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using MLNetLora.Inference;
using MLNetLora.Text;

namespace MLNetLora.Cli.Output;

/// <summary>An answer as a line of JSON.</summary>
internal static class AnswerJson
{
    private static readonly JsonWriterOptions s_options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>The line, without its end: the row's fields, then answer, thinking where there was any, finish_reason, prompt_tokens, new_tokens, tokens where
    /// log probabilities were asked for; for a row that could not be answered error in their place.</summary>
    public static string Of(TextRow row, GeneratedText answer)
    {
        ArrayBufferWriter<byte> buffer = new();
        using (Utf8JsonWriter json = new(buffer, s_options))
        {
            json.WriteStartObject();
            if (row.Instruction is { } instruction)
            {
                json.WriteString("instruction", instruction.Instruction);
                Optional(json, "input", instruction.Input);
                Optional(json, "output", instruction.Output);
            }
            else if (row.Conversation is { } conversation)
            {
                using JsonDocument messages = JsonDocument.Parse(ConversationJson.Write(conversation));
                json.WritePropertyName("messages");
                messages.RootElement.GetProperty("messages").WriteTo(json);
            }

            if (answer.Error is { } error)
            {
                json.WriteString("error", error.Message);
            }
            else
            {
                json.WriteString("answer", answer.Text);
                Optional(json, "thinking", answer.Thinking);
                json.WriteString("finish_reason", answer.Reason == FinishReason.Stop ? "stop" : "length");
                json.WriteNumber("prompt_tokens", answer.PromptTokens);
                json.WriteNumber("new_tokens", answer.NewTokens);
                WriteTokens(json, answer);
            }

            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(buffer.WrittenSpan);
    }

    /// <summary>Writes the tokens of an answer whose log probabilities were asked for: id, token, logprob, and the same of the likeliest ones in top.</summary>
    public static void WriteTokens(Utf8JsonWriter json, GeneratedText answer)
    {
        if (answer.Tokens is not { } tokens)
        {
            return;
        }

        json.WriteStartArray("tokens");
        foreach (GeneratedToken token in tokens)
        {
            Begin(json, token.Id, token.Text, token.Logprob);
            if (token.Top.Count > 0)
            {
                json.WriteStartArray("top");
                foreach (TokenLogprob top in token.Top)
                {
                    Begin(json, top.Id, top.Text, top.Logprob);
                    json.WriteEndObject();
                }

                json.WriteEndArray();
            }

            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void Begin(Utf8JsonWriter json, int id, string text, float logprob)
    {
        json.WriteStartObject();
        json.WriteNumber("id", id);
        json.WriteString("token", text);
        json.WriteNumber("logprob", logprob);
    }

    private static void Optional(Utf8JsonWriter json, string name, string? text)
    {
        if (!string.IsNullOrEmpty(text))
        {
            json.WriteString(name, text);
        }
    }
}
