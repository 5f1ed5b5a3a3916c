using System.Text;
using MLNetLora.Inference;

namespace MLNetLora.Tests.Inference.Constraints;

public sealed class JsonSchemaTests
{
    [Theory]
    [InlineData("""{"type": "string"}""", "\"a\\u00e9\"", "1", "null")]
    [InlineData("""{"type": ["string", "null"]}""", "null", "1")]
    [InlineData("""{"type": "integer"}""", "-12", "1.5", "1e2", "01")]
    [InlineData("""{"type": "number"}""", "-1.25e-3", ".5", "\"1\"")]
    [InlineData("""{"type": "boolean"}""", "true", "tru", "1")]
    [InlineData("""{"enum": ["a", 1, null, {"x": [1, 2]}]}""", "{\"x\": [1,2]}", "2", "\"b\"", "{\"x\": [1]}")]
    [InlineData("""{"const": "a\"b"}""", "\"a\\\"b\"", "\"a\"")]
    [InlineData("""{"enum": ["a", "bbb", 5, true], "type": ["string", "integer"], "maxLength": 2}""", "5", "\"bbb\"", "true")]
    [InlineData("""{"properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["b"]}""",
        "{\"a\": 1, \"b\": \"\"}", "{\"a\": 1}", "{\"b\": \"\", \"a\": 1}", "{\"b\": \"\", \"c\": 1}", "[]", "{}")]
    [InlineData("""{"properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "boolean"}}""",
        "{\"a\": 1, \"b\": true, \"aa\": false}", "{\"b\": true, \"a\": true}", "{\"b\": 1}", "{\"a\": 1, \"a\": true}", "{\"b\": true, \"\\u0061\": true}")]
    [InlineData("""{"type": "object", "additionalProperties": false}""", "{}", "{\"a\": 1}")]
    [InlineData("""{"type": "object", "required": ["x"]}""", "{\"x\": [null]}", "{}", "{\"y\": 1}")]
    [InlineData("""{"items": {"type": "integer"}, "minItems": 1, "maxItems": 3}""", "[1, 2, 3]", "[]", "[1,2,3,4]", "[\"\"]")]
    [InlineData("""{"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]}""", "[1, \"\"]", "[1, \"\", 2]", "[\"\"]")]
    [InlineData("""{"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]}""", "[]")]
    [InlineData("""{"type": "array", "prefixItems": [{"type": "integer"}, true], "items": {"type": "null"}, "minItems": 2, "maxItems": 4}""",
        "[1, {}, null, null]", "[1]", "[1, 2, 3]", "[1,2,null,null,null]")]
    [InlineData("""{"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "integer"}], "additionalItems": false}""", "[1]", "[1, 2]")]
    [InlineData("""{"minLength": 2, "maxLength": 3}""", "\"😀\\uD83D\\uDE00\\n\"", "\"a\"", "\"abcd\"", "\"\\u0061\"")]
    [InlineData("""{"pattern": "^a[0-9]+$"}""", "\"a12\"", "\"a\"", "\"ba1\"")]
    [InlineData("""{"pattern": "b|^c"}""", "\"abx\"", "\"ac\"", "\"\"")]
    [InlineData("""{"pattern": "^[a-z]+$", "minLength": 2, "maxLength": 3}""", "\"ab\"", "\"a\"", "\"abcd\"", "\"AB\"")]
    [InlineData("""{"pattern": "^(ab|c)*$", "minLength": 3, "maxLength": 3}""", "\"abc\"", "\"ab\"", "\"abcc\"")]
    [InlineData("""{"pattern": "\"\\\\", "maxLength": 4}""", "\"a\\\"\\\\\"", "\"a\"")]
    [InlineData("""{"format": "date"}""", "\"2024-02-29\"", "\"2023-02-29\"", "\"2023-13-01\"")]
    [InlineData("""{"format": "date-time"}""", "\"2026-11-29T12:00:00.5+01:00\"", "\"2026-11-29\"")]
    [InlineData("""{"format": "uuid"}""", "\"01234567-89ab-cdef-0123-456789ABCDEF\"", "\"0123\"")]
    [InlineData("""{"format": "email"}""", "\"a.b@example.org\"", "\"a@\"")]
    [InlineData("""{"format": "ipv4"}""", "\"192.168.0.255\"", "\"256.0.0.1\"")]
    [InlineData("""{"type": "string", "format": "of our own"}""", "\"x\"")]
    [InlineData("""{"type": "integer", "minimum": -5, "maximum": 120}""", "-5", "-6", "121", "1e1")]
    [InlineData("""{"type": "integer", "exclusiveMinimum": 9, "exclusiveMaximum": 101}""", "100", "9", "101")]
    [InlineData("""{"type": "integer", "minimum": 0.5, "maximum": 9007199254740993}""", "9007199254740993", "0", "9007199254740994")]
    [InlineData("""{"type": "integer", "multipleOf": 7, "minimum": 10}""", "21", "7", "22")]
    [InlineData("""{"type": "integer", "multipleOf": 2.5}""", "-15", "12")]
    [InlineData("""{"type": "number", "minimum": 0, "exclusiveMaximum": 1}""", "0.999", "1", "-0.1", "1.0")]
    [InlineData("""{"type": "number", "minimum": -1.25, "maximum": 20.5}""", "-1.25", "-1.26", "20.51", "20.500000000000001")]
    [InlineData("""{"type": "number", "exclusiveMinimum": 0}""", "0.001", "0", "0.000", "-1")]
    [InlineData("""{"type": "number", "multipleOf": 0.01, "minimum": 0}""", "12.34", "12.345")]
    [InlineData("""{"type": "number", "multipleOf": 0.25}""", "-3.75", "0.3")]
    [InlineData("""{"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]}""", "[1]", "\"\"")]
    [InlineData("""
        {"oneOf": [{"properties": {"k": {"const": "a"}, "x": {"type": "integer"}}, "required": ["k", "x"]},
                   {"properties": {"k": {"const": "b"}}, "required": ["k"]}]}
        """,
        "{\"k\": \"a\", \"x\": 1}", "{\"k\": \"a\"}", "{\"k\": \"c\"}")]
    [InlineData("""
        {"allOf": [{"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]},
                   {"properties": {"a": {"minimum": 3}, "b": {"type": "null"}}}]}
        """,
        "{\"a\": 3.5, \"b\": null}", "{\"a\": 2}", "{\"b\": null}")]
    [InlineData("""{"allOf": [{"type": ["string", "integer"]}, {"anyOf": [{"type": "integer"}, {"type": "null"}]}]}""", "1", "null", "\"\"")]
    [InlineData("""{"$ref": "#/$defs/t", "$defs":{"t": {"properties": {"v": {"type": "integer"}, "n": {"items": {"$ref": "#/$defs/t"}}}, "required":["v"]}}}""",
        "{\"v\": 1, \"n\": [{\"v\": 2}, {\"v\": 3, \"n\": []}]}", "{\"n\": []}")]
    [InlineData("""{"properties": {"a": {"$ref": "#x"}, "b": {"$ref": "#/properties/c~1d"}, "c/d": {"$anchor": "x", "type": "null"}}, "required":["a", "b"]}""",
        "{\"a\": null, \"b\": null}", "{\"a\": 1, \"b\": null}")]
    [InlineData("true", "{\"a\": [1]}", "{")]
    [InlineData("""{"anyOf": [false, {"type": "null"}]}""", "null", "1")]
    [InlineData("""{"type": "object", "properties": {"a": {"type": "null"}}, "unevaluatedProperties": false}""", "{\"a\": null}", "{\"b\": 1}")]
    [InlineData("""{"title": "t", "$schema": "https://json-schema.org/draft/2020-12/schema", "default": 1, "examples": [1], "x-own": 1}""", "[1]", "[")]
    public void A_value_is_told_from_what_is_none(string schema, string valid, params string[] invalid)
    {
        OutputConstraint constraint = OutputConstraint.JsonSchema(schema);
        Assert.True(RandomAnswers.OverNano.Allows(constraint, valid), $"{valid} is refused");
        Assert.Null(SchemaValidator.Error(schema, valid));
        foreach (string other in invalid)
        {
            Assert.False(RandomAnswers.OverNano.Allows(constraint, other), $"{other} is taken");
        }
    }

    [Theory]
    [InlineData("{", "#")]
    [InlineData("[]", "#")]
    [InlineData("""{"type": "text"}""", "#/type")]
    [InlineData("""{"properties": {"a": {"not": {}}}}""", "#/properties/a/not")]
    [InlineData("""{"properties": {"a/b": {"type": "array", "uniqueItems": true}}}""", "#/properties/a~1b/uniqueItems")]
    [InlineData("""{"pattern": "(?=a)b"}""", "#/pattern")]
    [InlineData("""{"format": "json-pointer"}""", "#/format")]
    [InlineData("""{"patternProperties": {"a": {}}}""", "#/patternProperties")]
    [InlineData("""{"type": "object", "minProperties": 2}""", "#/minProperties")]
    [InlineData("""{"type": "object", "maxProperties": 2}""", "#/maxProperties")]
    [InlineData("""{"oneOf": [{"type": "integer"}, {"type": "number"}]}""", "#/oneOf")]
    [InlineData("""{"$ref": "https://example.org/x"}""", "#/$ref")]
    [InlineData("""{"$ref": "#/$defs/none"}""", "#/$ref")]
    [InlineData("""{"$ref": "#"}""", "#/$ref")]
    [InlineData("""{"anyOf": [{"$ref": "#"}, {"type": "null"}]}""", "#/$ref")]
    [InlineData("""{"type": "number", "multipleOf": 0.3}""", "#/multipleOf")]
    [InlineData("""{"type": "integer", "multipleOf": 100000000}""", "#/multipleOf")]
    [InlineData("""{"type": "integer", "minimum": "1"}""", "#/minimum")]
    [InlineData("""{"type": "array", "minItems": -1}""", "#/minItems")]
    [InlineData("""{"enum": 1}""", "#/enum")]
    [InlineData("""{"required": ["a"], "additionalProperties": false}""", "#/required")]
    [InlineData("""{"properties": {"a": {"type": "integer", "minimum": 3, "maximum": 2}}, "required": ["a"]}""", "#/properties/a")]
    [InlineData("""{"properties": {"a": {"$ref": "#"}}, "required": ["a"]}""", "#")]
    [InlineData("false", "#")]
    public void What_cannot_be_held_to_is_refused_by_its_place(string schema, string pointer)
    {
        ConstraintException error = Assert.Throws<ConstraintException>(() => OutputConstraint.JsonSchema(schema));
        Assert.Equal(pointer, error.Pointer);
        Assert.StartsWith(pointer + " ", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Random_schemas_and_random_scores_give_values_that_satisfy_them()
    {
        Random random = new(13);
        RandomSchemas schemas = new(random);
        int ended = 0;
        for (int i = 0; i < 1000; i++)
        {
            string schema = schemas.Next();
            OutputConstraint constraint = OutputConstraint.JsonSchema(schema);
            (byte[] bytes, bool hasEnded) = RandomAnswers.OverNano.Write(constraint, random);
            if (hasEnded)
            {
                ended++;
                string value = new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(bytes);
                string? error = SchemaValidator.Error(schema, value);
                Assert.True(error is null, $"{schema}\n{value}\n{error}");
            }
        }

        Assert.InRange(ended, 950, 1000);
    }
}
