using System.Text.Json;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>
/// Fields of requests that are not served. Those that change no answer are taken in the values in which they change none; every other one is an error that
/// names it.
/// </summary>
internal static class OtherFields
{
    private static readonly Predicate<JsonElement> s_any = _ => true;
    private static readonly Predicate<JsonElement> s_null = _ => false; // null is asked before
    private static readonly Predicate<JsonElement> s_false = value => value.ValueKind == JsonValueKind.False;
    private static readonly Predicate<JsonElement> s_true = value => value.ValueKind == JsonValueKind.True;
    private static readonly Predicate<JsonElement> s_one = value => value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double one) && one == 1;
    private static readonly Predicate<JsonElement> s_empty = value =>
        (value.ValueKind == JsonValueKind.Array && value.GetArrayLength() == 0) || Is(value, "");

    /// <summary>By the field's name: in which values it changes nothing here.</summary>
    private static readonly Dictionary<string, Predicate<JsonElement>> s_request = new()
    {
        // Who asks and how the asker keeps his books.
        ["user"] = s_any,
        ["metadata"] = s_any,
        ["safety_identifier"] = s_any,
        ["prompt_cache_key"] = s_any,
        ["prompt_cache_retention"] = s_any,
        ["store"] = s_false,
        ["service_tier"] = value => Is(value, "auto") || Is(value, "default"),

        // Other kinds of answers.
        ["modalities"] = value => value.ValueKind == JsonValueKind.Array && value.GetArrayLength() == 1 && Is(value[0], "text"),
        ["audio"] = s_null,
        ["prediction"] = s_null,
        ["web_search_options"] = s_null,
        ["verbosity"] = value => Is(value, "medium"),
        ["functions"] = s_empty,
        ["function_call"] = s_null,
        ["suffix"] = s_empty,
        ["best_of"] = s_one,

        // vLLM's and llama-server's.
        ["use_beam_search"] = s_false,
        ["length_penalty"] = s_one,
        ["skip_special_tokens"] = s_true,
        ["spaces_between_special_tokens"] = s_any, // special tokens are not written
        ["include_stop_str_in_output"] = s_false,
        ["add_special_tokens"] = s_false,
        ["documents"] = s_empty,
        ["priority"] = value => value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double zero) && zero == 0,
    };

    private static readonly Dictionary<string, Predicate<JsonElement>> s_message = new()
    {
        // What clients send back of an answer that they got.
        ["refusal"] = s_null,
        ["annotations"] = s_any,
        ["audio"] = s_null,
        ["function_call"] = s_null,
    };

    private static readonly Dictionary<string, Predicate<JsonElement>> s_streamOptions = new()
    {
        ["include_obfuscation"] = s_false,
        ["continuous_usage_stats"] = s_false,
    };

    private static readonly Dictionary<string, Predicate<JsonElement>> s_none = [];

    /// <summary>The fields of a request that are known, and not served.</summary>
    public static IEnumerable<string> OfRequests => s_request.Keys;

    /// <summary>Looks at the fields that an object of a request has besides those that are served.</summary>
    /// <param name="given">The object.</param>
    /// <param name="where">Where it stands in the request, with a dot behind; empty for the request itself.</param>
    /// <param name="ignoreUnknown">Whether fields that nobody knows are passed over.</param>
    /// <exception cref="ApiException">A field is not known, or has a meaning that is not served.</exception>
    public static void Require(WireObject given, string where, bool ignoreUnknown)
    {
        Dictionary<string, Predicate<JsonElement>> known = given switch
        {
            GenerationRequestBody => s_request,
            ChatRequestMessage => s_message,
            StreamOptions => s_streamOptions,
            _ => s_none,
        };
        foreach ((string name, JsonElement value) in given.Others ?? [])
        {
            string field = ApiError.Shown(where + name);
            if (!known.TryGetValue(name, out Predicate<JsonElement>? changesNothing))
            {
                if (!ignoreUnknown)
                {
                    throw new ApiException(ApiError.Unknown(field));
                }
            }
            else if (value.ValueKind != JsonValueKind.Null && !changesNothing(value))
            {
                throw Field.Unsupported(field, $"'{field}' is not supported here with this value. Take it out.");
            }
        }
    }

    private static bool Is(JsonElement value, string text) => value.ValueKind == JsonValueKind.String && value.ValueEquals(text);
}
