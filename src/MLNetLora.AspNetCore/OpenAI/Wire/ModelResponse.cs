using System.Text.Json.Serialization;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>An answer to GET /v1/models.</summary>
internal sealed record ModelList(IReadOnlyList<ModelCard> Data)
{
    public string Object { get; } = "list";
}

/// <summary>A served model. An adapter has its base as parent, as with vLLM.</summary>
internal sealed record ModelCard(
    string Id, long Created, string Root, [property: JsonIgnore(Condition = JsonIgnoreCondition.Never)] string? Parent)
{
    public string Object { get; } = "model";

    public string OwnedBy { get; } = "mlnetlora";

    /// <summary>Tokens of the prompt and the answer together.</summary>
    public int? MaxModelLen { get; init; }
}
