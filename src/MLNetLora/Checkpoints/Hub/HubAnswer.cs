using System.Net;

namespace MLNetLora.Checkpoints;

/// <summary>An answer of a server: its headers, and its body as it comes.</summary>
internal sealed class HubAnswer(HttpResponseMessage response, HubDeadline deadline) : IDisposable
{
    private const int FirstBytes = 16 << 10;

    private Stream? _body;

    public HttpResponseMessage Message => response;

    public HttpStatusCode Status => response.StatusCode;

    public bool IsSuccess => response.IsSuccessStatusCode;

    /// <summary>Where it comes from, after redirects.</summary>
    public required Uri Address { get; set; }

    /// <summary>Where it leads; null where it is no redirect.</summary>
    public string? Redirect => (int)Status is 301 or 302 or 303 or 307 or 308 ? Header("Location") ?? "" : null;

    /// <summary>How many bytes the body has; null where that is not told.</summary>
    public long? Length => response.Content.Headers.ContentLength;

    public string? Header(string name) => HubErrors.Header(response, name);

    /// <summary>Reads some bytes of the body; 0 at its end.</summary>
    /// <exception cref="PassingException">The connection was cut.</exception>
    public async Task<int> ReadAsync(Memory<byte> buffer)
    {
        _body ??= await deadline.RunAsync(token => new ValueTask<Stream>(response.Content.ReadAsStreamAsync(token))).ConfigureAwait(false);
        return await deadline.RunAsync(token => _body.ReadAsync(buffer, token)).ConfigureAwait(false);
    }

    /// <summary>Reads the whole body; null where it has more than so many bytes.</summary>
    public async Task<byte[]?> ReadAllAsync(int mostBytes, CancellationToken cancellation)
    {
        if (Length > mostBytes)
        {
            return null;
        }

        byte[] bytes = new byte[FirstBytes];
        int count = 0;
        for (int read; (read = await ReadAsync(bytes.AsMemory(count)).ConfigureAwait(false)) > 0;)
        {
            cancellation.ThrowIfCancellationRequested();
            count += read;
            if (count > mostBytes)
            {
                return null;
            }

            if (count == bytes.Length)
            {
                Array.Resize(ref bytes, (int)Math.Min(2L * bytes.Length, mostBytes + 1L));
            }
        }

        Array.Resize(ref bytes, count);
        return bytes;
    }

    public void Dispose()
    {
        _body?.Dispose();
        response.Dispose();
        deadline.Dispose();
    }
}
