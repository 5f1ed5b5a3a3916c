using System.Text.Json;
using System.Text.Json.Serialization;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>An object of a request. Fields that it does not name are kept, so that they can be refused by name.</summary>
internal abstract class WireObject
{
    /// <summary>Fields that nobody names here.</summary>
    [JsonExtensionData]
    public Dictionary<string, JsonElement>? Others { get; set; }
}

/// <summary>What requests for an answer have in common: the model, how it samples, when it ends. Null is not given.</summary>
internal abstract class GenerationRequestBody : WireObject
{
    public string? Model { get; set; }

    public int? N { get; set; }

    public bool? Stream { get; set; }

    public StreamOptions? StreamOptions { get; set; }

    public int? MaxTokens { get; set; }

    public double? Temperature { get; set; }

    public double? TopP { get; set; }

    public double? FrequencyPenalty { get; set; }

    public double? PresencePenalty { get; set; }

    public Dictionary<string, double>? LogitBias { get; set; }

    public long? Seed { get; set; }

    [JsonConverter(typeof(StopConverter))]
    public IReadOnlyList<string>? Stop { get; set; }

    // What vLLM and llama-server have besides.

    public int? TopK { get; set; }

    public double? MinP { get; set; }

    public double? RepetitionPenalty { get; set; }

    public int? MinTokens { get; set; }

    public IReadOnlyList<int>? StopTokenIds { get; set; }

    public bool? IgnoreEos { get; set; }

    public bool? CachePrompt { get; set; }

    public string? CacheSalt { get; set; }
}

/// <summary>How a stream is written.</summary>
internal sealed class StreamOptions : WireObject
{
    public bool? IncludeUsage { get; set; }
}
