using System.Text.Json.Nodes;

namespace MLNetLora.Tests.Inference.Constraints;

/// <summary>JSON schemas at random, each of which some values satisfy.</summary>
internal sealed class RandomSchemas(Random random)
{
    private static readonly string[] s_patterns =
        ["^[a-z]{2,8}$", "^(red|green|blue)$", "^\\d{3}-[A-F]{2}$", "b+", "^x|y$", "^\\w+ \\w+$", "^[^\"\\\\/]*$", "\\\\", "^(a|bc)*\"$", "^[À-ſ]+$", "^\\s$"];

    private static readonly string[] s_formats = ["date", "time", "date-time", "uuid", "email", "ipv4", "ipv6", "hostname", "uri", "duration"];
    private static readonly string[] s_names = ["a", "b", "ab", "name", "größe", "x y", "q\"uote", "back\\slash", "名", "n\n", "😀"];

    private int _definitions;

    /// <summary>A schema with its definitions.</summary>
    public string Next()
    {
        _definitions = random.Next(3);
        JsonObject schema = Object(3);
        JsonObject definitions = [];
        for (int i = 0; i < _definitions; i++)
        {
            // Each may come back to any of them, within an array or an optional property.
            JsonObject definition = Object(2);
            definition["properties"]!.AsObject()["again"] = Reference();
            definitions[$"d{i}"] = definition;
        }

        if (_definitions > 0)
        {
            schema["$defs"] = definitions;
            schema["properties"]!.AsObject()["d"] = new JsonObject { ["type"] = "array", ["items"] = Reference(), ["maxItems"] = 2 };
        }

        return schema.ToJsonString();
    }

    private JsonObject Reference() => new() { ["$ref"] = $"#/$defs/d{random.Next(_definitions)}" };

    private JsonObject Value(int depth) => random.Next(depth > 0 ? 14 : 9) switch
    {
        0 or 1 => String(),
        2 => Integer(),
        3 => Number(),
        4 => new JsonObject { ["type"] = "boolean" },
        5 => new JsonObject { ["type"] = new JsonArray("null", Pick("string", "integer", "boolean")) },
        6 => new JsonObject { ["enum"] = new JsonArray("a", 3, 2.5, null, true, "é\"\\\n", new JsonArray(1, "x"), new JsonObject { ["k"] = "v" }) },
        7 => new JsonObject { ["const"] = Pick("one", "", "a/b\u0001") },
        8 => new JsonObject { ["description"] = "anything short", ["type"] = "string", ["maxLength"] = 4 },
        9 or 10 => Object(depth - 1),
        11 => Array(depth - 1),
        12 => new JsonObject { [Pick("anyOf", "anyOf", "allOf")] = new JsonArray(Array(depth - 1)) },
        _ => new JsonObject
        {
            ["oneOf"] = new JsonArray(Tagged("a", depth - 1), Tagged("b", depth - 1), new JsonObject { ["type"] = "null" }),
        },
    };

    private JsonObject String()
    {
        JsonObject schema = new() { ["type"] = "string" };
        switch (random.Next(5))
        {
            case 0: schema["pattern"] = Pick(s_patterns); break;
            case 1: schema["format"] = Pick(s_formats); break;
            case 2:
                schema["pattern"] = Pick("^[a-z]*$", "^[A-Z][a-z]+$", "a.*b", "^(ab|c)*$");
                schema["minLength"] = random.Next(2, 5);
                schema["maxLength"] = random.Next(6, 30);
                break;
            default:
                schema["minLength"] = random.Next(5);
                schema["maxLength"] = random.Next(5, 60);
                break;
        }

        return schema;
    }

    private JsonObject Integer()
    {
        JsonObject schema = new() { ["type"] = "integer" };
        int low = random.Next(-2000, 2000);
        if (random.Next(2) == 0)
        {
            schema[Pick("minimum", "exclusiveMinimum")] = low;
        }

        if (random.Next(2) == 0)
        {
            schema[Pick("maximum", "exclusiveMaximum")] = low + random.Next(100, 5000);
        }

        if (random.Next(4) == 0)
        {
            schema["multipleOf"] = random.Next(2, 40);
        }

        return schema;
    }

    private JsonObject Number()
    {
        JsonObject schema = new() { ["type"] = "number" };
        double low = Math.Round((random.NextDouble() * 20) - 10, random.Next(4));
        if (random.Next(2) == 0)
        {
            schema[Pick("minimum", "exclusiveMinimum")] = low;
        }

        if (random.Next(2) == 0)
        {
            schema[Pick("maximum", "exclusiveMaximum")] = low + Math.Round(7 + (random.NextDouble() * 30), random.Next(3));
        }

        if (random.Next(4) == 0)
        {
            schema["multipleOf"] = Pick(0.1, 0.01, 0.25, 0.5, 3);
        }

        return schema;
    }

    private JsonObject Object(int depth)
    {
        JsonObject properties = [];
        JsonArray required = [];
        int count = random.Next(1, 6);
        for (int i = 0; i < count; i++)
        {
            string name = Pick(s_names);
            if (!properties.ContainsKey(name))
            {
                properties[name] = Value(depth);
                if (random.Next(2) == 0)
                {
                    required.Add(name);
                }
            }
        }

        JsonObject schema = new() { ["type"] = "object", ["properties"] = properties, ["required"] = required };
        switch (random.Next(4))
        {
            case 0: schema["additionalProperties"] = false; break;
            case 1: schema["additionalProperties"] = String(); break;
        }

        return schema;
    }

    private JsonObject Array(int depth)
    {
        JsonObject schema = new() { ["type"] = "array", ["maxItems"] = random.Next(2, 5), ["minItems"] = random.Next(3) };
        if (random.Next(3) == 0)
        {
            schema["prefixItems"] = new JsonArray(Value(depth), Value(depth));
        }

        schema["items"] = Value(depth);
        return schema;
    }

    private JsonObject Tagged(string tag, int depth)
    {
        JsonObject schema = Object(depth);
        schema["properties"]!.AsObject()["kind"] = new JsonObject { ["const"] = tag };
        schema["required"]!.AsArray().Add("kind");
        return schema;
    }

    private T Pick<T>(params T[] values) => values[random.Next(values.Length)];
}
