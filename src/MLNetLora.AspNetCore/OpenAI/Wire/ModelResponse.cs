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

/// <summary>An answer that is an error.</summary>
internal sealed record ErrorResponse(ErrorBody Error)
{
    public ErrorResponse(ApiError error)
        : this(new ErrorBody(error.Message, error.Type, error.Param, error.Code))
    {
    }
}

/// <summary>The error.</summary>
internal sealed record ErrorBody(
    string Message,
    string Type,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.Never)] string? Param,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.Never)] string? Code);
