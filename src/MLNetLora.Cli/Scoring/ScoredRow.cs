using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using MLNetLora.Inference;
using MLNetLora.Text;

namespace MLNetLora.Cli.Scoring;

/// <summary>
/// A line of the answers' file: row, the row's own fields as they are written, then answer, thinking where there was any, finish_reason, prompt_tokens,
/// new_tokens and, where asked for, tokens, or error in their place. A field of the row that has one of these names gets data_ before it.
/// </summary>
internal static class ScoredRow
{
    private static readonly string[] s_names = ["row", "answer", "thinking", "finish_reason", "prompt_tokens", "new_tokens", "tokens", "error"];
    private static readonly JsonWriterOptions s_options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>The line with its end.</summary>
    /// <param name="question">The row.</param>
    /// <param name="answer">What was answered; null where nothing could be asked.</param>
    /// <param name="error">Why there is no answer; null where there is one.</param>
    public static byte[] Of(QuestionRow question, GeneratedText? answer, MLNetLoraException? error)
    {
        ArrayBufferWriter<byte> line = new();
        line.Write(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{{\"row\":{question.Number + 1}")));
        if (question.Fields is { } fields)
        {
            WriteFields(line, Encoding.UTF8.GetBytes(fields));
        }

        ArrayBufferWriter<byte> rest = new();
        using (Utf8JsonWriter json = new(rest, s_options))
        {
            json.WriteStartObject();
            if (question is { Fields: null, Row.Instruction: { } instruction })
            {
                json.WriteString("instruction", UnicodeText.ReplaceUnpairedSurrogates(instruction.Instruction, out _));
            }

            WriteAnswer(json, answer, error);
            json.WriteEndObject();
        }

        line.Write(","u8);
        line.Write(rest.WrittenSpan[1..]);
        line.Write("\n"u8);
        return line.WrittenSpan.ToArray();
    }

    /// <summary>Reads the beginning and the end of a line.</summary>
    /// <param name="line">The line without its end.</param>
    /// <returns>The number of its row, from 0, and whether it has an error in the place of an answer; null where it is no such line.</returns>
    public static (long Row, bool IsError)? Read(ReadOnlySpan<byte> line)
    {
        try
        {
            Utf8JsonReader json = new(line);
            if (!json.Read() || json.TokenType != JsonTokenType.StartObject || !json.Read() || !json.ValueTextEquals("row"u8)
                || !json.Read() || !json.TryGetInt64(out long row))
            {
                return null;
            }

            bool? isError = null;
            while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
            {
                isError = json.ValueTextEquals("error"u8) ? true : json.ValueTextEquals("answer"u8) ? false : isError;
                json.Skip();
            }

            return isError is { } known && !json.Read() ? (row - 1, known) : null;
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)
        {
            return null; // half of a line, or none of ours
        }
    }

    private static void WriteAnswer(Utf8JsonWriter json, GeneratedText? answer, MLNetLoraException? error)
    {
        if (error is not null || answer is null)
        {
            json.WriteString("error", UnicodeText.ReplaceUnpairedSurrogates(error?.Message ?? "There is no answer.", out _));
            return;
        }

        json.WriteString("answer", answer.Text);
        if (!string.IsNullOrEmpty(answer.Thinking))
        {
            json.WriteString("thinking", answer.Thinking);
        }

        json.WriteString("finish_reason", answer.Reason == FinishReason.Stop ? "stop" : "length");
        json.WriteNumber("prompt_tokens", answer.PromptTokens);
        json.WriteNumber("new_tokens", answer.NewTokens);
        Output.AnswerJson.WriteTokens(json, answer);
    }

    /// <summary>Writes the fields of a JSON object as they are, on one line.</summary>
    private static void WriteFields(ArrayBufferWriter<byte> line, byte[] fields)
    {
        HashSet<string> taken = [.. s_names];
        Utf8JsonReader json = new(fields);
        json.Read();
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            ReadOnlySpan<byte> name = json.ValueSpan;
            string prefix = "";
            while (!taken.Add(prefix + Encoding.UTF8.GetString(name)))
            {
                prefix += "data_";
            }

            line.Write(",\""u8);
            line.Write(Encoding.UTF8.GetBytes(prefix));
            line.Write(name);
            line.Write("\":"u8);
            json.Read();
            int start = (int)json.TokenStartIndex;
            json.Skip();
            WriteOnOneLine(line, fields.AsSpan(start, (int)json.BytesConsumed - start));
        }
    }

    /// <summary>Writes JSON without the white space between its parts.</summary>
    private static void WriteOnOneLine(ArrayBufferWriter<byte> line, ReadOnlySpan<byte> json)
    {
        Span<byte> written = line.GetSpan(json.Length);
        int length = 0;
        bool isText = false;
        for (int i = 0; i < json.Length; i++)
        {
            byte one = json[i];
            if (!isText && one is (byte)' ' or (byte)'\n' or (byte)'\r' or (byte)'\t')
            {
                continue;
            }

            written[length++] = one;
            if (isText && one == '\\')
            {
                written[length++] = json[++i];
            }
            else if (one == '"')
            {
                isText = !isText;
            }
        }

        line.Advance(length);
    }
}
