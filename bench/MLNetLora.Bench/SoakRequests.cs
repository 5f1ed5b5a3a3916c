using System.Text.Json.Nodes;

namespace MLNetLora.Bench;

/// <summary>A request whose answer is known.</summary>
/// <param name="Id">Its place in the set.</param>
/// <param name="Kind">What it tries.</param>
/// <param name="Path">chat/completions or completions.</param>
/// <param name="Fields">Its body without model and stream.</param>
internal sealed record SoakRequest(int Id, string Kind, string Path, JsonObject Fields)
{
    /// <summary>Its body.</summary>
    public string Body(string model, bool isStream)
    {
        JsonObject body = (JsonObject)Fields.DeepClone();
        body["model"] = model;
        if (isStream)
        {
            body["stream"] = true;
            body["stream_options"] = new JsonObject { ["include_usage"] = true };
        }

        return body.ToJsonString();
    }
}

/// <summary>The fixed set of requests: the same in each run, so that answers can be looked up.</summary>
internal static class SoakRequests
{
    private const string Schema = """
        {"type": "json_schema", "json_schema": {"name": "order", "strict": true, "schema": {"type": "object", "additionalProperties": false,
          "properties": {"item": {"type": "string", "maxLength": 12}, "count": {"type": "integer", "minimum": 1, "maximum": 99},
            "state": {"enum": ["new", "paid", "sent"]}, "tags": {"type": "array", "maxItems": 2, "items": {"type": "string", "maxLength": 6}}},
          "required": ["item", "count", "state"]}}}
        """;

    private const string Tools = """
        [{"type": "function", "function": {"name": "weather", "description": "The weather of a city", "strict": true, "parameters": {"type": "object",
            "additionalProperties": false, "properties": {"city": {"enum": ["Berlin", "Paris", "Beijing"]}, 
            "days": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["city", "days"]}}},
         {"type": "function", "function": {"name": "clock", "description": "The time", "parameters": {"type": "object", "properties": {}}}}]
        """;

    private static readonly string[] s_questions =
    [
        "Name three colours.", "Who are you?", "What is the capital of France?", "请介绍一下你自己。", "Write a sentence about rain.",
        "How do I boil an egg?",
        "Give me a tip for sleeping well.", "北京有什么好吃的？", "What is a prime number?", "Say hello in Chinese.",
        "Tell me a short story about a cat.",
    ];

    private static readonly string[] s_words =
    [
        "order", "customer", "Monday", "delivery", "price", "returned", "because", "open", "street", "number", "question", "answer", "late", "people", "water",
        "machine", "learning", "system", "language", "good", "time", "world", "city", "health", "energy", "天气", "我们", "公司", "学习", "时间",
    ];

    /// <summary>Makes it.</summary>
    public static IReadOnlyList<SoakRequest> Make()
    {
        Random random = new(5);
        List<SoakRequest> set = [];
        string common = Words(110); // several that begin alike, for the prefix cache
        string other = Words(60);
        for (int i = 0; i < 6; i++)
        {
            Chat("greedy", $$"""{"max_tokens": {{random.Next(4, 48)}}, "temperature": 0}""", Ask());
            Chat("greedy, known beginning", $$"""{"max_tokens": {{random.Next(4, 32)}}, "temperature": 0}""", Ask(common));
            Chat("sampled", $$"""{"max_tokens": {{random.Next(8, 40)}}, "temperature": 1.1, "top_p": 0.95, "seed": {{random.Next(1000)}} }""",
                Ask(i % 2 == 0 ? null : other));
        }

        for (int i = 0; i < 3; i++)
        {
            Chat("n > 1", $$"""{"max_tokens": 16, "n": {{i + 2}}, "temperature": 1.3, "seed": {{random.Next(1000)}} }""", Ask(i == 0 ? null : common));
            Chat("schema", $$"""{"max_tokens": 60, "temperature": {{i % 2}}, "seed": {{i}}, "response_format": {{Schema}} }""", Ask());
            Chat("stop", """{"max_tokens": 40, "temperature": 0, "stop": ["e", "，", " the"], "min_tokens": 3}""", Ask());
            Chat("logprobs", $$"""{"max_tokens": 12, "temperature": 0, "logprobs": true, "top_logprobs": {{i * 3}} }""", Ask());
            Chat("penalties", $$"""
                {"max_tokens": 24, "temperature": 0, "presence_penalty": 0.7, "frequency_penalty": 0.4, "repetition_penalty": 1.2,
                 "logit_bias": {"{{300 + i}}": 4} }
                """, Ask());
            Completion("text", """{"max_tokens": 20, "temperature": 0}""", Words(random.Next(3, 90)));
            Completion("text, sampled", $$"""{"max_tokens": 20, "temperature": 0.9, "top_k": 40, "min_p": 0.02, "seed": {{i}} }""", Words(random.Next(3, 30)));
            Completion("token ids", """{"max_tokens": 12, "temperature": 0, "ignore_eos": true}""", new JsonArray([.. Ids(random.Next(2, 200))]));
        }

        Completion("several prompts", """{"max_tokens": 10, "temperature": 0}""", new JsonArray([Words(4), Words(40), Words(11)]));
        Completion("several prompts", """{"max_tokens": 9, "temperature": 1, "seed": 3, "n": 2}""", new JsonArray([Words(9), Words(2)]));
        Completion("echo, logprobs", """{"max_tokens": 5, "temperature": 0, "echo": true, "logprobs": 2}""", Words(20));
        Completion("logprobs of many", """{"max_tokens": 60, "temperature": 1.2, "seed": 9, "logprobs": 20, "n": 6, "ignore_eos": true}""", Words(8));
        Chat("goes on", """{"max_tokens": 16, "temperature": 0, "continue_final_message": true, "add_generation_prompt": false}""",
            new JsonArray(Message("user", "Name three colours."), Message("assistant", "The colours are")));
        Chat("tools", $$"""{"max_tokens": 60, "temperature": 0, "tools": {{Tools}}, "tool_choice": "required"}""", Ask());
        Chat("tools", $$"""
            {"max_tokens": 60, "temperature": 1, "seed": 4, "tools": {{Tools}}, "tool_choice": {"type": "function", "function": {"name": "weather"} } }
            """, Ask());
        Chat("tools", $$"""{"max_tokens": 20, "temperature": 0, "tools": {{Tools}} }""", Ask());
        return set;

        string Words(int count) => string.Join(' ', Enumerable.Range(0, count).Select(_ => s_words[random.Next(s_words.Length)]));

        IEnumerable<JsonNode> Ids(int count) => Enumerable.Range(0, count).Select(_ => (JsonNode)random.Next(300, 5000));

        JsonArray Ask(string? system = null)
        {
            JsonArray messages = [];
            if (system is not null)
            {
                messages.Add((JsonNode)Message("system", system));
            }

            messages.Add((JsonNode)Message("user", s_questions[random.Next(s_questions.Length)]));
            return messages;
        }

        void Chat(string kind, string fields, JsonArray messages) => Add("chat " + kind, "chat/completions", fields, "messages", messages);

        void Completion(string kind, string fields, JsonNode prompt) => Add(kind, "completions", fields, "prompt", prompt);

        void Add(string kind, string path, string fields, string name, JsonNode value)
        {
            JsonObject body = JsonNode.Parse(fields)!.AsObject();
            body[name] = value;
            set.Add(new SoakRequest(set.Count, kind, path, body));
        }
    }

    private static JsonObject Message(string role, string content) => new() { ["role"] = role, ["content"] = content };
}
