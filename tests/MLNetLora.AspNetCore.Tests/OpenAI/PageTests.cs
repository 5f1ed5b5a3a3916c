using System.Security.Cryptography;
using System.Text;

namespace MLNetLora.AspNetCore.Tests.OpenAI;

/// <summary>The page, as far as it can be looked at without a browser.</summary>
public class PageTests(OpenAIServer server) : IClassFixture<OpenAIServer>
{
    [Fact]
    public async Task The_page_allows_itself_alone()
    {
        using HttpResponseMessage response = await server.Http.GetAsync(new Uri("/", UriKind.Relative));
        string page = await response.Content.ReadAsStringAsync();
        string policy = response.Headers.GetValues("Content-Security-Policy").Single();
        Assert.Equal("text/html", response.Content.Headers.ContentType?.MediaType);
        Assert.StartsWith("default-src 'none';", policy, StringComparison.Ordinal);
        Assert.DoesNotContain("unsafe", policy, StringComparison.Ordinal);
        foreach (string element in new[] { "script", "style" })
        {
            string content = page.Split($"<{element}>")[1].Split($"</{element}>")[0];
            string hash = Convert.ToBase64String(SHA256.HashData(Encoding.UTF8.GetBytes(content)));
            Assert.Contains($"{element}-src 'sha256-{hash}'", policy, StringComparison.Ordinal);
        }

        Assert.DoesNotContain("http://", page, StringComparison.Ordinal);
        Assert.DoesNotContain("https://", page, StringComparison.Ordinal);
        Assert.DoesNotContain("innerHTML", page, StringComparison.Ordinal);
        Assert.Contains("data-api=\"/v1\"", page, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Its_head_is_as_long_as_itself()
    {
        using HttpRequestMessage request = new(HttpMethod.Head, new Uri("/", UriKind.Relative));
        using HttpResponseMessage head = await server.Http.SendAsync(request);
        Assert.Equal((await server.Http.GetByteArrayAsync(new Uri("/", UriKind.Relative))).Length, head.Content.Headers.ContentLength);
    }
}
