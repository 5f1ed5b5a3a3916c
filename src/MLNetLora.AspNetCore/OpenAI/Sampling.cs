using System.Globalization;
using MLNetLora.Inference;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>Makes options of what a request says about sampling, length and end.</summary>
internal static class Sampling
{
    private const int MostTokens = 1 << 20;
    private const int MostStops = 64;
    private const int LongestStop = 1024;

    /// <summary>The options of a request; one answer of several has its seed by its number.</summary>
    /// <param name="body">The request.</param>
    /// <param name="maximumTokens">Most tokens of an answer; null for as many as fit into the model's context.</param>
    /// <exception cref="ApiException">A value cannot be.</exception>
    public static GenerationOptions Options(GenerationRequestBody body, int? maximumTokens)
    {
        GenerationOptions options = new()
        {
            MaximumNewTokens = maximumTokens ?? MostTokens, // a generation ends where the context does
            Temperature = (float?)Field.Between("temperature", body.Temperature, 0, 2),
            TopP = TopP(Field.Between("top_p", body.TopP, 0, 1)),
            TopK = TopK(Field.Between("top_k", body.TopK, -1, int.MaxValue)),
            RepetitionPenalty = (float?)Field.Between("repetition_penalty", body.RepetitionPenalty, 0.01, 100),
            Seed = Seed(body.Seed),
            StopStrings = Stops(body.Stop ?? []),
            BatchSize = 1,
        };
        return options;
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
