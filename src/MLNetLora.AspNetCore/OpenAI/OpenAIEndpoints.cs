using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using MLNetLora.AspNetCore;
using MLNetLora.AspNetCore.OpenAI;

namespace Microsoft.AspNetCore.Builder;

/// <summary>Maps endpoints that answer as OpenAI's do.</summary>
public static class OpenAIEndpoints
{
    /// <summary>
    /// Maps POST /v1/chat/completions, POST /v1/completions, GET /v1/models and GET /v1/models/{id}: what clients of OpenAI's API ask. The model of a request
    /// is the name of a served base or adapter. Any other path under /v1 that nothing else is mapped to is an error 404 in OpenAI's form.
    /// </summary>
    /// <param name="endpoints">Where they are mapped: an application, or a group with a prefix.</param>
    /// <param name="configure">Changes the options.</param>
    /// <returns>What conventions can be added to for all of them, such as RequireAuthorization.</returns>
    /// <exception cref="MLNetLora.OptionException">An option makes no sense.</exception>
    public static IEndpointConventionBuilder MapOpenAI(this IEndpointRouteBuilder endpoints, Action<OpenAIEndpointOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        OpenAIEndpointOptions options = new();
        configure?.Invoke(options);
        options.Validate();
        RouteGroupBuilder group = endpoints.MapGroup("/v1");
        group.MapPost("/chat/completions", ApiCall.Handler(options, ChatCompletions.HandleAsync)).WithServing(EndpointKind.Generation);
        group.MapPost("/completions", ApiCall.Handler(options, Completions.HandleAsync)).WithServing(EndpointKind.Generation);
        group.MapGet("/models", ApiCall.Handler(options, ModelCards.ListAsync)).WithServing(EndpointKind.Information);
        // Names may have slashes, as on the Hub.
        group.MapGet("/models/{**id}", ApiCall.Handler(options, ModelCards.OneAsync)).WithServing(EndpointKind.Information);
        group.Map("/{**path}", ApiCall.Handler(options, NotFound)).WithServing(EndpointKind.Information);
        return group;
    }

    private static Task NotFound(ApiCall call) => throw new ApiException(
        ServingError.Invalid($"There is no {call.Context.Request.Method} {ApiError.Shown(call.Context.Request.Path.Value ?? "")} here.", null, "unknown_url")
            with
        { Status = StatusCodes.Status404NotFound });
}
