using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using MLNetLora;
using MLNetLora.AspNetCore;
using MLNetLora.AspNetCore.OpenAI;
using MLNetLora.Inference;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace Microsoft.AspNetCore.Builder;

/// <summary>A model zip behind an endpoint, as the web template of ML.NET Model Builder has it.</summary>
public static class PredictEndpoints
{
    /// <summary>
    /// Maps POST pattern: a row in, called as the model's columns ({"instruction": "…", "input": "…"}), and its answer out: {"answer", "finishReason",
    /// "promptTokens", "newTokens"}, and "thinking" where the model has thought. "answer" is called as the model's answer column. Keys, limits and errors are
    /// those of the other endpoints.
    /// </summary>
    /// <param name="endpoints">The application.</param>
    /// <param name="pattern">The route.</param>
    /// <param name="name">Which file of AddMLNetLoraModelFile; null for the first.</param>
    /// <returns>What conventions can be added to.</returns>
    public static IEndpointConventionBuilder MapPredict(this IEndpointRouteBuilder endpoints, string pattern = "/predict", string? name = null)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        ArgumentNullException.ThrowIfNull(pattern);
        IServiceProvider services = endpoints.ServiceProvider;
        ServedModelFile file = (name is null ? services.GetService<ServedModelFile>() : services.GetKeyedService<ServedModelFile>(name))
            ?? throw new InvalidOperationException($"No model file '{name ?? "default"}' was registered: call AddMLNetLoraModelFile before Build.");
        return endpoints.MapPost(pattern, context => AnswerAsync(context, file)).WithServing(EndpointKind.Generation);
    }

    private static async Task AnswerAsync(HttpContext context, ServedModelFile file)
    {
        ServingRequest request = context.Serving();
        request.Asked("text_completion", ((IServedComponent)file).Name);
        if (RequestBody.Refusal(context.Request) is { } unread)
        {
            await unread.WriteAsync(context).ConfigureAwait(false);
            return;
        }

        JsonDocument body;
        try
        {
            body = await JsonDocument.ParseAsync(context.Request.Body, default, context.RequestAborted).ConfigureAwait(false);
        }
        catch (JsonException e)
        {
            await ServingError.Invalid($"The body is no JSON: {e.Message}", code: "invalid_body").WriteAsync(context).ConfigureAwait(false);
            return;
        }

        using (body)
        {
            ServingError? error = await file
                .UseAsync(model => AnswerAsync(context, request, body.RootElement, model), context.RequestAborted).ConfigureAwait(false);
            if (error is not null)
            {
                await error.WriteAsync(context).ConfigureAwait(false);
            }
        }
    }

    private static async Task<ServingError?> AnswerAsync(HttpContext context, ServingRequest request, JsonElement body, QwenLoraTransformer model)
    {
        if (PredictRow.Read(body, model.Columns, out TextRow row) is { } wrong)
        {
            return wrong;
        }

        request.Content("prompt", body.GetRawText);
        GenerationOptions generation = model.Generation;
        generation.CacheSalt = request.CacheSalt(null);
        GeneratedText? answer = null;
        try
        {
            await foreach (GeneratedChunk chunk in model.Stream(row, generation, context.RequestAborted).ConfigureAwait(false))
            {
                request.Progress();
                answer = chunk.Answer ?? answer;
            }
        }
        catch (DatasetException e)
        {
            return ServingError.Invalid(e.Message, code: "invalid_value");
        }
        catch (Exception e) when (ApiError.Of(e, null) is not null && !context.RequestAborted.IsCancellationRequested)
        {
            return ApiError.Of(e, null);
        }

        string reason = JsonNamingPolicy.SnakeCaseLower.ConvertName(answer!.Reason.ToString());
        request.Used(answer.PromptTokens, answer.NewTokens, answer.CachedPromptTokens);
        request.Finished(reason);
        request.Content("answer", () => answer.Text);
        Dictionary<string, object> output = new()
        {
            [JsonNamingPolicy.CamelCase.ConvertName(model.Columns.Answer)] = answer.Text,
            ["finishReason"] = reason,
            ["promptTokens"] = answer.PromptTokens,
            ["newTokens"] = answer.NewTokens,
        };
        if (answer.Thinking is { } thinking)
        {
            output["thinking"] = thinking;
        }

        await context.Response.WriteAsJsonAsync(output, context.RequestAborted).ConfigureAwait(false);
        return null;
    }
}
