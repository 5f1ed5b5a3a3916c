using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using MLNetLora.AspNetCore;

namespace Microsoft.AspNetCore.Builder;

/// <summary>Loading and unloading of adapters over HTTP, as vLLM has it.</summary>
public static class AdapterEndpoints
{
    private static readonly JsonSerializerOptions s_json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        AllowDuplicateProperties = false,
        MaxDepth = 8,
    };

    /// <summary>
    /// Maps POST /v1/load_lora_adapter {"lora_name", "lora_path", "load_inplace"} and POST /v1/unload_lora_adapter {"lora_name"} for every model with an
    /// <see cref="ServedModelOptions.AdapterRoot"/>, behind <see cref="ServingOptions.AdminKeys"/>. Without such a key, or such a model, nothing is mapped.
    /// </summary>
    /// <remarks>Where several models have a root, "base_model_name" says which one is meant. What is loaded so is gone when the process ends.</remarks>
    /// <param name="endpoints">The application.</param>
    public static IEndpointRouteBuilder MapMLNetLoraAdapters(this IEndpointRouteBuilder endpoints)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        ServingHost host = ServingServices.Require<ServingHost>(endpoints.ServiceProvider);
        if (endpoints.ServiceProvider.GetRequiredService<ApiKeys>().AllowAdmin && host.Models.Any(model => model.AdapterRoot is not null))
        {
            endpoints.MapPost("/v1/load_lora_adapter", context => AnswerAsync<LoadRequest>(context, host, LoadAsync)).WithServing(EndpointKind.Admin);
            endpoints.MapPost("/v1/unload_lora_adapter", context => AnswerAsync<UnloadRequest>(context, host, UnloadAsync)).WithServing(EndpointKind.Admin);
        }

        return endpoints;
    }

    private static async Task AnswerAsync<T>(
        HttpContext context, ServingHost host, Func<T, ServingHost, CancellationToken, Task<(ServingError?, string)>> answer)
        where T : class
    {
        T? request;
        try
        {
            request = await JsonSerializer.DeserializeAsync<T>(context.Request.Body, s_json, context.RequestAborted).ConfigureAwait(false);
        }
        catch (JsonException e)
        {
            await ServingError.Invalid($"The body is not what is expected here: {e.Message}", e.Path?.TrimStart('$', '.'), "invalid_body")
                .WriteAsync(context).ConfigureAwait(false);
            return;
        }

        (ServingError? error, string text) = request is null
            ? (ServingError.Invalid("The body is null.", code: "invalid_body"), "")
            : await answer(request, host, context.RequestAborted).ConfigureAwait(false);
        if (error is not null)
        {
            await error.WriteAsync(context).ConfigureAwait(false);
            return;
        }

        context.Response.ContentType = "text/plain; charset=utf-8";
        await context.Response.WriteAsync(text, context.RequestAborted).ConfigureAwait(false);
    }

    private static async Task<(ServingError?, string)> LoadAsync(LoadRequest request, ServingHost host, CancellationToken cancellation)
    {
        if (string.IsNullOrEmpty(request.LoraName) || string.IsNullOrEmpty(request.LoraPath))
        {
            string missing = string.IsNullOrEmpty(request.LoraName) ? "lora_name" : "lora_path";
            return (ServingError.Invalid($"{missing} is missing; lora_name and lora_path are needed.", missing, "missing_required_parameter"), "");
        }

        ModelHost[] models = [.. host.Models.Where(model => model.AdapterRoot is not null && (request.BaseModelName ?? model.Name) == model.Name)];
        if (models.Length != 1)
        {
            return (ServingError.Invalid(models.Length == 0
                ? "base_model_name is not a model for which adapters may be loaded."
                : "Adapters may be loaded for several models; say in base_model_name for which.", "base_model_name", "invalid_value"), "");
        }

        if (AdapterFolder.Inside(models[0].AdapterRoot!, request.LoraPath, out string folder) is { } refused)
        {
            return (refused, "");
        }

        AdapterRefusal? refusal = await models[0].Adapters!
            .LoadAsync(request.LoraName, folder, AdapterSource.Request, request.LoadInplace, null, cancellation).ConfigureAwait(false);
        return (refusal?.Error, $"Success: LoRA adapter '{request.LoraName}' added successfully.");
    }

    private static async Task<(ServingError?, string)> UnloadAsync(UnloadRequest request, ServingHost host, CancellationToken cancellation)
    {
        if (string.IsNullOrEmpty(request.LoraName))
        {
            return (ServingError.Invalid("lora_name is missing.", "lora_name", "missing_required_parameter"), "");
        }

        ServingError? error = ServingError.NotFound($"No adapter '{request.LoraName}' is loaded.", "lora_name", "adapter_not_found");
        foreach (ModelHost model in host.Models)
        {
            error = await model.Adapters!.UnloadAsync(request.LoraName, AdapterSource.Request, cancellation).ConfigureAwait(false);
            if (error is not { Status: StatusCodes.Status404NotFound })
            {
                break;
            }
        }

        return (error, $"Success: LoRA adapter '{request.LoraName}' removed successfully.");
    }

    private sealed record LoadRequest(string? LoraName = null, string? LoraPath = null, bool LoadInplace = false, string? BaseModelName = null);

    private sealed record UnloadRequest(string? LoraName = null);
}
