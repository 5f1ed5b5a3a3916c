using Microsoft.AspNetCore.Http;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>GET /v1/models and GET /v1/models/{id}.</summary>
internal static class ModelCards
{
    /// <summary>Answers with all models.</summary>
    public static Task ListAsync(ApiCall call) =>
        call.WriteAsync(new ModelList([.. call.Models.Models.Select(model => Card(call, model))]), WireJson.Instance.ModelList);

    /// <summary>Answers with one.</summary>
    public static Task OneAsync(ApiCall call)
    {
        string id = call.Context.Request.RouteValues["id"] as string ?? "";
        ServedModel model = call.Models.Models.FirstOrDefault(model => model.Name == id) ?? throw new ApiException(ApiError.ModelNotFound(id));
        return call.WriteAsync(Card(call, model), WireJson.Instance.ModelCard);
    }

    private static ModelCard Card(ApiCall call, ServedModel model)
    {
        using ModelLease? lease = call.Models.Lease(model.Name); // none where it has been unloaded just now
        return new ModelCard(model.Name, model.Created.ToUnixTimeSeconds(), model.Parent ?? model.Name, model.Parent)
        {
            MaxModelLen = lease?.Generator.Checkpoint.Config.ContextLength,
        };
    }
}
