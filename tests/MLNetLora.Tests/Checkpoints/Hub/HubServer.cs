using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace MLNetLora.Tests.Checkpoints;

/// <summary>A request as it came over the wire.</summary>
internal sealed record HubRequest(string Method, string Target, IReadOnlyDictionary<string, string> Headers)
{
    /// <summary>The file's name, or what else stands last in the path.</summary>
    public string Name => Uri.UnescapeDataString(Target.Split('?')[0].Split('/')[^1]);

    public string? Header(string name) => Headers.GetValueOrDefault(name);

    /// <summary>First and last byte that are asked for; the last one may be open.</summary>
    public (long From, long? To)? Range => Header("Range") is { } range && range.StartsWith("bytes=", StringComparison.Ordinal)
        && range["bytes=".Length..].Split('-') is [string from, string to]
        ? (long.Parse(from, CultureInfo.InvariantCulture), to.Length == 0 ? null : long.Parse(to, CultureInfo.InvariantCulture))
        : null;
}

/// <summary>An answer, and how it goes wrong.</summary>
internal sealed class HubReply(int status, byte[] body)
{
    public HubReply(int status, string body = "")
        : this(status, Encoding.UTF8.GetBytes(body))
    {
    }

    public int Status => status;

    public byte[] Body => body;

    public Dictionary<string, string> Headers { get; init; } = [];

    /// <summary>The Content-Length that is claimed; null for the right one, -1 for none and a connection that ends with the body.</summary>
    public long? ClaimedLength { get; init; }

    /// <summary>After how many bytes of the body the connection is cut; null for never.</summary>
    public int? CutAfter { get; init; }

    /// <summary>Awaited before each block of the body.</summary>
    public Func<Task>? BeforeBlock { get; init; }
}

/// <summary>A server on loopback that does what it is told, also what no server should: raw sockets, so that lengths may lie and connections break.</summary>
internal sealed class HubServer : IDisposable
{
    private const int BlockBytes = 16 << 10;

    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _stop = new();
    private readonly Func<HubRequest, HubReply> _answer;

    public HubServer(Func<HubRequest, HubReply> answer)
    {
        _answer = answer;
        _listener.Start();
        _ = AcceptAsync();
    }

    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    public string Address => FormattableString.Invariant($"http://127.0.0.1:{Port}");

    /// <summary>Everything that was asked, in its order.</summary>
    public ConcurrentQueue<HubRequest> Requests { get; } = [];

    public void Dispose()
    {
        _stop.Cancel();
        _listener.Stop();
        _stop.Dispose();
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                TcpClient client = await _listener.AcceptTcpClientAsync(_stop.Token);
                _ = ServeAsync(client);
            }
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // The test is over.
        }
    }

    private async Task ServeAsync(TcpClient client)
    {
        using (client)
        {
            try
            {
                using NetworkStream stream = client.GetStream();
                using StreamReader reader = new(stream, Encoding.Latin1, false, 1024, leaveOpen: true);
                while (await ReadAsync(reader) is { } request)
                {
                    Requests.Enqueue(request);
                    if (!await WriteAsync(stream, request, _answer(request)))
                    {
                        return;
                    }
                }
            }
            catch (Exception e) when (e is IOException or SocketException or OperationCanceledException or ObjectDisposedException)
            {
                // The client has gone, or the test is over.
            }
        }
    }

    private static async Task<HubRequest?> ReadAsync(StreamReader reader)
    {
        if (await reader.ReadLineAsync() is not { Length: > 0 } first)
        {
            return null;
        }

        Dictionary<string, string> headers = new(StringComparer.OrdinalIgnoreCase);
        while (await reader.ReadLineAsync() is { Length: > 0 } line)
        {
            int colon = line.IndexOf(':', StringComparison.Ordinal);
            headers[line[..colon]] = line[(colon + 1)..].Trim();
        }

        return new HubRequest(first.Split(' ')[0], first.Split(' ')[1], headers);
    }

    /// <returns>Whether the connection stays open.</returns>
    private static async Task<bool> WriteAsync(NetworkStream stream, HubRequest request, HubReply reply)
    {
        StringBuilder head = new();
        head.Append(CultureInfo.InvariantCulture, $"HTTP/1.1 {reply.Status} Status\r\n");
        long length = reply.ClaimedLength ?? reply.Body.Length;
        bool keeps = length >= 0 && reply.CutAfter is null;
        if (length >= 0)
        {
            head.Append(CultureInfo.InvariantCulture, $"Content-Length: {length}\r\n");
        }

        foreach ((string name, string value) in reply.Headers)
        {
            head.Append(CultureInfo.InvariantCulture, $"{name}: {value}\r\n");
        }

        head.Append(keeps ? "\r\n" : "Connection: close\r\n\r\n");
        await stream.WriteAsync(Encoding.Latin1.GetBytes(head.ToString()));
        int bytes = request.Method == "HEAD" ? 0 : Math.Min(reply.Body.Length, reply.CutAfter ?? int.MaxValue);
        for (int at = 0; at < bytes; at += BlockBytes)
        {
            if (reply.BeforeBlock is not null)
            {
                await reply.BeforeBlock();
            }

            await stream.WriteAsync(reply.Body.AsMemory(at, Math.Min(BlockBytes, bytes - at)));
        }

        return keeps;
    }
}
