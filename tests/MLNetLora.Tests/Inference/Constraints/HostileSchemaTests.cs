using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json.Nodes;
using MLNetLora.Inference;
using MLNetLora.Inference.Constraints;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference.Constraints;

/// <summary>Schemas from outside: whatever they are, they are refused or held to, with bounded work.</summary>
public sealed class HostileSchemaTests
{
    public static TheoryData<string, string> Large => new()
    {
        { "deep", string.Concat(Enumerable.Repeat("{\"items\":", 120)) + "{}" + new string('}', 120) },
        { "deeper than is read", string.Concat(Enumerable.Repeat("{\"items\":", 5000)) + "{}" + new string('}', 5000) },
        { "required deeper than is written", string.Concat(Enumerable.Repeat("{\"minItems\":1,\"items\":", 100)) + "{}" + new string('}', 100) },
        { "wide", Object(3000, i => "{\"type\": \"integer\"}") },
        { "many constants", $"{{\"enum\": [{string.Join(',', Enumerable.Range(0, 20_000))}]}}" },
        { "long constants", $"{{\"enum\": [\"{new string('a', 100_000)}\", \"{new string('a', 99_000)}b\"]}}" },
        { "too large", $"{{\"const\": \"{new string('a', 1 << 20)}\"}}" },
        { "a chain of references", "{\"$ref\": \"#/$defs/d0\", \"$defs\": {" + string.Join(',', Enumerable.Range(0, 3000).Select(
            i => $"\"d{i}\": {{\"$ref\": \"#/$defs/d{i + 1}\"}}")) + ", \"d3000\": {\"type\": \"null\"}}}" },
        { "alternatives that multiply", "{\"allOf\": [" + string.Join(',', Enumerable.Repeat(
            "{\"anyOf\": [{\"minLength\": 1}, {\"minLength\": 2}, {\"minLength\": 3}]}", 20)) + "]}" },
        { "references that multiply", "{\"$ref\": \"#/$defs/d0\", \"$defs\": {" + string.Join(',', Enumerable.Range(0, 40).Select(
            i => $"\"d{i}\": {{\"allOf\": [{{\"$ref\": \"#/$defs/d{i + 1}\"}}, {{\"$ref\": \"#/$defs/d{i + 1}\"}}]}}")) + ", \"d40\": {\"type\": \"null\"}}}" },
        { "an ambiguous expression", "{\"pattern\": \"^(a|aa|(a*)*|a?){1,60}(a|b)*a(a|b){200}$\"}" },
        { "a long bound beside an expression", "{\"pattern\": \"^(ab|c)*$\", \"maxLength\": 1000000}" },
        { "a large bound", "{\"type\": \"string\", \"minLength\": 2000000000}" },
        { "many items", "{\"type\": \"array\", \"minItems\": 2000000000, \"items\": {\"type\": \"null\"}}" },
        { "numbers beyond all bounds", "{\"type\": \"integer\", \"minimum\": -1e400, \"maximum\": 1e300}" },
        { "numbers beyond what is written", "{\"type\": \"number\", \"minimum\": 1e30}" },
        { "half of a surrogate pair", "{\"properties\": {\"\\uD83D\": {}}}" },
        { "long names around many", "{\"properties\": {\"" + new string('n', 400_000) + "\": " + Object(30_000, i => "{}") + "}}" },
        { "long names around many, and an anchor", "{\"$ref\": \"#a\", \"$defs\": {\"" + new string('n', 400_000) + "\": "
            + Object(30_000, i => "{}") + "}}" },
        { "constants that are compared", "{\"allOf\": [" + string.Join(',', Enumerable.Range(0, 2).Select(
            list => $"{{\"enum\": [{string.Join(',', Enumerable.Range(list * 70_000, 70_000))}]}}")) + "]}" },
        { "constants that exclude each other", "{\"oneOf\": [" + string.Join(',', Enumerable.Range(0, 2).Select(
            list => $"{{\"enum\": [{string.Join(',', Enumerable.Range(list * 70_000, 70_000))}]}}")) + "]}" },
        { "many constants that are arrays", $"{{\"enum\": [{string.Join(',', Enumerable.Repeat("[]", 300_000))}]}}" },
        { "many that may be left out", Object(40_000, i => "{}") },
        { "many that are required", "{\"type\": \"object\", \"required\": [" + string.Join(',', Enumerable.Range(0, 40_000).Select(i => $"\"p{i}\""))
            + "], " + Object(40_000, i => "{}")[1..] },
        { "many parts beside many alternatives", "{\"anyOf\": [" + string.Join(',', Enumerable.Repeat("{}", 256)) + "], \"allOf\": ["
            + string.Join(',', Enumerable.Range(0, 20_000).Select(i => $"{{\"properties\": {{\"p{i}\": {{}}}}}}")) + "]}" },
        { "a large one that is named often", "{\"allOf\": [" + string.Join(',', Enumerable.Repeat("{\"$ref\": \"#/$defs/d\"}", 20_000))
            + "], \"$defs\": {\"d\": {" + string.Join(',', Enumerable.Range(0, 30_000).Select(i => $"\"x{i}\": 0")) + "}}}" },
        { "many branches that nothing satisfies", "{\"oneOf\": [" + string.Join(',', Enumerable.Repeat("false", 150_000)) + "]}" },
        { "integers beyond all bounds, these not included", "{\"type\": \"integer\", \"exclusiveMinimum\": 1e300}" },
        { "integers below all bounds, these not included", "{\"type\": \"integer\", \"exclusiveMaximum\": -1e300}" },
        { "classes of many characters", Object(60, i => $"{{\"pattern\": \"[{Apart(8000, i)}]\"}}") },
        { "many classes of Unicode's", Object(100, i => "{\"pattern\": \"[" + string.Concat(Enumerable.Repeat(@"\\p{L}\\W", 800)) + "]\"}") },
        { "anchors before long texts", Object(100, i => "{\"pattern\": \"" + string.Concat(Enumerable.Repeat("(^|)", 9)) + new string('a', 7000) + "\"}") },
        { "many formats", Object(200, i => $"{{\"format\": \"uri\", \"maxLength\": {i + 50}}}") },
    };

    [Theory]
    [MemberData(nameof(Large))]
    public void A_large_schema_is_refused_or_held_to(string name, string schema)
    {
        Assert.NotEmpty(name);
        try
        {
            RandomAnswers.OverNano.Write(OutputConstraint.JsonSchema(schema), new Random(1), maximumTokens: 40);
        }
        catch (ConstraintException error)
        {
            Assert.InRange(error.Message.Length, 20, 1000);
        }
    }

    [Fact]
    public void A_schema_with_changes_at_random_is_refused_or_held_to()
    {
        Random random = new(3);
        RandomSchemas schemas = new(random);
        string[] pieces =
            ["null", "-1", "1e99", "\"\"", "[]", "{}", "true", "\"$ref\"", "\"#\"", "\"type\"", "\"items\"", ",", ":", "\"enum\"", "\"anyOf\"", "\\"];
        int held = 0;
        for (int i = 0; i < 500; i++)
        {
            StringBuilder schema = new(schemas.Next());
            string[] words = schema.ToString().Split('"');
            for (int change = random.Next(1, 3); change > 0; change--)
            {
                int at = random.Next(schema.Length);
                schema.Remove(at, Math.Min(schema.Length - at, random.Next(4)));
                schema.Insert(at, random.Next(2) == 0 ? pieces[random.Next(pieces.Length)] : words[random.Next(words.Length)]);
            }

            // One that is still JSON: a value in place of another.
            if (i % 2 == 0)
            {
                JsonNode root = JsonNode.Parse(schemas.Next())!;
                Change(root, random, pieces);
                schema = new StringBuilder(root.ToJsonString());
            }

            try
            {
                RandomAnswers.OverNano.Write(OutputConstraint.JsonSchema(schema.ToString()), random, maximumTokens: 30);
                held++;
            }
            catch (ConstraintException)
            {
            }
        }

        Assert.InRange(held, 20, 480);
    }

    [Fact]
    public void Many_threads_hold_to_one_schema()
    {
        string schema = new RandomSchemas(new Random(9)).Next();
        Parallel.For(0, 64, i =>
        {
            Random random = new(i);
            for (int answer = 0; answer < 3; answer++)
            {
                (byte[] bytes, bool hasEnded) = RandomAnswers.OverNano.Write(OutputConstraint.JsonSchema(schema), random, maximumTokens: 200);
                Assert.True(!hasEnded || SchemaValidator.Error(schema, Encoding.UTF8.GetString(bytes)) is null);
            }
        });
    }

    [Fact]
    public void A_grammar_that_nobody_has_any_more_is_not_kept_by_its_masks()
    {
        WeakReference term = Answer();
        for (int i = 0; i < 10 && term.IsAlive; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        Assert.False(term.IsAlive);

        [MethodImpl(MethodImplOptions.NoInlining)]
        static WeakReference Answer()
        {
            Term? term = null;
            Grammar grammar = GrammarCache.New(store => JsonNodes.Of(term = store.Literal("nobody else writes this")));
            TokenMask mask = new(grammar, RandomAnswers.OverNano.Tokenizer, [], ThinkingPart.None);
            mask.Apply(new float[RandomAnswers.OverNano.Tokenizer.VocabularySize]);
            return new WeakReference(term);
        }
    }

    [Fact]
    public void States_of_one_long_answer_do_not_pile_up()
    {
        Grammar grammar = GrammarCache.New(store => JsonNodes.Of(store.Repeat(store.Literal("a"), 1, 200_000)));
        QwenTokenizer tokenizer = RandomAnswers.OverNano.Tokenizer;
        TokenMask mask = new(grammar, tokenizer, [], ThinkingPart.None);
        int a = Assert.Single(tokenizer.Encode("a"));
        for (int i = 0; i < 60_000; i++)
        {
            Assert.True(mask.Accept(a));
        }

        Assert.True(grammar.Store.Count > 50_000);
        mask.Apply(new float[tokenizer.VocabularySize]);
        Assert.InRange(grammar.Store.Count, 1, 10_000);
        Assert.True(mask.Accept(a));
        Assert.False(mask.Accept(Assert.Single(tokenizer.Encode("b"))));
    }

    /// <summary>Characters of which no two follow each other in Unicode.</summary>
    private static string Apart(int count, int from) => string.Concat(Enumerable.Range(0, count).Select(i => (char)(0x3400 + from + (2 * i))));

    private static string Object(int properties, Func<int, string> schema) =>
        "{\"properties\": {" + string.Join(',', Enumerable.Range(0, properties).Select(i => $"\"p{i}\": {schema(i)}")) + "}}";

    private static void Change(JsonNode node, Random random, string[] pieces)
    {
        if (node is JsonObject map && map.Count > 0)
        {
            string key = map.ElementAt(random.Next(map.Count)).Key;
            if (random.Next(3) == 0 || map[key] is null or JsonValue)
            {
                map[key] = pieces[random.Next(pieces.Length)] is var piece && piece.Length > 1 && piece[0] != '\\' ? JsonNode.Parse(piece) : random.Next(3);
            }
            else
            {
                Change(map[key]!, random, pieces);
            }
        }
        else if (node is JsonArray { Count: > 0 } list)
        {
            int at = random.Next(list.Count);
            if (list[at] is JsonObject or JsonArray)
            {
                Change(list[at]!, random, pieces);
            }
            else
            {
                list[at] = random.Next(5);
            }
        }
    }
}
