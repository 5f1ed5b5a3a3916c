using System.Net;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using MLNetLora.AspNetCore.OpenAI;

namespace Microsoft.AspNetCore.Builder;

/// <summary>Maps a page to try the served models with.</summary>
public static class ChatPage
{
    private const string Resource = "MLNetLora.AspNetCore.OpenAI.Page.chat.html";

    /// <summary>
    /// Maps a page for a browser: a chat with any of the models, with system message, temperature, length and API key, which shows tokens per second. It is one
    /// file that loads nothing from elsewhere, and asks the endpoints of <see cref="OpenAIEndpoints.MapOpenAI"/>. Everybody may see the page; what it asks
    /// needs a key where the endpoints need one.
    /// </summary>
    /// <param name="endpoints">Where it is mapped.</param>
    /// <param name="pattern">Its path.</param>
    /// <param name="apiPath">The path of the endpoints, as the browser sees it behind the application's own path base.</param>
    /// <returns>What conventions can be added to.</returns>
    public static IEndpointConventionBuilder MapMLNetLoraPage(this IEndpointRouteBuilder endpoints, string pattern = "/", string apiPath = "/v1")
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        ArgumentNullException.ThrowIfNull(pattern);
        ArgumentNullException.ThrowIfNull(apiPath);
        string page = Read();
        string policy = $"default-src 'none'; script-src {Hash(page, "script")}; style-src {Hash(page, "style")}; connect-src 'self'; img-src data:; "
            + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
        return endpoints.MapMethods(pattern, [HttpMethods.Get, HttpMethods.Head], context =>
        {
            string api = WebUtility.HtmlEncode($"{context.Request.PathBase}{apiPath.TrimEnd('/')}");
            byte[] body = Encoding.UTF8.GetBytes(page.Replace("data-api=\"\"", $"data-api=\"{api}\"", StringComparison.Ordinal));
            HttpResponse response = context.Response;
            response.ContentType = "text/html; charset=utf-8";
            response.ContentLength = body.Length;
            response.Headers.ContentSecurityPolicy = policy;
            response.Headers.XContentTypeOptions = "nosniff";
            response.Headers.CacheControl = "no-cache";
            response.Headers["Referrer-Policy"] = "no-referrer";
            return HttpMethods.IsHead(context.Request.Method) ? Task.CompletedTask : response.Body.WriteAsync(body, context.RequestAborted).AsTask();
        });
    }

    private static string Read()
    {
        using Stream stream = typeof(ApiCall).Assembly.GetManifestResourceStream(Resource)
            ?? throw new InvalidOperationException($"{Resource} is not in the assembly.");
        using StreamReader reader = new(stream, Encoding.UTF8);
        return reader.ReadToEnd().ReplaceLineEndings("\n"); // what a browser makes of it, and its hash
    }

    /// <summary>What the browser may run: the element of the page, and nothing that somebody got in.</summary>
    private static string Hash(string page, string element)
    {
        int start = page.IndexOf($"<{element}>", StringComparison.Ordinal) + element.Length + 2;
        int end = page.IndexOf($"</{element}>", start, StringComparison.Ordinal);
        return $"'sha256-{Convert.ToBase64String(SHA256.HashData(Encoding.UTF8.GetBytes(page[start..end])))}'";
    }
}
