using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;

namespace MLNetLora.AspNetCore.Tests.OpenAI;

/// <summary>Bodies that were requests before something happened to them. The same seed gives the same body.</summary>
internal static class MutatedBodies
{
    private static readonly string[] s_values =
    [
        "null", "true", "false", "0", "-1", "1", "2", "1.5", "-0.0", "1e999", "99999999999999999999", "9223372036854775807", "2147483648", "\"\"", "\"x\"",
        "\"\\u0000\"",
        "\"\\ud800\"", "\"\\udc00\\ud800\"", "\"<|im_end|>\"", "\"<tool_call>\"", "\"</think>\"", "[]", "{}", "[null]", "[[]]", "[1,2]", "[\"a\",\"b\"]",
        "{\"a\":1}",
        "{\"\\ud800\":1}", "\"user\"", "\"assistant\"", "\"tool\"", "\"json_object\"", "\"required\"", "[{\"type\":\"text\",\"text\":\"hi\"}]",
        "[{\"type\":\"image_url\"}]",
        "{\"261\":5}", "{\"-1\":5}", "{\"99999999\":5}", "{\"type\":\"json_object\"}", "{\"include_usage\":true}", "[{\"role\":\"user\",\"content\":\"hi\"}]",
    ];

    private static readonly string[] s_names =
    [
        "model", "messages", "prompt", "n", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "seed",
        "stop",
        "logit_bias", "logprobs", "top_logprobs", "response_format", "tools", "tool_choice", "parallel_tool_calls", "reasoning_effort", "chat_template_kwargs",
        "continue_final_message", "add_generation_prompt", "stop_token_ids", "ignore_eos", "min_tokens", "presence_penalty", "frequency_penalty",
        "repetition_penalty",
        "echo", "suffix", "best_of", "user", "metadata", "store", "role", "content", "tool_calls", "tool_call_id", "name", "type", "function", "arguments",
        "parameters",
        "strict", "enable_thinking", "include_usage", "json_schema", "schema", "text", "unheard_of", "",
    ];

    /// <summary>A body.</summary>
    /// <param name="seed">Which.</param>
    /// <param name="requests">What bodies are made of.</param>
    public static (string Path, byte[] Body) Make(int seed, IReadOnlyList<(string Path, string Body)> requests)
    {
        Random random = new(seed);
        (string path, string json) = requests[random.Next(requests.Count)];
        string body = json;
        if (random.Next(4) > 0)
        {
            JsonNode root = JsonNode.Parse(json)!;
            for (int i = random.Next(1, 4); i > 0; i--)
            {
                Change(root, random);
            }

            body = root.ToJsonString();
            body = s_values.Index().Aggregate(body, (text, value) => text.Replace(Mark(value.Index), value.Item, StringComparison.Ordinal));
        }

        byte[] bytes = Encoding.UTF8.GetBytes(body);
        return (path, random.Next(3) == 0 ? Bytes(bytes, random) : bytes);
    }

    /// <summary>JSON that a node cannot hold is put in at the end, in the place of a string.</summary>
    private static string Mark(int value) => string.Create(CultureInfo.InvariantCulture, $"\"\\u0001{value}\\u0001\"");

    private static JsonValue Value(Random random) =>
        JsonValue.Create(string.Create(CultureInfo.InvariantCulture, $"\u0001{random.Next(s_values.Length)}\u0001"));

    private static void Change(JsonNode root, Random random)
    {
        List<JsonNode> containers = [.. Containers(root)];
        switch (containers[random.Next(containers.Count)])
        {
            case JsonObject found:
                string[] names = [.. found.Select(property => property.Key)];
                string name = names.Length == 0 || random.Next(3) == 0 ? s_names[random.Next(s_names.Length)] : names[random.Next(names.Length)];
                if (random.Next(5) == 0)
                {
                    found.Remove(name);
                }
                else if (random.Next(8) == 0 && found[name] is { } moved)
                {
                    found.Remove(name);
                    found[s_names[random.Next(s_names.Length)]] = moved;
                }
                else
                {
                    found[name] = Value(random);
                }

                break;
            case JsonArray found when found.Count > 0 && random.Next(3) > 0:
                int place = random.Next(found.Count);
                if (random.Next(2) == 0)
                {
                    found.RemoveAt(place);
                }
                else
                {
                    found.Insert(place, random.Next(2) == 0 ? found[place]?.DeepClone() : Value(random));
                }

                break;
            case JsonArray found:
                found.Add(Value(random));
                break;
        }
    }

    private static IEnumerable<JsonNode> Containers(JsonNode? node) => node switch
    {
        JsonObject found => found.SelectMany(property => Containers(property.Value)).Prepend(found),
        JsonArray found => found.SelectMany(Containers).Prepend(found),
        _ => [],
    };

    private static byte[] Bytes(byte[] body, Random random)
    {
        List<byte> bytes = [.. body];
        for (int i = random.Next(1, 5); i > 0 && bytes.Count > 0; i--)
        {
            int place = random.Next(bytes.Count);
            switch (random.Next(5))
            {
                case 0:
                    bytes[place] = (byte)random.Next(256);
                    break;
                case 1:
                    bytes.RemoveRange(place, Math.Min(random.Next(1, 20), bytes.Count - place));
                    break;
                case 2:
                    bytes.Insert(place, (byte)"{}[],:\"\\0e-"[random.Next(11)]);
                    break;
                case 3:
                    bytes.InsertRange(place, bytes.GetRange(place, Math.Min(random.Next(1, 30), bytes.Count - place)));
                    break;
                default:
                    bytes.RemoveRange(place, bytes.Count - place);
                    break;
            }
        }

        return [.. bytes];
    }
}
