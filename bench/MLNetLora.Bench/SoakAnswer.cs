using System.Globalization;
using System.Text;
using System.Text.Json;

namespace MLNetLora.Bench;

/// <summary>An answer without what differs each time it is asked for, the same whether it was streamed or not.</summary>
/// <param name="Text">Texts, calls, tokens, reasons and usage; must be equal.</param>
/// <param name="Numbers">Log probabilities; must be close, as sums in another order are.</param>
internal sealed record SoakAnswer(string Text, double[] Numbers)
{
    private const double Tolerance = 2e-3;

    /// <summary>Whether another answer says the same.</summary>
    public bool IsSame(SoakAnswer other) =>
        Text == other.Text && Numbers.Length == other.Numbers.Length && Numbers.Zip(other.Numbers).All(pair => Math.Abs(pair.First - pair.Second) <= Tolerance);

    /// <summary>Where another answer says something else; for people.</summary>
    public string Difference(SoakAnswer other)
    {
        const int around = 60;
        int place = Text.Zip(other.Text).TakeWhile(pair => pair.First == pair.Second).Count();
        if (place == Text.Length && place == other.Text.Length)
        {
            return Numbers.Length != other.Numbers.Length
                ? $"{Numbers.Length} and {other.Numbers.Length} log probabilities"
                : $"log probabilities differ by {Numbers.Zip(other.Numbers).Max(pair => Math.Abs(pair.First - pair.Second)):G3}";
        }

        string Part(string text) => text[Math.Max(0, place - around)..Math.Min(text.Length, place + around)].ReplaceLineEndings("\\n");
        return $"from character {place} of {Text.Length}: ...{Part(Text)}... and ...{Part(other.Text)}...";
    }

    /// <summary>Reads the body of a response.</summary>
    /// <param name="body">JSON, or server-sent events.</param>
    /// <param name="model">The name that was asked for.</param>
    /// <param name="isStream">Which of both it must be.</param>
    /// <exception cref="FormatException">It is not whole, or has parts of another answer.</exception>
    public static SoakAnswer Parse(string body, string model, bool isStream)
    {
        try
        {
            SoakAnswerReader reader = new(model);
            if (isStream)
            {
                Events(body, reader);
            }
            else
            {
                using JsonDocument document = JsonDocument.Parse(body);
                reader.Add(document.RootElement, "message");
            }

            return reader.End();
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException or KeyNotFoundException)
        {
            throw new FormatException($"not an answer: {error.Message}", error);
        }
    }

    private static void Events(string body, SoakAnswerReader reader)
    {
        const string end = "data: [DONE]\n\n";
        if (!body.EndsWith(end, StringComparison.Ordinal))
        {
            throw new FormatException("the stream does not end with [DONE]");
        }

        foreach (string line in body[..^end.Length].Split('\n').Where(line => line.Length > 0 && line[0] != ':'))
        {
            if (!line.StartsWith("data: ", StringComparison.Ordinal))
            {
                throw new FormatException($"a line of the stream is no event: {line}");
            }

            using JsonDocument document = JsonDocument.Parse(line.AsMemory(6));
            reader.Add(document.RootElement, "delta");
        }
    }
}

/// <summary>Puts the pieces of an answer together.</summary>
internal sealed class SoakAnswerReader(string model)
{
    private readonly SortedDictionary<int, Choice> _choices = [];
    private string? _id;
    private string? _usage;

    /// <summary>A whole answer, or a piece of one.</summary>
    public void Add(JsonElement part, string messageName)
    {
        if (part.TryGetProperty("error", out JsonElement error))
        {
            throw new FormatException($"the stream ends with an error: {error}");
        }

        string id = part.GetProperty("id").GetString()!;
        if (part.GetProperty("model").GetString() != model || (_id ?? id) != id)
        {
            throw new FormatException($"a part of another answer: {part}");
        }

        _id = id;
        if (part.TryGetProperty("usage", out JsonElement usage) && usage.ValueKind == JsonValueKind.Object)
        {
            int prompt = usage.GetProperty("prompt_tokens").GetInt32();
            int completion = usage.GetProperty("completion_tokens").GetInt32();
            _usage = usage.GetProperty("total_tokens").GetInt32() == prompt + completion ? $"{prompt}+{completion}" : $"wrong sum {usage}";
        }

        foreach (JsonElement choice in part.GetProperty("choices").EnumerateArray())
        {
            int index = choice.GetProperty("index").GetInt32();
            if (!_choices.TryGetValue(index, out Choice? answer))
            {
                _choices[index] = answer = new Choice();
            }

            answer.Add(choice, messageName);
        }
    }

    /// <summary>The answer.</summary>
    /// <exception cref="FormatException">It is not whole.</exception>
    public SoakAnswer End()
    {
        StringBuilder text = new();
        foreach ((int index, Choice choice) in _choices)
        {
            if (choice.Finish.Length == 0 || !_choices.ContainsKey(0) || index >= _choices.Count)
            {
                throw new FormatException($"choice {index} has no end, or others are missing");
            }

            text.Append(CultureInfo.InvariantCulture, $"[{index}] {JsonSerializer.Serialize(choice.Content.ToString())} {choice.Finish}");
            text.Append(choice.Thinking.Length > 0 ? $" thinking {JsonSerializer.Serialize(choice.Thinking.ToString())}" : "");
            text.AppendJoin("", choice.Calls.Select(call => $" call {call}"));
            text.Append(choice.Tokens.Length > 0 ? $" tokens{choice.Tokens}" : "").Append(choice.Offsets.Length > 0 ? $" at{choice.Offsets}" : "").Append('\n');
        }

        text.Append(CultureInfo.InvariantCulture, $"usage {_usage}");
        return new SoakAnswer(text.ToString(), [.. _choices.Values.SelectMany(choice => choice.Numbers.Concat(choice.Likeliest))]);
    }

    private sealed class Choice
    {
        public StringBuilder Content { get; } = new();

        public StringBuilder Thinking { get; } = new();

        public StringBuilder Tokens { get; } = new();

        public StringBuilder Offsets { get; } = new();

        public List<string> Calls { get; } = [];

        public List<double> Numbers { get; } = [];

        public List<double> Likeliest { get; } = [];

        public string Finish { get; private set; } = "";

        public void Add(JsonElement choice, string messageName)
        {
            if (Finish.Length > 0)
            {
                throw new FormatException($"something follows an end: {choice}");
            }

            Finish = choice.GetProperty("finish_reason").GetString() ?? "";
            if (choice.TryGetProperty(messageName, out JsonElement message))
            {
                Content.Append(Text(message, "content"));
                Thinking.Append(Text(message, "reasoning_content"));
                if (message.TryGetProperty("tool_calls", out JsonElement calls) && calls.ValueKind == JsonValueKind.Array)
                {
                    Calls.AddRange(calls.EnumerateArray().Select(call => call.GetProperty("function").ToString()));
                }
            }
            else
            {
                Content.Append(choice.GetProperty("text").GetString());
            }

            if (choice.TryGetProperty("logprobs", out JsonElement logprobs) && logprobs.ValueKind == JsonValueKind.Object)
            {
                AddLogprobs(logprobs);
            }
        }

        private void AddLogprobs(JsonElement logprobs)
        {
            if (logprobs.TryGetProperty("content", out JsonElement content))
            {
                foreach (JsonElement token in content.EnumerateArray())
                {
                    Tokens.Append(' ').Append(JsonSerializer.Serialize(token.GetProperty("token").GetString()));
                    Numbers.Add(token.GetProperty("logprob").GetDouble());
                    Likeliest.AddRange(token.TryGetProperty("top_logprobs", out JsonElement top) && top.ValueKind == JsonValueKind.Array
                        ? top.EnumerateArray().Select(other => other.GetProperty("logprob").GetDouble()) : []);
                }

                return;
            }

            Tokens.AppendJoin("", logprobs.GetProperty("tokens").EnumerateArray().Select(token => " " + JsonSerializer.Serialize(token.GetString())));
            Offsets.AppendJoin("", logprobs.GetProperty("text_offset").EnumerateArray().Select(place => " " + place.GetRawText()));
            Numbers.AddRange(logprobs.GetProperty("token_logprobs").EnumerateArray().Where(IsNumber).Select(number => number.GetDouble()));
            Likeliest.AddRange(logprobs.GetProperty("top_logprobs").EnumerateArray().Where(top => top.ValueKind == JsonValueKind.Object)
                .SelectMany(top => top.EnumerateObject().Select(other => other.Value.GetDouble()).OrderDescending()));
        }

        private static bool IsNumber(JsonElement value) => value.ValueKind == JsonValueKind.Number;

        private static string? Text(JsonElement message, string name) =>
            message.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;
    }
}
