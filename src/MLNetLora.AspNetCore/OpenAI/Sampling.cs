using System.Globalization;
using MLNetLora.Inference;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>Makes options of what a request says about sampling, length and end.</summary>
internal static class Sampling
{
    private const int MostTokens = 1 << 20;
    private const int MostStops = 64;
    private const int MostBiases = 1024;
    private const int LongestStop = 1024;
    private const int LongestSalt = 1024;

    /// <summary>The options of a request; one answer of several has its seed by its number.</summary>
    /// <param name="body">The request.</param>
    /// <param name="maximumTokens">Most tokens of an answer; null for as many as fit into the model's context.</param>
    /// <exception cref="ApiException">A value cannot be.</exception>
    public static GenerationOptions Options(GenerationRequestBody body, int? maximumTokens)
    {
        Field.Between("min_tokens", body.MinTokens, 0, maximumTokens ?? MostTokens);
        return new GenerationOptions
        {
            MaximumNewTokens = maximumTokens ?? MostTokens, // a generation ends where the context does
            MinimumNewTokens = body.MinTokens ?? 0,
            Temperature = (float?)Field.Between("temperature", body.Temperature, 0, 2),
            TopP = TopP(Field.Between("top_p", body.TopP, 0, 1)),
            TopK = TopK(Field.Between("top_k", body.TopK, -1, int.MaxValue)),
            MinP = (float?)Field.Between("min_p", body.MinP, 0, 1),
            RepetitionPenalty = (float?)Field.Between("repetition_penalty", body.RepetitionPenalty, 0.01, 100),
            PresencePenalty = (float)(Field.Between("presence_penalty", body.PresencePenalty, -2, 2) ?? 0),
            FrequencyPenalty = (float)(Field.Between("frequency_penalty", body.FrequencyPenalty, -2, 2) ?? 0),
            LogitBias = Biases(body.LogitBias ?? []),
            Seed = Seed(body.Seed),
            StopStrings = Stops(body.Stop ?? []),
            StopTokenIds = StopTokens(body.StopTokenIds ?? []),
            IgnoreEndOfText = body.IgnoreEos ?? false,
            BatchSize = 1,
            UsesPrefixCache = body.CachePrompt ?? true,
            CacheSalt = Salt(body.CacheSalt),
        };
    }

    /// <summary>Throws where tokens are none of a model's.</summary>
    /// <param name="options">The options of a request.</param>
    /// <param name="generator">The model.</param>
    /// <exception cref="ApiException">They are not.</exception>
    public static void RequireTokens(GenerationOptions options, TextGenerator generator)
    {
        int last = generator.Checkpoint.Config.VocabSize - 1;
        RequireTokens("logit_bias", options.LogitBias.Keys, last);
        RequireTokens("stop_token_ids", options.StopTokenIds, last);
    }

    /// <summary>Throws where tokens are none of a model's.</summary>
    /// <param name="name">The field.</param>
    /// <param name="ids">The tokens.</param>
    /// <param name="last">The model's last one.</param>
    public static void RequireTokens(string name, IEnumerable<int> ids, int last)
    {
        foreach (int id in ids)
        {
            Field.Require(
                id >= 0 && id <= last, name, string.Create(CultureInfo.InvariantCulture, $"'{name}' has the token {id}; the model's are from 0 to {last}."));
        }
    }

    /// <summary>Most tokens of an answer, of the fields that say it.</summary>
    /// <exception cref="ApiException">It is out of range, or they say two things.</exception>
    public static int? MaximumTokens(int? maxTokens, int? maxCompletionTokens, int least = 1)
    {
        Field.Between("max_tokens", maxTokens, least, MostTokens);
        Field.Between("max_completion_tokens", maxCompletionTokens, least, MostTokens);
        Field.Require(
            maxTokens is null || maxCompletionTokens is null || maxTokens == maxCompletionTokens,
            "max_tokens",
            "'max_tokens' and 'max_completion_tokens' mean the same and differ; give one of them.");
        return maxCompletionTokens ?? maxTokens;
    }

    /// <summary>The seed of one of several answers: not the same for all, and the same each time.</summary>
    public static GenerationOptions ForChoice(GenerationOptions options, int choice)
    {
        if (choice == 0 || options.Seed is not { } seed)
        {
            return options;
        }

        GenerationOptions copy = options.Copy();
        copy.Seed = unchecked(seed + choice);
        return copy;
    }

    /// <summary>The least probability of 0 leaves the likeliest token alone, as it does with OpenAI.</summary>
    private static float? TopP(double? value) => value is { } p ? Math.Max((float)p, float.Epsilon) : null;

    /// <summary>-1 is off with vLLM, 0 with others.</summary>
    private static int? TopK(int? value) => value is { } k ? Math.Max(k, 0) : null;

    /// <summary>OpenAI's seeds have 64 bits.</summary>
    private static int? Seed(long? value) => value is { } seed ? (int)seed == seed ? (int)seed : unchecked((int)(seed ^ (seed >> 32))) : null;

    private static string? Salt(string? salt)
    {
        string wrong = string.Create(CultureInfo.InvariantCulture, $"'cache_salt' must have 1 to {LongestSalt} characters.");
        Field.Require(salt is null or { Length: > 0 and <= LongestSalt }, "cache_salt", wrong);
        return salt;
    }

    private static Dictionary<int, float> Biases(Dictionary<string, double> given)
    {
        const string name = "logit_bias";
        Field.Require(
            given.Count <= MostBiases, name, string.Create(CultureInfo.InvariantCulture, $"'{name}' has {given.Count} tokens; at most {MostBiases}."));
        Dictionary<int, float> biases = [];
        foreach ((string key, double bias) in given)
        {
            Field.Require(
                int.TryParse(key, NumberStyles.None, CultureInfo.InvariantCulture, out int id),
                name,
                $"'{name}' has '{ApiError.Shown(key)}', which is not the id of a token.");
            Field.Between($"{name}.{key}", (double?)bias, -100, 100);
            Field.Require(biases.TryAdd(id, (float)bias), name, string.Create(CultureInfo.InvariantCulture, $"'{name}' has the token {id} twice."));
        }

        return biases;
    }

    private static IReadOnlyList<int> StopTokens(IReadOnlyList<int> ids)
    {
        const string name = "stop_token_ids";
        Field.Require(ids.Count <= MostStops, name, string.Create(CultureInfo.InvariantCulture, $"'{name}' has {ids.Count} tokens; at most {MostStops}."));
        return ids;
    }

    private static IReadOnlyList<string> Stops(IReadOnlyList<string> stops)
    {
        Field.Require(stops.Count <= MostStops, "stop", string.Create(CultureInfo.InvariantCulture, $"'stop' has {stops.Count} strings; at most {MostStops}."));
        Field.Require(stops.All(stop => stop.Length > 0), "stop", "'stop' has an empty string, which would end every answer at once.");
        Field.Require(
            stops.All(stop => stop.Length <= LongestStop),
            "stop",
            string.Create(CultureInfo.InvariantCulture, $"'stop' has a string of more than {LongestStop} characters."));
        return stops;
    }
}
